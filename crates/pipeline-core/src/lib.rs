//! The core of the ingestion toolkit.
//!
//! A **connector** describes a vendor's API as **endpoints** that are read and **streams** that they feed. The
//! **engine** plans each endpoint into **slices**, reads each slice page by page through one **HTTP client**, cuts pages
//! into **raw records** without parsing them into a tree, decodes them into Arrow batches, and hands them to a
//! **destination** that commits data and **checkpoint** in one atomic step. Every page boundary is a place where a sync
//! can stop and go on.
//!
//! | Concern | Where |
//! | --- | --- |
//! | what failed and what to do | [`Error`] |
//! | one record, cutting a response into records | [`RawRecord`], [`split`] |
//! | how a list is walked | [`paginate`] |
//! | how an endpoint is cut into slices | [`mod@slice`] |
//! | progress and its changes | [`state`] |
//! | units that cannot be read while the rest can | [`gap`] |
//! | an API as data | [`Endpoint`], [`StreamDef`] |
//! | requests, limits, credentials, retries | [`http`] |
//! | a vendor | [`Connector`], [`ConnectorConfig`] |
//! | whether a webhook is the vendor's | [`webhook`] |
//! | where data goes (feature `engine`) | `Destination` |
//! | a sync (feature `engine`) | `engine::Sync` |

mod account;
#[cfg(feature = "engine")]
pub mod cell;
mod clock;
mod connector;
mod coverage;
mod crash;
pub mod declared;
#[cfg(feature = "engine")]
mod destination;
mod endpoint;
#[cfg(feature = "engine")]
pub mod engine;
mod error;
mod event;
pub mod gap;
pub mod http;
#[cfg(feature = "engine")]
mod keep;
mod lines;
mod memory;
mod mend;
mod nested_list;
mod origin;
mod page_size;
pub mod paginate;
#[cfg_attr(not(feature = "engine"), allow(dead_code, reason = "the decoder reads what others do not"))]
mod prove;
#[cfg(feature = "engine")]
mod purge;
mod record;
mod run_log;
mod schema;
pub mod slice;
pub mod state;
#[cfg(test)]
mod tests;
mod trace;
pub mod webhook;

pub use account::Account;
pub use clock::{Clock, SystemClock, TokioClock};
pub use connector::{
    Availability, BuildContext, Catalog, CatalogStream, CheckReport, Connector, ConnectorConfig, ConnectorExt, Preparation, Registry,
};
pub use coverage::{Coverage, Since};
pub use crash::{CRASH_POINT, FAULT_POINT, crash_point, fault_point, fault_struck};
#[cfg(feature = "engine")]
pub use destination::{
    Access, Commit, CommitRecord, ConfiguredDestination, DELETED, Damage, Delivery, Depth, Destination, DestinationConfig,
    DestinationRegistry, EXTRA, Generation, Location, OpenContext, Refused, SYNCED_AT, Status, Table, TableId, Transaction,
    WithCheckpoints,
};
pub use endpoint::{BodyFormat, Cursor, Deletes, Endpoint, LineCheck, Lines, NestedList, RecordExpansion, RecordMap, StreamDef, SyncMode};
pub use error::{Error, ErrorKind, ErrorStatus, Result};
pub use event::{Attempt, Event, NoObserver, Observer, Observers};
#[cfg(feature = "engine")]
pub use keep::{Condition, Keep};
pub use memory::MemoryBudget;
pub use origin::Origin;
#[cfg(feature = "engine")]
pub use purge::{Purge, Purged, PurgedTable};
pub use record::{Advance, Envelope, Op, Page, RawRecord, RecordPath, Split, StreamIndex, split};
pub use run_log::{Claim, EndpointRecord, RUN_CAPACITY, RunRecord};
pub use schema::{DataType, Field, Inside, Schema, TimeFormat, column_name};
pub use trace::Trace;
