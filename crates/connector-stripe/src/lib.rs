#![doc = include_str!("../README.md")]

mod change_feed;
mod check;
mod config;
mod connect;
mod cost;
mod errors;
mod limits;
#[rustfmt::skip] // It is sealed as it is written.
mod schema;
mod settling;
mod slices;
mod spare;
mod streams;
mod vendor;
pub mod webhook;

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::{Bearer, HttpClient};
use pipeline_core::rate_limit::Quota;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::webhook::{SigningSecrets, WebhookReader};
use pipeline_core::{
    BuildContext, CheckReport, Clock, Connector, ConnectorConfig, Endpoint, Origin, Page, Plan,
    Reader, Result, Session,
};
use secrecy::ExposeSecret;

use self::change_feed::{CHANGES, Changes};
use self::config::Key;
pub use self::config::{Accounts, StripeConfig};
use self::connect::{Clients, Connect};
use self::cost::Cost;
use self::errors::StripeAnswers;
use self::limits::{ACCOUNT, quotas};
use self::settling::{SETTLING, Settling};
use self::spare::Spare;
use self::vendor::Stripe;
use self::webhook::StripeHooks;

/// The tables of lists, from which the columns, the documentation and the fixtures are written.
#[doc(hidden)]
pub mod tables {
    pub use crate::change_feed::{event_types, heard, tells_deletions};
    pub use crate::streams::{FAMILIES, inside, lists, objects, owner, stream, streams};
    pub use crate::vendor::{Facts, Pages, Requires, Settles, Slices, Stripe};
}

/// The version of Stripe's API that every request asks for, and that the columns are of.
pub const API_VERSION: &str = "2026-05-27.dahlia";

/// Stripe, configured for one account, or for a platform and the accounts that are connected to it.
#[derive(Debug)]
pub struct StripeConnector {
    client: HttpClient,
    /// The lists, without the feeds of what changes, and without a column for the account.
    lists: Vec<Endpoint>,
    endpoints: Vec<Endpoint>,
    stripe: Stripe,
    /// None: one account is read.
    connect: Option<Connect>,
    range: TimeRange,
    /// Requests per second that the connector may use.
    rate: f64,
    key: Key,
    /// The account that the configuration names, whose name no request has to learn.
    account: Option<String>,
    clock: Arc<dyn Clock>,
}

/// One run: what its lists, its feed of changes, and its accounts know of each other.
#[derive(Debug)]
struct Run {
    reader: Reader,
    plan: Plan,
    changes: Changes,
    settling: Settling,
    cost: Cost,
    spare: Spare,
    /// The accounts, where there are several, and the platform's own id.
    accounts: Option<Clients>,
}

impl StripeConnector {
    /// Builds the connector. Does no IO.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`](pipeline_core::ErrorKind::ConfigInvalid) when a value cannot be
    /// right.
    pub fn new(config: StripeConfig, context: BuildContext) -> Result<Self> {
        let (key, base) = config.validate()?;
        config.validate_start(context.clock.now())?;
        let account_rate = config.account_rps.map_or(key.rate(), NonZeroU32::get);
        let at_once = config
            .max_concurrency
            .map_or(account_rate / 2, NonZeroU32::get);
        let mut client = HttpClient::builder(&context, base)
            .authenticator(Bearer::new(config.api_key.clone()))
            .classifier(StripeAnswers)
            .account(&["stripe", config.api_key.expose_secret()])
            .default_header("stripe-version", API_VERSION)
            .repeated_header("stripe-version")
            .request_id_header("request-id")
            .quota(
                ACCOUNT,
                Quota::per_second(account_rate)
                    .concurrency(at_once)
                    .share(config.rate_share),
            );
        if let Some(account) = &config.account {
            client = client.default_header(key.account_header(), account);
        }
        for (operation, quota) in quotas(&config) {
            client = client.quota(operation, quota);
        }
        let stripe = Stripe::new(&config, key);
        let lists = streams::endpoints(&stripe);
        let connect = Connect::new(&config, key, &lists, stripe.reading());
        let mut endpoints = lists.clone();
        endpoints.extend([
            settling::endpoint(&lists),
            change_feed::endpoint(&lists, stripe.reading()),
        ]);
        if connect.is_some() {
            endpoints = endpoints
                .into_iter()
                .map(|endpoint| endpoint.by_account(connect::COLUMN))
                .collect();
        }
        Ok(Self {
            client: client.build()?,
            lists,
            endpoints,
            stripe,
            connect,
            rate: f64::from(account_rate) * config.rate_share,
            range: TimeRange {
                start: config.start_date,
                end: None,
            },
            key,
            account: config.account,
            clock: Arc::clone(&context.clock),
        })
    }
}

impl StripeConnector {
    /// Whose data it is: the account, as far as the key may tell it, and its mode, which the key
    /// itself tells. Keys are rotated, and say nothing.
    fn origin(&self, own: Option<String>) -> Origin {
        let (_, mode) = self.key.describe();
        let account = self.account.clone().or(own);
        Origin {
            account,
            ..Origin::default()
        }
        .realm(format!("{mode} mode"))
        .host(self.client.base())
    }
}

#[async_trait]
impl Connector for StripeConnector {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    fn webhooks(&self, secrets: SigningSecrets) -> Option<Arc<dyn WebhookReader>> {
        Some(Arc::new(StripeHooks::new(
            secrets,
            self.stripe.reading().lag,
        )))
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        check::check(
            &self.client,
            &*self.clock,
            self.key,
            self.connect.as_ref(),
            endpoints,
        )
        .await
    }

    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        // Any answer contains Stripe's time, by which windows are cut, a refusal as well.
        let has_own = self.connect.as_ref().is_none_or(Connect::has_platform);
        let reader = Reader::new(self.client.clone());
        let own = if has_own {
            connect::own_id(&self.client).await?
        } else {
            None
        };
        let origin = self.origin(own.clone());
        let accounts = self.connect.as_ref().map(|connect| connect.clients(own));
        let plan = match self.connect.as_ref().zip(accounts.as_ref()) {
            Some((connect, clients)) => {
                let accounts = connect.accounts(&reader, clients).await?;
                connect.plan(&self.endpoints, endpoints, accounts, clients)
            }
            None => Plan {
                endpoints: self.endpoints.clone(),
                ..Plan::default()
            },
        };
        let spare = Spare::new(&self.stripe);
        Ok(Arc::new(Run {
            reader,
            plan: Plan { origin, ..plan },
            changes: Changes::new(&self.lists, &self.stripe, spare.clone()),
            settling: Settling::new(&self.lists, self.stripe.reading(), self.range.start),
            cost: Cost::new(self.rate, self.range.start, endpoints),
            spare,
            accounts,
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
        let reader = match (&self.accounts, endpoint.account()) {
            (Some(accounts), Some(account)) => match accounts.client(self.client(), &account.id) {
                Ok(client) => self.reader.with_client(client),
                Err(error) => return stream::iter([Err(error)]).boxed(),
            },
            _ => self.reader.clone(),
        };
        match endpoint.name() {
            CHANGES => return self.changes.read(reader, endpoint, slice),
            SETTLING => return self.settling.read(reader, endpoint, slice),
            _ => {}
        }
        let pages = self.spare.read(&reader, endpoint, slice.clone());
        let pages = self
            .cost
            .tell(reader.clone(), endpoint, slice.clone(), pages);
        let pages = self.settling.note(reader.client(), endpoint, &slice, pages);
        self.changes.note(reader.client(), endpoint, slice, pages)
    }
}

impl ConnectorConfig for StripeConfig {
    const NAME: &'static str = "stripe";
    const READS: &'static str =
        "Stripe: payments, billing, Connect, Issuing, and Treasury of one account or of many";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(StripeConnector::new(self, context)?))
    }
}
