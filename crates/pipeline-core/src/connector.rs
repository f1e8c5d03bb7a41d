//! A connector: one vendor's API, ready to be read.

pub(crate) mod account;
mod catalog;
mod config_schema;
pub(crate) mod endpoint;
pub(crate) mod nested_list;
pub mod paginate;
mod registry;
pub mod slice;
pub(crate) mod stream;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::account::Account;
pub use self::catalog::{Catalog, CatalogStream};
pub use self::config_schema::config_schema;
pub use self::endpoint::{Cursor, Endpoint, ParentMap, SyncMode};
pub use self::nested_list::EmbeddedList;
pub use self::registry::Registry;
use self::slice::TimeRange;
pub use self::stream::{Deletes, RecordExpansion, RecordMap, Stream, Transform};
use crate::error::{Error, Result};
use crate::http::{BuildContext, HttpClient};
use crate::model::Availability;
use crate::model::origin::Origin;
use crate::model::record::Page;
use crate::model::state::SliceState;
use crate::webhook::{SigningSecrets, WebhookReader};

/// One vendor's API, configured for one account. It never changes: what lives for one run is in its
/// [`Session`], so that a program can keep one connector and run as many syncs with it as it likes.
#[async_trait]
pub trait Connector: Send + Sync + Debug + 'static {
    /// The client that every request goes through. It outlives runs, with its limits, tokens and
    /// connections.
    fn client(&self) -> &HttpClient;

    /// The API as data, without any request: the streams that these endpoints feed are all there
    /// are.
    fn endpoints(&self) -> &[Endpoint];

    /// The oldest data wanted, from the configuration.
    fn range(&self) -> TimeRange {
        TimeRange::all()
    }

    /// Returns what proves and reads the vendor's webhooks. None: the vendor sends none that a sync
    /// could act on.
    fn webhooks(&self, secrets: SigningSecrets) -> Option<Arc<dyn WebhookReader>> {
        let _ = secrets;
        None
    }

    /// Tries the credentials and asks each of the named endpoints (all when none are named) for its
    /// first page.
    ///
    /// # Errors
    /// When the credentials themselves are refused or the vendor cannot be reached. An endpoint
    /// that may not be read is not an error here but an [`Availability`].
    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport>;

    /// Begins a run that reads the named endpoints: requests what planning needs, such as the
    /// account's time zone, its custom fields, or which accounts there are.
    ///
    /// # Errors
    /// When that cannot be learned; then none of the endpoints is read.
    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>>;
}

/// One run of a connector: what was learned when it began, and what its pages share.
pub trait Session: Send + Sync + Debug + 'static {
    /// The client that the run's requests go through.
    fn client(&self) -> &HttpClient;

    /// What the run reads.
    fn plan(&self) -> &Plan;

    /// Reads one slice of one endpoint of the plan from its position on, page by page.
    ///
    /// * Every page that has an [`Advance`](crate::Advance) is a place to stop and to resume later.
    /// * Ends after the page that ends the slice or catches up, or with an error.
    fn read<'a>(&'a self, endpoint: &'a Endpoint, slice: SliceState)
    -> BoxStream<'a, Result<Page>>;

    /// Notices about an endpoint at the end of the run, such as what the records that were read say
    /// of those that were not.
    fn notices(&self, endpoint: &str) -> Vec<String> {
        let _ = endpoint;
        Vec::new()
    }
}

/// The configuration of a connector. Its JSON Schema is the connector's specification.
///
/// Secrets are `SecretString`s, marked `writeOnly` in the schema; a configuration is never
/// serialised.
pub trait ConnectorConfig: DeserializeOwned + JsonSchema + Debug + Send + 'static {
    /// The connector's name in configuration files.
    const NAME: &'static str;

    /// What the connector reads, on one line without a final stop, for a list of connectors.
    const READS: &'static str;

    /// Builds the connector. Does no IO.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`](crate::ErrorKind::ConfigInvalid) when a value cannot be right.
    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>>;
}

/// What a run reads.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The endpoints, those of each [`Account`] where the source reads several, with the columns
    /// that only the account has. They may contain more than what was asked for.
    pub endpoints: Vec<Endpoint>,
    /// Whose data is read, as far as it can be learned. A source that was read from another account
    /// is not read on.
    pub origin: Origin,
    /// What is not read, and why. All the rest is.
    pub skipped: Vec<Skipped>,
    /// Notices for the user, such as a cost, a deadline, or an oddity of the account.
    pub notices: Vec<String>,
}

/// Something that a run does not read.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// What it is.
    pub what: Unread,
    /// Why. An endpoint that is [unsupported](crate::ErrorKind::Unsupported) is left out by a run
    /// that reads everything, and fails one that names it.
    pub reason: Arc<Error>,
}

/// What a [`Skipped`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The endpoint of this name.
    Endpoint(String),
    /// Every endpoint of the account with this id.
    Account(String),
}

impl Plan {
    /// Leaves out an endpoint.
    pub fn skip_endpoint(&mut self, name: impl Into<String>, reason: Error) {
        self.skipped.push(Skipped {
            what: Unread::Endpoint(name.into()),
            reason: Arc::new(reason),
        });
    }

    /// Leaves out an account.
    pub fn skip_account(&mut self, id: impl Into<String>, reason: Error) {
        self.skipped.push(Skipped {
            what: Unread::Account(id.into()),
            reason: Arc::new(reason),
        });
    }
}

/// What can be read with the configured credentials.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Facts about the account and the credentials, for display, such as `mode: test`.
    pub facts: Vec<(String, String)>,
    /// What each endpoint's first page said.
    pub endpoints: Vec<(String, Availability)>,
}
