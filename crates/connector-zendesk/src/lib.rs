#![doc = include_str!("../README.md")]

mod brands;
mod columns;
mod config;
mod errors;
mod events;
mod fields;
mod forget;
mod limits;
mod pages;
mod rates;
mod transform;
#[rustfmt::skip] // It is sealed as it is written.
mod schema;
mod slices;
mod streams;
#[cfg(test)]
mod tests;
mod vendor;
pub mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
pub use config::ZendeskConfig;
use futures::stream::BoxStream;
use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::webhook::{SigningSecrets, WebhookReader};
use pipeline_core::{
    Availability, CheckReport, Connector, Endpoint, Error, ErrorKind, Origin, Page, Plan, Reader,
    Result, Session, declarative,
};
use serde::Deserialize;

use crate::brands::{Brands, HelpCenters};
use crate::fields::Custom;
use crate::webhook::ZendeskHooks;

/// The tables of lists, from which the documentation and the fixtures are written.
#[doc(hidden)]
pub mod tables {
    pub use crate::streams::{BY_KIND, FAMILIES, PARENTS, TALK};
    pub use crate::vendor::{Described, Pages, Slices, Zendesk};
}

/// Name of a note that every sync tells, too.
const WARNING: &str = "warning";

/// One Zendesk account. Built by [`ZendeskConfig`].
#[derive(Debug)]
struct ZendeskConnector {
    client: HttpClient,
    /// The endpoints as far as they are known before the account is asked.
    declared: Vec<Endpoint>,
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

/// One run: what it reads, and whose Help Center the account's host shows.
#[derive(Debug)]
struct Run {
    reader: Reader,
    plan: Plan,
    /// The list that says which tickets were forgotten.
    tickets: Option<Endpoint>,
    /// The brand that the account's host shows, if it was asked for.
    own_brand: Option<String>,
}

#[async_trait]
impl Connector for ZendeskConnector {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.declared
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    fn webhooks(&self, secrets: SigningSecrets) -> Option<Arc<dyn WebhookReader>> {
        Some(Arc::new(ZendeskHooks::new(secrets)))
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        let me = match self.me().await {
            // A brand's host may know nothing of users. What the lists answer says more.
            Err(error) if is_refusal(error.kind()) => Err(error),
            other => Ok(other?),
        };
        let asked: Vec<Endpoint> = self
            .declared
            .iter()
            .filter(|endpoint| forget::column(endpoint).is_none())
            .cloned()
            .collect();
        let mut report = declarative::check(&self.client, &asked, endpoints).await?;
        let is_answered = report
            .endpoints
            .iter()
            .any(|(_, availability)| *availability == Availability::Available);
        report.facts = match me {
            Ok(me) => vec![
                ("user".to_owned(), me.id.to_string()),
                ("role".to_owned(), me.role),
            ],
            Err(error) if !is_answered => return Err(error),
            Err(_) => Vec::new(),
        };
        report.facts.extend(self.notes.iter().cloned());
        Ok(report)
    }

    /// Learns the custom fields, and which Help Centers there are. Every sync repeats the warnings.
    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let reader = Reader::new(self.client.clone());
        let mut plan = fields::learn(&reader, &self.custom, &self.declared, endpoints).await?;
        let warnings = self.notes.iter().filter(|(name, _)| name == WARNING);
        plan.notices.extend(warnings.map(|(_, text)| text.clone()));
        let tickets = plan
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name() == forget::LIST)
            .cloned();
        // What corrects a stream walks the list that says what is to be corrected. To read that for
        // nothing else costs too much to be a surprise.
        plan.endpoints.retain(|endpoint| {
            endpoints.contains(&forget::LIST) || forget::column(endpoint).is_none()
        });
        plan.endpoints.retain(|endpoint| {
            endpoints.contains(&"ticket_events") || endpoint.name() != "rewritten_audits"
        });
        let own_brand = self
            .other_help_centers(&reader, endpoints, &mut plan)
            .await?;
        plan.origin = self.origin.clone();
        Ok(Arc::new(Run {
            reader,
            plan,
            tickets,
            own_brand,
        }))
    }
}

impl Session for Run {
    fn client(&self) -> &HttpClient {
        self.reader.client()
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        match forget::column(endpoint).zip(self.tickets.as_ref()) {
            Some((column, tickets)) => forget::read(&self.reader, tickets, column, slice),
            None => brands::read(&self.reader, endpoint, slice, self.own_brand.as_deref()),
        }
    }
}

/// Failures that say that this account has no such thing, or may not show it.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::Refused
            | ErrorKind::Unsupported
    )
}

/// Whose credentials these are.
#[derive(Deserialize)]
struct Me {
    id: i64,
    role: String,
}

impl ZendeskConnector {
    /// Adds the endpoints of the Help Centers that the account's host does not show, when lists of
    /// a Help Center are wanted. Returns the brand that it shows.
    ///
    /// When the brands cannot be asked for at the moment, no Help Center is read: what is read
    /// whole would lose the rows of those that are not.
    async fn other_help_centers(
        &self,
        reader: &Reader,
        wanted: &[&str],
        plan: &mut Plan,
    ) -> Result<Option<String>> {
        let is_wanted = |endpoint: &&Endpoint| {
            streams::is_of_help_center(endpoint) && wanted.contains(&endpoint.name())
        };
        let concerned: Vec<String> = plan
            .endpoints
            .iter()
            .filter(is_wanted)
            .map(|endpoint| endpoint.name().to_owned())
            .collect();
        let list = plan
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name() == brands::LIST)
            .cloned();
        let Some(list) = list.filter(|_| !concerned.is_empty()) else {
            return Ok(None);
        };
        match self.brands.learn(reader, &list, wanted).await {
            Ok(HelpCenters {
                endpoints,
                notices,
                own,
            }) => {
                plan.endpoints.extend(endpoints);
                plan.notices.extend(notices);
                Ok(own)
            }
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Err(error),
            Err(error) => {
                for name in concerned {
                    plan.skip_endpoint(
                        name,
                        Error::new(
                            error.kind(),
                            format!("the brands of the account cannot be asked for: {error}"),
                        ),
                    );
                }
                Ok(None)
            }
        }
    }

    async fn me(&self) -> Result<Me> {
        #[derive(Deserialize)]
        struct Answer {
            user: Me,
        }
        let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                ErrorKind::Decode,
                "the answer does not say whose credentials these are",
            )
            .with_source(error)
        };
        let url = self
            .client
            .base()
            .join("/api/v2/users/me")
            .map_err(|error| damaged(error.into()))?;
        let call = Call {
            endpoint: "users/me",
            buckets: &[limits::SUPPORT.into()],
        };
        let response = self
            .client
            .send(&Request::new(Method::GET, url), &call)
            .await?;
        let answer: Answer =
            serde_json::from_slice(&response.body).map_err(|error| damaged(error.into()))?;
        Ok(answer.user)
    }
}
