//! What happens during a sync, as typed events. Progress bars, JSON logs, metrics and request logs
//! are observers.

use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;

use crate::model::Availability;
use crate::model::state::EndpointId;

/// Something that happened. Only core makes events: one per request attempt, page or commit, never
/// one per record.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A run began.
    SyncStarted {
        /// Identifies the run in events, logs and the commit log.
        run: &'a str,
    },
    /// An endpoint's plan is stored and its slices can be read.
    EndpointStarted {
        /// The endpoint.
        endpoint: &'a EndpointId,
        /// Names of the streams that it feeds.
        streams: &'a [String],
        /// Slices to read.
        slices: usize,
        /// True when an interrupted plan is resumed.
        resumed: bool,
    },
    /// How many requests an endpoint still needs is known, and which limit decides when they will
    /// have been made.
    Planned {
        /// The endpoint.
        endpoint: &'a EndpointId,
        /// Requests to make.
        requests: u64,
        /// The limit, in words.
        limit: &'a str,
        /// When the last of them can be sent, if nothing else uses the limit.
        until: DateTime<Utc>,
    },
    /// One attempt of one request came to its end.
    Attempt(&'a Attempt<'a>),
    /// A request waits for its turn under a rate or concurrency limit.
    Waiting {
        /// The source's name.
        source: &'a str,
        /// The endpoint's name.
        endpoint: &'a str,
        /// The limit that binds, in words, such as `read: 25 requests/s`.
        limit: &'a str,
        /// How long it will wait.
        wait: Duration,
    },
    /// A failed request will be tried again.
    Retrying {
        /// The source's name.
        source: &'a str,
        /// The endpoint's name.
        endpoint: &'a str,
        /// Why.
        reason: &'a str,
        /// How long until then.
        wait: Duration,
    },
    /// A host failed so often that requests to it stop for a while.
    BreakerOpened {
        /// The host.
        host: &'a str,
        /// For how long.
        wait: Duration,
    },
    /// A page was read and its records were staged.
    PageRead {
        /// The endpoint.
        endpoint: &'a EndpointId,
        /// Records on the page.
        records: u64,
        /// Bytes of those records.
        bytes: u64,
    },
    /// A running slice gave a part of its work away.
    SliceSplit {
        /// The endpoint.
        endpoint: &'a EndpointId,
    },
    /// A unit of an endpoint could not be read. It stays missing, and the next syncs ask for it
    /// again.
    PassedOver {
        /// The endpoint.
        endpoint: &'a EndpointId,
        /// The unit's name.
        unit: &'a str,
        /// Why, in the vendor's words.
        reason: &'a str,
    },
    /// Data that is kept, but not where it was declared. Reported once a batch.
    Drift {
        /// The source's name.
        source: &'a str,
        /// The stream's name.
        stream: &'a str,
        /// The member of the records.
        field: &'a str,
        /// What became of it, in words.
        reason: &'a str,
        /// How many records.
        records: u64,
    },
    /// Characters of an answer of which only a half had come, or bytes that were not text: each is
    /// U+FFFD now.
    Repaired {
        /// The source's name.
        source: &'a str,
        /// The endpoint's name.
        endpoint: &'a str,
        /// How many.
        characters: u64,
    },
    /// Something that the reader of the data, or whoever pays for the requests, should know.
    /// Reported in the summary, once.
    Notice {
        /// The source's name.
        source: &'a str,
        /// The endpoint's name; empty when it concerns the whole source.
        endpoint: &'a str,
        /// The sentence, without a final stop.
        message: &'a str,
    },
    /// Data and checkpoint were committed together.
    Committed {
        /// Number of the commit at the destination.
        sequence: u64,
        /// Rows in it.
        rows: u64,
        /// Bytes of the records in it.
        bytes: u64,
    },
    /// An endpoint is done, or failed.
    EndpointFinished {
        /// The endpoint.
        endpoint: &'a EndpointId,
        /// The failure, if any.
        error: Option<&'a crate::error::Error>,
    },
    /// A check has tried an endpoint.
    Checked {
        /// The source's name.
        source: &'a str,
        /// The endpoint's name.
        endpoint: &'a str,
        /// Whether it can be read.
        availability: &'a Availability,
    },
    /// The run ended.
    SyncFinished {
        /// Identifies the run.
        run: &'a str,
    },
}

/// One attempt of one request, for the request log and the figures per endpoint. Holds no query and
/// no credential.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// When the attempt was sent.
    pub at: DateTime<Utc>,
    /// The source's name.
    pub source: &'a str,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// Path of the URL.
    pub path: &'a str,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The status, if an answer came.
    pub status: Option<StatusCode>,
    /// From sending to the end of the body.
    pub latency: Duration,
    /// Bytes of the body after decompression.
    pub bytes: u64,
    /// Time spent waiting for limits before this attempt.
    pub limit_wait: Duration,
    /// The limit waited for longest, if any.
    pub limit: Option<&'a str>,
    /// Why this attempt failed; none when it was accepted.
    pub failure: Option<&'a str>,
    /// True when the vendor said that requests come too fast.
    pub throttled: bool,
    /// The vendor's id of the request.
    pub request_id: Option<&'a str>,
}

/// Receives events. Must not block: it is called between a page and the next.
pub trait Observer: Send + Sync + Debug {
    /// Called for each event.
    fn observe(&self, event: &Event<'_>);
}

/// Ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _event: &Event<'_>) {}
}

/// Passes every event on to several observers.
#[derive(Debug, Default)]
pub struct Observers(pub Vec<std::sync::Arc<dyn Observer>>);

impl Observer for Observers {
    fn observe(&self, event: &Event<'_>) {
        for observer in &self.0 {
            observer.observe(event);
        }
    }
}
