#![doc = include_str!("../README.md")]

mod classify;
mod config;
mod export;
mod limits;
mod line;
mod profiles;
mod schema;
mod streams;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::{CheckReport, Connector, Endpoint, Page, RawRecord, Result, declared};

pub use config::{MixpanelConfig, Region};
pub use export::Reread;

use crate::export::{Days, EXPORT};

/// One Mixpanel project. Built by [`MixpanelConfig`].
#[derive(Debug)]
struct Mixpanel {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    /// The same endpoints, asking for one event only: a day can be gigabytes.
    probes: Vec<Endpoint>,
    /// The days that are exported.
    days: Days,
    range: TimeRange,
    /// What the configuration is worth telling before it breaks.
    notes: Vec<(String, String)>,
}

#[async_trait]
impl Connector for Mixpanel {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        let mut report = declared::check(&self.client, &self.probes, endpoints).await?;
        report.facts.clone_from(&self.notes);
        Ok(report)
    }

    fn read<'a>(&'a self, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
        if endpoint.name() != EXPORT {
            return declared::read(&self.client, endpoint, slice);
        }
        let since = export::processed_since(&slice);
        let events = move |page: Page| {
            let rows = |lines: Vec<RawRecord>| {
                // A line that is no event is passed on as it is, to be rejected with its text.
                let rows = lines.into_iter().map(|line| line::event(&line).unwrap_or(line));
                rows.filter(|row| since.is_none_or(|since| export::is_new(row, since))).collect()
            };
            Page { records: page.records.into_iter().map(rows).collect(), ..page }
        };
        export::read(&self.client, endpoint, &self.days, slice).map_ok(events).boxed()
    }
}
