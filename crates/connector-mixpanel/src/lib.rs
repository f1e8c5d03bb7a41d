#![doc = include_str!("../README.md")]

mod classify;
mod config;
mod limits;
mod line;
mod profiles;
mod schema;
mod streams;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeRange;
use pipeline_core::{CheckReport, Connector, Endpoint, Result, declared};

pub use config::{MixpanelConfig, Region};

/// One Mixpanel project. Built by [`MixpanelConfig`].
#[derive(Debug)]
struct Mixpanel {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    /// The same endpoints, asking for one event only: a day can be gigabytes.
    probes: Vec<Endpoint>,
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
}
