//! Several accounts in one source: that of the key, a platform, and those that are connected to it,
//! or accounts of one organization that stand beside each other.
//!
//! A list shows what one account has, so every account is read by itself: with a header that names
//! it, with a state of its own, and within the limits of the key, which all of them share.

use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use pipeline_core::declarative::ListDef;
use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::state::SliceState;
use pipeline_core::{
    Account, Endpoint, Error, ErrorKind, Plan, RawRecord, Reader, Result, Schema, Stream,
};

use crate::config::{Accounts, Key, KeyKind, StripeConfig};
use crate::limits::{ACCOUNT, operation};
use crate::streams::stream;
use crate::vendor::{AFTER_LAST, Reading, Stripe};
use crate::{change_feed, settling};

/// The column that tells whose a row is: the id of the account. No object of Stripe's has a member
/// of this name.
pub(crate) const COLUMN: &str = "_account_id";

/// The list of connected accounts.
const LIST: &str = "/v1/accounts";

/// Accounts asked at the same time whether they can be read.
const AT_ONCE: usize = 8;

/// Which accounts a source reads.
#[derive(Debug)]
pub(crate) struct Connect {
    accounts: Accounts,
    /// Whether the platform's own lists are read.
    platform: bool,
    /// True when the key is an organization's and has no account of its own: the accounts stand
    /// beside each other.
    siblings: bool,
    /// The platform inside an organization, whose key names accounts by the way to them.
    context: Option<String>,
    /// The header that names the account.
    header: &'static str,
    /// The endpoints that a connected account has, but for whose they are.
    lists: Vec<Endpoint>,
}

/// How requests say whose lists they want.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    context: Option<String>,
    header: &'static str,
    /// The platform's own id, if the key may report it.
    own: Option<String>,
}

/// A connected account, and what the platform knows of it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) id: String,
    pub(crate) record: Option<RawRecord>,
    /// Why it cannot be read.
    pub(crate) refusal: Option<Error>,
}

impl Connect {
    /// `lists` are the endpoints of the platform, but for its feed of changes.
    pub(crate) fn new(
        config: &StripeConfig,
        key: Key,
        lists: &[Endpoint],
        reading: Reading,
    ) -> Option<Self> {
        let accounts = config.accounts.clone()?;
        let siblings = key.kind == KeyKind::Organization && config.account.is_none();
        let mut lists: Vec<Endpoint> = lists
            .iter()
            .filter(|endpoint| siblings || is_of_connected(endpoint))
            .cloned()
            .collect();
        let feeds = [
            settling::endpoint(&lists),
            change_feed::endpoint(&lists, reading),
        ];
        lists.extend(feeds);
        Some(Self {
            accounts,
            platform: config.platform.unwrap_or(true),
            siblings,
            context: config.account.clone(),
            header: key.account_header(),
            lists: lists
                .into_iter()
                .map(|endpoint| endpoint.by_account(COLUMN))
                .collect(),
        })
    }

    /// Whether the key has an account of its own.
    pub(crate) fn has_platform(&self) -> bool {
        !self.siblings
    }

    /// The clients of the accounts, given the platform's own id, if the key may report it.
    pub(crate) fn clients(&self, own: Option<String>) -> Clients {
        Clients {
            context: self.context.clone(),
            header: self.header,
            own: self.context.clone().or(own),
        }
    }

    /// The connected accounts: those that the configuration names, each asked whether it can be
    /// read, or all that the platform lists.
    pub(crate) async fn accounts(
        &self,
        reader: &Reader,
        clients: &Clients,
    ) -> Result<Vec<Connected>> {
        match &self.accounts {
            Accounts::All => list(reader).await,
            Accounts::Named(ids) => {
                let ask = |id: &String| clients.ask(reader.client(), id.clone());
                stream::iter(ids.iter().map(ask).collect::<Vec<_>>())
                    .buffered(AT_ONCE)
                    .try_collect()
                    .await
            }
        }
    }

    /// Whether a list of the platform is read.
    pub(crate) fn reads_platform(&self, list: &ListDef<Stripe>) -> bool {
        self.has_platform() && (self.platform || !is_connected(list))
    }

    /// Whether a list of the other accounts is read.
    pub(crate) fn reads_connected(&self, list: &ListDef<Stripe>) -> bool {
        self.siblings || is_connected(list)
    }

    /// The endpoints of all accounts that the named endpoints stand for.
    pub(crate) fn plan(
        &self,
        platform: &[Endpoint],
        names: &[&str],
        accounts: Vec<Connected>,
        clients: &Clients,
    ) -> Plan {
        let of = |endpoint: &Endpoint, id: &str, named| {
            endpoint.clone().of_account(Account {
                id: id.into(),
                named,
            })
        };
        let is_wanted = |endpoint: &&Endpoint| names.contains(&endpoint.name());
        let own = clients.own.as_deref().unwrap_or(UNKNOWN);
        let is_read = |endpoint: &&Endpoint| {
            self.has_platform() && (self.platform || !is_of_connected(endpoint))
        };
        let endpoints = platform
            .iter()
            .filter(is_wanted)
            .filter(is_read)
            .map(|endpoint| of(endpoint, own, true))
            .collect();
        let mut plan = Plan {
            endpoints,
            ..Plan::default()
        };
        if own == UNKNOWN && !plan.endpoints.is_empty() {
            plan.skip_account(UNKNOWN, unknown());
        }
        let by_name = matches!(self.accounts, Accounts::Named(_));
        let connected: Vec<&Endpoint> = self.lists.iter().filter(is_wanted).collect();
        for Connected { id, refusal, .. } in
            accounts.into_iter().filter(|account| account.id != own)
        {
            plan.endpoints
                .extend(connected.iter().map(|endpoint| of(endpoint, &id, by_name)));
            if let Some(refusal) = refusal {
                plan.skip_account(id, refusal);
            }
        }
        plan
    }
}

impl Clients {
    /// The client that reads an account. Requests of the platform for itself name no account.
    pub(crate) fn client(&self, client: &HttpClient, account: &str) -> Result<HttpClient> {
        if self.own.as_deref() == Some(account) {
            return client.for_account(account, &[]);
        }
        let path = self
            .context
            .as_ref()
            .map(|platform| format!("{platform}/{account}"));
        client.for_account(
            account,
            &[(self.header, path.as_deref().unwrap_or(account))],
        )
    }

    /// Asks an account for itself.
    async fn ask(&self, client: &HttpClient, id: String) -> Result<Connected> {
        let refusal = match own_id(&self.client(client, &id)?).await {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => return Err(error),
            answer => answer.err(),
        };
        Ok(Connected {
            id,
            record: None,
            refusal,
        })
    }
}

impl Connected {
    /// In a few words, for display.
    pub(crate) fn describe(&self) -> String {
        let (Some(record), None) = (&self.record, &self.refusal) else {
            return if self.refusal.is_some() {
                "cannot be read"
            } else {
                "can be read"
            }
            .to_owned();
        };
        let is = |member: &str| record.member(member) == Some("true");
        let country = record
            .scalar("country")
            .unwrap_or_else(|| "no country".to_owned());
        let charges = if is("charges_enabled") {
            "charges"
        } else {
            "no charges"
        };
        let payouts = if is("payouts_enabled") {
            "payouts"
        } else {
            "no payouts"
        };
        format!("{country}, {charges}, {payouts}")
    }
}

/// Stands for the platform while its id is not known. No account has this id.
const UNKNOWN: &str = "platform";

/// Why the platform is not read.
fn unknown() -> Error {
    let message = "the key may not tell whose it is, so that the platform's rows could not be told from those of other accounts";
    let help = "give the key read permission for its own account in Stripe's dashboard";
    Error::new(ErrorKind::PermissionDenied, message).with_help(help)
}

/// Whether connected accounts have such a list as well: all but those of the accounts that are
/// connected.
fn is_connected(list: &ListDef<Stripe>) -> bool {
    let parent = list.parent.map(|parent| parent.list);
    list.path != LIST && parent != Some("accounts")
}

/// Whether an endpoint feeds a stream that connected accounts have.
fn is_of_connected(endpoint: &Endpoint) -> bool {
    endpoint
        .streams()
        .any(|fed| stream(fed.name()).is_some_and(is_connected))
}

/// The id of the account that a client's requests are for. Restricted keys often may not tell it,
/// which says nothing of what else they may read.
pub(crate) async fn own_id(client: &HttpClient) -> Result<Option<String>> {
    let invalid = |error| {
        Error::new(
            ErrorKind::Unexpected,
            "the account's path is not a URL path",
        )
        .with_source(error)
    };
    let request = Request::new(
        Method::GET,
        client.base().join("/v1/account").map_err(invalid)?,
    );
    match client
        .send(
            &request,
            &Call {
                endpoint: "account",
                buckets: &[ACCOUNT.into()],
            },
        )
        .await
    {
        Ok(response) => Ok(RawRecord::upsert(response.body).scalar("id")),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::NotFound
                    | ErrorKind::Refused
                    | ErrorKind::Unexpected
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every account that is connected to the platform.
async fn list(reader: &Reader) -> Result<Vec<Connected>> {
    let endpoint = Endpoint::get("accounts", LIST)
        .query("limit", "100")
        .records("data")
        .stream(Stream::new("accounts", Schema::default()).primary_key(["id"]))
        .paginate(AFTER_LAST)
        .buckets([ACCOUNT])
        .bucket(operation(LIST));
    let mut pages = reader.read(&endpoint, SliceState::default());
    let mut accounts = Vec::new();
    while let Some(page) = pages.try_next().await.map_err(not_listed)? {
        for record in page.records.into_iter().flatten() {
            let id = record
                .scalar("id")
                .ok_or_else(|| Error::new(ErrorKind::Decode, "a connected account has no id"))?;
            accounts.push(Connected {
                id,
                record: Some(record),
                refusal: None,
            });
        }
    }
    Ok(accounts)
}

/// Without the list nobody knows whom to read, so that nothing is read rather than a part of it.
fn not_listed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Refused => {
            Error::new(ErrorKind::ConfigInvalid, "the key may not list the accounts that are connected to it")
                .with_context("field", "accounts")
                .with_help("give the key read permission for connected accounts, or name them: accounts = [\"acct_…\"]")
                .with_source(error)
        }
        _ => error,
    }
}
