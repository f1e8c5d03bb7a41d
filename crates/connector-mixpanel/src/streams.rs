//! The endpoints and the streams that they feed.

use pipeline_core::{Deletes, Endpoint, Lines, StreamDef};
use url::Url;

use crate::export::Days;
use crate::limits::{EXPORT, EXPORT_PACE, EXPORTS_AT_ONCE, QUERY, QUERY_PACE};
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
    /// The days to export.
    pub(crate) days: Days,
    /// Lines of an export that may be no events.
    pub(crate) max_bad_lines: u32,
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
        let stream = StreamDef::new("export", schema::event()).primary_key(["event_key"]);
        self.of_project(Endpoint::get("export", "/api/2.0/export"))
            .base(self.data.clone())
            .query("time_in_ms", "true")
            .slices(self.days.clone())
            .at_most(EXPORTS_AT_ONCE.into())
            .incremental()
            .ndjson(Lines { check: line::check, malformed: self.max_bad_lines })
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
