//! Rate limits: quotas per named bucket, reserved before a request is sent.

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;

/// What a vendor allows in one bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Requests (or cost units) per `per`.
    pub permits: f64,
    /// The span that `permits` refers to.
    pub per: Duration,
    /// Requests that may be sent at once after a pause.
    pub burst: NonZeroU32,
    /// Requests that may be under way at the same time; none: no limit.
    pub concurrency: Option<NonZeroU32>,
}

/// Names one bucket of one account. Two connections with the same credential share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketKey {
    /// Hash of vendor, host and credential identity; never the credential itself.
    pub account: u64,
    /// The bucket's name.
    pub bucket: String,
}

/// One bucket that a request counts against.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// The bucket.
    pub key: BucketKey,
    /// What it allows at the moment.
    pub quota: Quota,
    /// How many permits the request takes.
    pub cost: u32,
}

/// Answer to a reservation.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// Every bucket was charged.
    Granted,
    /// No bucket was charged; ask again after `wait`, because of `bucket`.
    Wait {
        /// How long until it can be granted.
        wait: Duration,
        /// The bucket that binds.
        bucket: String,
    },
}

/// Holds the buckets. Shared by everything that spends the same account's quota.
#[async_trait]
pub trait RateLimitStore: Send + Sync + Debug {
    /// Charges all buckets or none.
    async fn reserve(&self, charges: &[Charge]) -> Result<Grant>;

    /// Pauses a bucket for everybody: the vendor said so.
    async fn block(&self, key: &BucketKey, wait: Duration) -> Result<()>;
}

/// Buckets in the memory of this process.
#[derive(Debug, Default)]
pub struct MemoryLimits {}

#[async_trait]
impl RateLimitStore for MemoryLimits {
    async fn reserve(&self, _charges: &[Charge]) -> Result<Grant> {
        Ok(Grant::Granted)
    }

    async fn block(&self, _key: &BucketKey, _wait: Duration) -> Result<()> {
        Ok(())
    }
}
