//! Rate limits: what a vendor allows, how much of it is used, and who is next.
//!
//! | Concern | Where |
//! | --- | --- |
//! | a limit, and the store that counts it | [`Quota`], [`RateLimitStore`], [`MemoryLimits`] |
//! | when a request may be sent | `limiter`, `wait_queue`, `bucket`, `concurrency` |
//! | what headers say of limits | [`RateHeaders`], [`RateLimitParser`] |
//! | limits that are only reported or learned | `reported`, `adaptive` |
//! | what outlives the process | [`LimitLedger`] |

mod adaptive;
mod bucket;
mod concurrency;
mod headers;
mod ledger;
mod limiter;
mod quota;
mod reported;
mod store;
mod throttle;
mod usage;
mod wait_queue;

pub(crate) use self::headers::date;
pub use self::headers::{
    BucketReader, Hint, RateHeaders, RateLimitInfo, RateLimitParser, ResetUnit, retry_after,
};
pub use self::ledger::{BucketRecord, FileLedger, Learned, LearnedWindow, LimitLedger, Spent};
pub(crate) use self::limiter::{Feedback, Limiter, Turn, Wait};
pub use self::quota::{
    BucketKey, Decision, Quota, RateLimitStore, Remaining, Reservation, gcra, rescale,
};
pub use self::store::MemoryLimits;
pub use self::throttle::Throttle;
pub use self::usage::BucketUse;
