//! The budgets of requests, each of one project whatever the credentials.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use pipeline_core::http::{Answer, HttpClientBuilder, Quota, RateHeaders, RateHint, RateReader};

/// Raw exports of the last hour.
pub(crate) const EXPORT: &str = "export";

/// Raw exports of the last second, and those under way.
pub(crate) const EXPORT_PACE: &str = "export_pace";

/// Queries of the last hour. The pages of a profile scan after its first are not counted.
pub(crate) const QUERY: &str = "query";

/// Queries under way, follow-up pages included.
pub(crate) const QUERY_PACE: &str = "query_pace";

/// What Mixpanel allows a project in an hour, of exports and of queries.
const HOURLY: u32 = 60;

/// What it allows in a second.
const SECONDLY: u32 = 3;

/// Exports under way at once. Mixpanel allows 100; a few saturate a line, and each fills a temporary file until it is
/// loaded.
pub(crate) const EXPORTS_AT_ONCE: u8 = 4;

/// Queries under way at once: Mixpanel's own limit.
const QUERIES_AT_ONCE: u32 = 5;

/// Declares the buckets.
pub(crate) fn declare(builder: HttpClientBuilder, share: f64) -> HttpClientBuilder {
    builder
        .quota(EXPORT, Quota::per_hour(HOURLY).share(share))
        .quota(EXPORT_PACE, Quota::per_second(SECONDLY).concurrency(EXPORTS_AT_ONCE.into()))
        .quota(QUERY, Quota::per_hour(HOURLY).share(share))
        .quota(QUERY_PACE, Quota::per_second(SECONDLY).concurrency(QUERIES_AT_ONCE))
        .rate_headers(QueryRates { share })
}

/// Reads the limits that answers of the Query API tell: a project's own can differ from the published ones.
#[derive(Clone, Copy, Debug)]
struct QueryRates {
    share: f64,
}

impl RateReader for QueryRates {
    fn read(&self, answer: &Answer<'_>, now: DateTime<Utc>) -> Vec<(Cow<'static, str>, RateHint)> {
        let hints = RateHeaders::Ietf.parse(answer.headers, now).into_iter();
        let shared = |hint: RateHint| RateHint { limit: hint.limit.map(|limit| limit * self.share), ..hint };
        let placed = |hint: RateHint| if hint.concurrency { (QUERY_PACE.into(), hint) } else { (QUERY.into(), shared(hint)) };
        hints.map(placed).collect()
    }
}
