//! The budgets of requests, each of one project whatever the credentials.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use pipeline_core::http::{HttpClientBuilder, Request, ResponseView};
use pipeline_core::rate_limit::{Quota, RateHeaders, RateLimitInfo, RateLimitParser};

/// Raw exports of the last hour.
pub(crate) const EXPORT: &str = "export";

/// Raw exports of the last second, and those under way.
pub(crate) const EXPORT_PACE: &str = "export_pace";

/// Queries of the last hour. The pages of a profile scan after its first are not counted.
pub(crate) const QUERY: &str = "query";

/// Queries under way, follow-up pages included.
pub(crate) const QUERY_PACE: &str = "query_pace";

/// What Mixpanel's own pages are made of: no limit is published, and nothing is counted against the
/// hour.
pub(crate) const APP: &str = "app";

/// The Lexicon, of the last minute.
pub(crate) const LEXICON: &str = "lexicon";

/// What Mixpanel publishes for every project in an hour, of exports and of queries. Some have more,
/// as answers then tell.
const HOURLY: u32 = 60;

/// What it allows in a second.
const SECONDLY: u32 = 3;

/// Exports under way at once. Mixpanel allows 100; a few saturate a line, and each fills a
/// temporary file until it is loaded.
pub(crate) const EXPORTS_AT_ONCE: u8 = 4;

/// Queries under way at once: Mixpanel's own limit.
const QUERIES_AT_ONCE: u32 = 5;

/// Requests for the Lexicon in a minute.
const MINUTELY: u32 = 5;

/// Requests to Mixpanel's own pages in a second: few are ever needed.
const APP_SECONDLY: u32 = 5;

/// The most that whoever runs this allows in an hour; none: what Mixpanel does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hourly {
    pub(crate) exports: Option<u32>,
    pub(crate) queries: Option<u32>,
}

/// Declares the buckets.
pub(crate) fn declare(builder: HttpClientBuilder, share: f64, hourly: Hourly) -> HttpClientBuilder {
    let hour = |most: Option<u32>| {
        most.map_or_else(|| Quota::per_hour(HOURLY).published(), Quota::per_hour)
            .share(share)
    };
    builder
        .quota(EXPORT, hour(hourly.exports))
        .quota(
            EXPORT_PACE,
            Quota::per_second(SECONDLY).concurrency(EXPORTS_AT_ONCE.into()),
        )
        .quota(QUERY, hour(hourly.queries))
        .quota(
            QUERY_PACE,
            Quota::per_second(SECONDLY).concurrency(QUERIES_AT_ONCE),
        )
        .quota(
            APP,
            Quota::per_second(APP_SECONDLY).concurrency(QUERIES_AT_ONCE),
        )
        .quota(LEXICON, Quota::per_minute(MINUTELY))
        .rate_headers(Rates { share })
}

/// The buckets, for rates and for requests under way, that answers to a request are about; none for
/// what is not counted.
pub(crate) fn buckets_of(request: &Request) -> Option<(&'static str, &'static str)> {
    match request.url.path() {
        path if path.starts_with("/api/query/") => Some((QUERY, QUERY_PACE)),
        "/api/2.0/export" => Some((EXPORT, EXPORT_PACE)),
        _ => None,
    }
}

/// Reads the limits that answers tell: a project's own can differ from the published ones.
#[derive(Clone, Copy, Debug)]
struct Rates {
    share: f64,
}

impl RateLimitParser for Rates {
    fn read(
        &self,
        answer: &ResponseView<'_>,
        now: DateTime<Utc>,
    ) -> Vec<(Cow<'static, str>, RateLimitInfo)> {
        let Some((rate, pace)) = buckets_of(answer.request) else {
            return Vec::new();
        };
        let hints = RateHeaders::Ietf.parse(answer.headers, now).into_iter();
        hints
            .map(|hint| {
                (
                    if hint.concurrency { pace } else { rate }.into(),
                    hint.share(self.share),
                )
            })
            .collect()
    }
}
