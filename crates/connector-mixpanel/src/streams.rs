//! The endpoints and the streams that they feed.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::slice::{Oldest, Windows};
use pipeline_core::{Deletes, Endpoint, Lines, StreamDef, TimeFormat};
use url::Url;

use crate::limits::{EXPORT, EXPORT_PACE, QUERY, QUERY_PACE};
use crate::profiles::{SessionPages, profile};
use crate::{line, schema};

/// What the configuration says about the endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Sent with every request.
    pub(crate) id: u64,
    /// The view that queries are made in, for projects with data views.
    pub(crate) workspace_id: Option<u64>,
    /// Host of the raw export.
    pub(crate) data: Url,
    /// First day of a first sync.
    pub(crate) oldest: DateTime<Utc>,
    /// Days of one export request.
    pub(crate) window_days: u32,
    /// Days that every sync reads again.
    pub(crate) lookback_days: u32,
    /// Whether the running day is read too.
    pub(crate) include_today: bool,
}

impl Project {
    /// Everything that is read, in the order in which it is worth reading.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        vec![self.export(), self.engage(), self.cohorts()]
    }

    /// The same, asking for as little as possible.
    pub(crate) fn probes(&self) -> Vec<Endpoint> {
        vec![self.export().query("limit", "1"), self.engage(), self.cohorts()]
    }

    /// Event time says nothing about when an event arrived, so days are read again until they are settled. A merge of
    /// users rewrites events in place, hence a key that survives it. No cursor is declared: days that are read again hold
    /// millions of events, which the destination merges by key; remembering each would be a copy of them.
    fn export(&self) -> Endpoint {
        let windows = Windows {
            since: "from_date",
            until: "to_date",
            format: TimeFormat::Date,
            step: Some(TimeDelta::days(self.window_days.into())),
            lag: if self.include_today { TimeDelta::zero() } else { TimeDelta::days(1) },
            lookback: TimeDelta::days(self.lookback_days.into()),
            oldest: Oldest::At(self.oldest),
            newest_first: false,
            partition: None,
        };
        let stream = StreamDef::new("export", schema::event()).primary_key(["event_key"]).map(line::event);
        self.of_project(Endpoint::get("export", "/api/2.0/export"))
            .base(self.data.clone())
            .query("time_in_ms", "true")
            .slices(windows)
            .incremental()
            .ndjson(Lines { check: line::check, malformed: 0 })
            .buckets([EXPORT, EXPORT_PACE])
            .feeds(stream, "")
    }

    /// `$last_seen` misses edits by hand, imports that ignore it, merges and deletions, so every sync reads all profiles.
    fn engage(&self) -> Endpoint {
        let stream = StreamDef::new("engage", schema::profile()).primary_key(["distinct_id"]).deletes(Deletes::BySnapshot).map(profile);
        self.query(Endpoint::post("engage", "/api/query/engage"))
            .paginate(SessionPages)
            .next_page_buckets([QUERY_PACE])
            .feeds(stream, "results")
    }

    /// Members and counts change without a trace, so every sync reads the list.
    fn cohorts(&self) -> Endpoint {
        let stream = StreamDef::new("cohorts", schema::cohort()).primary_key(["id"]).deletes(Deletes::BySnapshot);
        self.query(Endpoint::post("cohorts", "/api/query/cohorts/list")).feeds(stream, "")
    }

    fn query(&self, endpoint: Endpoint) -> Endpoint {
        let endpoint = self.of_project(endpoint).buckets([QUERY, QUERY_PACE]);
        match self.workspace_id {
            Some(id) => endpoint.query("workspace_id", id.to_string()),
            None => endpoint,
        }
    }

    fn of_project(&self, endpoint: Endpoint) -> Endpoint {
        endpoint.query("project_id", self.id.to_string())
    }
}
