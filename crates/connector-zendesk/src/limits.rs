//! The budgets of requests.

use pipeline_core::http::{HttpClientBuilder, Quota, RateHeaders};

/// Every ticketing request, by plan.
pub(crate) const SUPPORT: &str = "support";

/// Incremental exports. No header shows this budget, so it must be counted.
pub(crate) const EXPORT: &str = "export";

/// Declares the buckets.
pub(crate) fn declare(builder: HttpClientBuilder, share: f64, plan_rpm: u32, export_rpm: u32) -> HttpClientBuilder {
    builder
        .quota(SUPPORT, Quota::per_minute(plan_rpm).share(share))
        .quota(EXPORT, Quota::per_minute(export_rpm).burst(export_rpm))
        .rate_headers(RateHeaders::DELTA.for_bucket(SUPPORT).share(share))
}
