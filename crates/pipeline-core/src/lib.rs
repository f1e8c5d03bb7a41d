#![doc = include_str!("../README.md")]
//!
//! ## Where to find what
//!
//! | Concern | Where |
//! | --- | --- |
//! | what failed and what to do | [`Error`] |
//! | text: proved to be JSON, cut into lines, mended | [`json`] |
//! | one record, cutting a response into records | [`RawRecord`], [`split`] |
//! | columns | [`Schema`], [`Field`], [`DataType`] |
//! | progress and its changes | [`state`] |
//! | units that cannot be read while the rest can | [`gap`] |
//! | how much memory may be held | [`MemoryBudget`] |
//! | how fast requests are sent | [`rate_limit`] |
//! | requests, credentials, retries | [`http`] |
//! | how a list is walked | [`paginate`] |
//! | how an endpoint is cut into slices | [`mod@slice`] |
//! | an API as tables of constants | [`ListDef`], [`StreamDef`], [`Vendor`], [`declarative::compile`] |
//! | an API as data | [`Endpoint`], [`Stream`] |
//! | a vendor, and one run of it | [`Connector`], [`ConnectorConfig`], [`Session`] |
//! | a connector that only declares; how endpoints are read | [`DeclarativeConnector`], [`declarative`] |
//! | what happens, as it happens | [`Event`], [`Observer`] |
//! | webhook signature verification | [`webhook`] |
//!
//! A module uses only those below it: `json`, `model`, `rate_limit`, `http`, `connector`,
//! `declarative`, from the lowest up.

mod clock;
pub mod connector;
pub mod declarative;
mod error;
mod event;
mod failpoints;
mod host;
pub mod http;
pub mod json;
mod memory;
mod message;
mod model;
pub mod rate_limit;
#[cfg(test)]
mod tests;
mod trace;
pub mod webhook;

pub use self::clock::{Clock, SystemClock, TokioClock};
pub use self::connector::{
    Account, Catalog, CatalogStream, CheckReport, Connector, ConnectorConfig, Cursor, Deletes,
    EmbeddedList, Endpoint, ParentMap, Plan, RecordExpansion, RecordMap, Registry, Session,
    Skipped, Stream, SyncMode, Transform, Unread, config_schema, paginate, slice,
};
pub use self::declarative::{
    DeclarativeConnector, ListDef, ParentRef, Reader, SessionExt, StreamDef, Vendor,
};
pub use self::error::{Error, ErrorKind, ErrorStatus, Result};
pub use self::event::{Attempt, Event, NoObserver, Observer, Observers};
pub use self::failpoints::{CRASH_POINT, FAULT_POINT, failpoint, fault_point, fault_struck};
pub use self::http::BuildContext;
pub use self::json::lines::{BodyFormat, LineCheck, Lines};
pub use self::memory::{Hold, Lease, MemoryBudget};
pub use self::model::coverage::{Coverage, Since};
pub use self::model::origin::Origin;
pub use self::model::record::{
    Added, Advance, Composer, Envelope, Op, Page, Parts, RawRecord, RecordPath, Split, StreamIndex,
    split,
};
pub use self::model::run_log::{Claim, EndpointRecord, RUN_CAPACITY, RunRecord};
pub use self::model::schema::{DataType, Field, Inside, Schema, TimeFormat, column_name};
pub use self::model::{Availability, gap, state};
pub use self::trace::{Trace, TraceRun};
