#![doc = include_str!("../README.md")]

mod classify;
mod columns;
mod config;
mod fields;
mod limits;
mod maps;
mod pages;
mod rates;
#[rustfmt::skip] // It is sealed as it is written.
mod schemas;
mod slices;
mod streams;
mod table;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::sync::OnceLock;

use async_trait::async_trait;
use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::slice::TimeRange;
use pipeline_core::{CheckReport, Connector, Endpoint, Error, ErrorKind, Preparation, Result, declared};
use serde::Deserialize;

use crate::fields::Custom;

pub use config::ZendeskConfig;
pub use streams::{BY_KIND, FAMILIES, TALK, is_whole, lists};
pub use table::{Columns, List, Parent, Reads, Rows, Stream, Walk};

/// Name of a note that every sync tells, too.
const WARNING: &str = "warning";

/// One Zendesk account. Built by [`ZendeskConfig`].
#[derive(Debug)]
struct Zendesk {
    client: HttpClient,
    /// The endpoints as far as they are known before the account is asked.
    declared: Vec<Endpoint>,
    /// The endpoints with the columns of custom fields.
    known: OnceLock<Vec<Endpoint>>,
    /// What has custom fields that become columns.
    custom: Vec<Custom>,
    range: TimeRange,
    /// What the configuration is worth telling before it breaks.
    notes: Vec<(String, String)>,
}

#[async_trait]
impl Connector for Zendesk {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        self.known.get().unwrap_or(&self.declared)
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    /// Learns the custom fields. What should be known before it breaks is told by every sync.
    async fn prepare(&self, endpoints: &[&str]) -> Result<Preparation> {
        let (known, mut preparation) = fields::learn(&self.client, &self.custom, &self.declared, endpoints).await?;
        self.known.get_or_init(|| known);
        let warnings = self.notes.iter().filter(|(name, _)| name == WARNING);
        preparation.notes.extend(warnings.map(|(_, text)| text.clone()));
        Ok(preparation)
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        let me = self.me().await?;
        let mut report = declared::check(&self.client, &self.declared, endpoints).await?;
        report.facts = [("user".to_owned(), me.id.to_string()), ("role".to_owned(), me.role)].into();
        report.facts.extend(self.notes.iter().cloned());
        Ok(report)
    }
}

/// Whose credentials these are.
#[derive(Deserialize)]
struct Me {
    id: i64,
    role: String,
}

impl Zendesk {
    async fn me(&self) -> Result<Me> {
        #[derive(Deserialize)]
        struct Answer {
            user: Me,
        }
        let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Decode, "the answer does not say whose credentials these are").with_source(error)
        };
        let url = self.client.base().join("/api/v2/users/me").map_err(|error| damaged(error.into()))?;
        let call = Call { endpoint: "users/me", buckets: &[limits::SUPPORT.into()] };
        let response = self.client.send(&Request::new(Method::GET, url), &call).await?;
        let answer: Answer = serde_json::from_slice(&response.body).map_err(|error| damaged(error.into()))?;
        Ok(answer.user)
    }
}
