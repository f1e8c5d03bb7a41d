//! A connector: one vendor's API, ready to be read.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, SystemClock};
use crate::declared;
use crate::endpoint::{Deletes, Endpoint, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{NoObserver, Observer};
use crate::http::{HttpClient, HttpService, MemoryLimits, MemoryTokens, RateLimitStore, RetryPolicy, TokenStore};
use crate::origin::Origin;
use crate::record::{Page, RawRecord};
use crate::schema::Schema;
use crate::slice::TimeRange;
use crate::state::SliceState;

/// One vendor's API, configured for one account.
#[async_trait]
pub trait Connector: Send + Sync + Debug + 'static {
    /// The client that every request goes through.
    fn client(&self) -> &HttpClient;

    /// The API as data. The streams that these endpoints feed are all there are.
    fn endpoints(&self) -> &[Endpoint];

    /// Oldest data wanted, from the configuration.
    fn range(&self) -> TimeRange {
        TimeRange::all()
    }

    /// Learns what planning needs to know before a run plans the named endpoints: the account's time zone, its custom fields,
    /// or which accounts there are. [`endpoints`](Self::endpoints) may differ afterwards in all but names and order.
    ///
    /// # Errors
    /// When it cannot be learned; then none of the endpoints is read.
    async fn prepare(&self, endpoints: &[&str]) -> Result<Preparation> {
        let _ = endpoints;
        Ok(Preparation::default())
    }

    /// Tries the credentials and asks each of the named endpoints (all when none are named) for its first page.
    ///
    /// # Errors
    /// When the credentials themselves are refused or the vendor cannot be reached. An endpoint that may not be read is
    /// no error here but an [`Availability`].
    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declared::check(self.client(), self.endpoints(), endpoints).await
    }

    /// Describes the streams.
    async fn discover(&self) -> Result<Catalog> {
        Ok(Catalog::of(self.endpoints()))
    }

    /// What is worth telling of an endpoint once a run is over, such as what the records read say of those that were not.
    fn remarks(&self, endpoint: &str) -> Vec<String> {
        let _ = endpoint;
        Vec::new()
    }

    /// Reads one slice of one endpoint from its position on, page by page.
    ///
    /// * Every page that has an [`Advance`](crate::Advance) is a place to stop and go on later.
    /// * Ends after the page that ends the slice or catches up, or with an error.
    fn read<'a>(&'a self, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
        declared::read(self.client(), endpoint, slice)
    }
}

/// The configuration of a connector. Its JSON Schema is the connector's specification.
///
/// Secrets are `SecretString`s, marked `writeOnly` in the schema; a configuration is never serialised.
pub trait ConnectorConfig: DeserializeOwned + JsonSchema + Debug + Send + 'static {
    /// The connector's name in configuration files.
    const NAME: &'static str;

    /// Builds the connector. Does no IO.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when a value cannot be right.
    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>>;
}

/// What a connector is given besides its configuration. The default is what a program wants: the network, the system
/// clock, limits and tokens in memory.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The source's name in events and errors.
    pub source: String,
    /// Replaces the network; none: reqwest.
    pub transport: Option<Arc<dyn HttpService>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Quotas, shared by everything that uses the same account.
    pub limits: Arc<dyn RateLimitStore>,
    /// Where rotating tokens are kept.
    pub tokens: Arc<dyn TokenStore>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// How failed requests are tried again.
    pub retry: RetryPolicy,
    /// Largest response body in memory, after decompression. Default 64 MiB; less where a run's memory has no room for one.
    pub max_body: u64,
    /// Longest time to establish a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest time without a byte. Default 60 s.
    pub read_timeout: Duration,
    /// Longest time for one attempt of a response that is held in memory. Default 300 s; spooled responses have a least pace instead.
    pub total_timeout: Duration,
    /// Seed of the jitter; none: from the system.
    pub seed: Option<u64>,
}

impl Default for BuildContext {
    fn default() -> Self {
        Self {
            source: String::new(),
            transport: None,
            clock: Arc::new(SystemClock),
            limits: Arc::new(MemoryLimits::default()),
            tokens: Arc::new(MemoryTokens::default()),
            observer: Arc::new(NoObserver),
            retry: RetryPolicy::default(),
            max_body: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_mins(1),
            total_timeout: Duration::from_mins(5),
            seed: None,
        }
    }
}

/// What a connector knows before it is read.
#[derive(Debug, Default)]
pub struct Preparation {
    /// What is worth telling a person: a cost, a deadline, an oddity of the account.
    pub notes: Vec<String>,
    /// Whose data is read, as far as it can be learned. A source that was read from another account is not read on.
    pub origin: Origin,
    /// What is read in the place of the endpoints that were named, where the source reads several accounts: those of each
    /// [`Account`](crate::Account). None: the endpoints that the connector has now.
    pub endpoints: Option<Vec<Endpoint>>,
    /// Names of endpoints that cannot be read as configured, and why. They are not planned: a run that reads everything
    /// leaves out those that are [unsupported](crate::ErrorKind::Unsupported), and one that names them fails.
    pub unavailable: Vec<(String, Error)>,
    /// Ids of accounts that cannot be read, and why: none of their endpoints is, and all others are.
    pub closed: Vec<(String, Error)>,
}

/// What can be read with the configured credentials.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Facts about the account and the credentials, for display, such as `mode: test`.
    pub facts: Vec<(String, String)>,
    /// What each endpoint's first page said.
    pub endpoints: Vec<(String, Availability)>,
}

/// Whether an endpoint can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It can.
    Available,
    /// It cannot, because of a permission, a plan or a product that is not enabled.
    Unavailable(String),
    /// It cannot, for a reason of the vendor's own or because it is not there: no permission changes that.
    Refused(String),
    /// It could not be told.
    Failed(String),
}

/// The streams of a connector.
#[derive(Clone, Debug, Serialize)]
pub struct Catalog {
    /// One entry a stream, in the connector's order.
    pub streams: Vec<CatalogStream>,
}

/// One stream of a catalog.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogStream {
    /// The stream's name.
    pub name: String,
    /// The endpoint that feeds it.
    pub endpoint: String,
    /// The stream whose records it belongs to, each of which has a list of its own; none: the account has one list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Members that identify a record.
    pub primary_key: Vec<String>,
    /// The member by which records are ordered in time.
    pub cursor: Option<String>,
    /// How it is read from one sync to the next.
    pub mode: &'static str,
    /// What a deletion looks like.
    pub deletes: String,
    /// What a reader of the data must know.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
    /// The declared columns.
    pub schema: Schema,
}

impl Catalog {
    /// The catalog of declared endpoints.
    pub fn of(endpoints: &[Endpoint]) -> Self {
        let entry = |endpoint: &Endpoint, stream: &crate::StreamDef| CatalogStream {
            name: stream.name().to_owned(),
            endpoint: endpoint.name().to_owned(),
            parent: endpoint.parent_of(stream).map(|parent| parent.name().to_owned()),
            primary_key: stream.key().iter().map(ToString::to_string).collect(),
            cursor: endpoint.cursor_field().map(|cursor| cursor.field.to_owned()),
            mode: match endpoint.mode() {
                SyncMode::FullRefresh => "full refresh",
                SyncMode::Incremental => "incremental",
            },
            deletes: match stream.deletion() {
                Deletes::Invisible => "not visible".to_owned(),
                Deletes::Marked { field, value } => format!("{field} = {value}"),
                Deletes::Stamped { field } => format!("{field} is set"),
                Deletes::BySnapshot => "absent from the next sync".to_owned(),
                Deletes::Announced => "told by the feed of changes".to_owned(),
            },
            note: stream.remark(),
            schema: stream.schema().clone(),
        };
        let mut streams: Vec<CatalogStream> = Vec::new();
        for endpoint in endpoints {
            for stream in endpoint.streams() {
                // Of several endpoints that feed a stream the first is the one that reads all of it.
                if !streams.iter().any(|known| known.name == stream.name()) {
                    streams.push(entry(endpoint, stream));
                }
            }
        }
        Self { streams }
    }
}

type Build = Box<dyn Fn(serde_json::Value, BuildContext) -> Result<Arc<dyn Connector>> + Send + Sync>;

/// The connectors that a program knows, added one by one.
#[derive(Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Registered>,
}

struct Registered {
    schema: serde_json::Value,
    build: Build,
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.connectors.keys()).finish()
    }
}

impl Registry {
    /// Adds a connector.
    pub fn add<C: ConnectorConfig>(&mut self) -> &mut Self {
        let build = |config: serde_json::Value, context: BuildContext| {
            let config: C = serde_path_to_error::deserialize(config).map_err(|error| {
                Error::new(ErrorKind::ConfigInvalid, error.inner().to_string()).with_context("field", error.path().to_string())
            })?;
            config.build(context)
        };
        let schema = schemars::schema_for!(C).to_value();
        self.connectors.insert(C::NAME, Registered { schema, build: Box::new(build) });
        self
    }

    /// The known names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.connectors.keys().copied()
    }

    /// The JSON Schema of a connector's configuration.
    pub fn spec(&self, name: &str) -> Result<&serde_json::Value> {
        Ok(&self.get(name)?.schema)
    }

    /// Builds a connector from its configuration.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] with the context `field`, the path of the wrong member.
    pub fn build(&self, name: &str, config: serde_json::Value, context: BuildContext) -> Result<Arc<dyn Connector>> {
        (self.get(name)?.build)(config, context)
    }

    fn get(&self, name: &str) -> Result<&Registered> {
        self.connectors.get(name).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            Error::new(ErrorKind::ConfigInvalid, format!("there is no connector `{name}`"))
                .with_context("field", "connector")
                .with_help(format!("known connectors: {}", known.join(", ")))
        })
    }
}

/// Reads streams from a program of one's own, without the engine.
pub trait ConnectorExt: Connector {
    /// The records of one stream in a time range, in the vendor's order within each slice. Nothing is checkpointed.
    fn records<'a>(&'a self, stream: &'a str, range: TimeRange) -> BoxStream<'a, Result<RawRecord>> {
        declared::records(self, stream, range)
    }

    /// The records of one stream as the caller's own type.
    fn typed<'a, T: DeserializeOwned + Send + 'a>(&'a self, stream: &'a str, range: TimeRange) -> BoxStream<'a, Result<T>> {
        self.records(stream, range).map(|record| record?.deserialize()).boxed()
    }
}

impl<C: Connector + ?Sized> ConnectorExt for C {}
