#![doc = include_str!("../README.md")]

mod brands;
mod classify;
mod columns;
mod config;
mod events;
mod fields;
mod forget;
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
use futures::stream::BoxStream;
use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::{Availability, CheckReport, Connector, Endpoint, Error, ErrorKind, Origin, Page, Preparation, Result, declared};
use serde::Deserialize;

use crate::brands::Brands;
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
    /// The Help Centers of the account.
    brands: Brands,
    range: TimeRange,
    /// The account, as far as it is known without a request.
    origin: Origin,
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

    /// Learns the custom fields, and which Help Centers there are. What should be known before it breaks is told by every sync.
    async fn prepare(&self, endpoints: &[&str]) -> Result<Preparation> {
        let (known, mut preparation) = fields::learn(&self.client, &self.custom, &self.declared, endpoints).await?;
        self.known.get_or_init(|| known);
        let warnings = self.notes.iter().filter(|(name, _)| name == WARNING);
        preparation.notes.extend(warnings.map(|(_, text)| text.clone()));
        let mut all = self.endpoints().to_vec();
        // What corrects a stream walks the list that says what is to be corrected. To read that for nothing else costs too much
        // to be a surprise.
        all.retain(|endpoint| endpoints.contains(&forget::LIST) || forget::column(endpoint).is_none());
        all.retain(|endpoint| endpoints.contains(&"ticket_events") || endpoint.name() != "rewritten_audits");
        self.other_help_centers(endpoints, &mut all, &mut preparation).await?;
        preparation.endpoints = Some(all);
        preparation.origin = self.origin.clone();
        Ok(preparation)
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        let me = match self.me().await {
            // A brand's host may know nothing of users. What the lists answer says more.
            Err(error) if is_refusal(error.kind()) => Err(error),
            other => Ok(other?),
        };
        let asked: Vec<Endpoint> = self.declared.iter().filter(|endpoint| forget::column(endpoint).is_none()).cloned().collect();
        let mut report = declared::check(&self.client, &asked, endpoints).await?;
        let is_answered = report.endpoints.iter().any(|(_, availability)| *availability == Availability::Available);
        report.facts = match me {
            Ok(me) => vec![("user".to_owned(), me.id.to_string()), ("role".to_owned(), me.role)],
            Err(error) if !is_answered => return Err(error),
            Err(_) => Vec::new(),
        };
        report.facts.extend(self.notes.iter().cloned());
        Ok(report)
    }

    fn read<'a>(&'a self, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
        let tickets = || self.endpoints().iter().find(|endpoint| endpoint.name() == forget::LIST);
        match forget::column(endpoint).zip(tickets()) {
            Some((column, tickets)) => forget::read(&self.client, tickets, column, slice),
            None => self.brands.read(&self.client, endpoint, slice),
        }
    }
}

/// Failures that say that this account has no such thing, or may not show it.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::Unsupported)
}

/// Whose credentials these are.
#[derive(Deserialize)]
struct Me {
    id: i64,
    role: String,
}

impl Zendesk {
    /// Adds the endpoints of the Help Centers that the account's host does not show, when lists of a Help Center are wanted.
    ///
    /// When nobody can tell at the moment which there are, no Help Center is read: what is read whole would lose the rows of
    /// those that are not.
    async fn other_help_centers(&self, wanted: &[&str], all: &mut Vec<Endpoint>, preparation: &mut Preparation) -> Result<()> {
        let is_wanted = |endpoint: &&Endpoint| streams::is_of_help_center(endpoint) && wanted.contains(&endpoint.name());
        let concerned: Vec<String> = all.iter().filter(is_wanted).map(|endpoint| endpoint.name().to_owned()).collect();
        let list = all.iter().find(|endpoint| endpoint.name() == brands::LIST).cloned();
        let Some(list) = list.filter(|_| !concerned.is_empty()) else { return Ok(()) };
        match self.brands.learn(&self.client, &list, wanted).await {
            Ok(others) => {
                all.extend(others.endpoints);
                preparation.notes.extend(others.notes);
            }
            Err(error) if error.kind() == ErrorKind::Unauthenticated => return Err(error),
            Err(error) => {
                let why = || Error::new(error.kind(), format!("the brands of the account cannot be asked for: {error}"));
                preparation.unavailable.extend(concerned.into_iter().map(|name| (name, why())));
            }
        }
        Ok(())
    }

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
