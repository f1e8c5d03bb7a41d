//! What Zendesk's headers say about its limits, in every spelling that is in use.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use pipeline_core::http::{HeaderMap, ResponseView};
use pipeline_core::rate_limit::{Hint, RateLimitInfo, RateLimitParser};

use crate::limits::{HELP_CENTER, SUPPORT};

/// Names of the header that holds what the bucket of this request allows in a minute.
const LIMIT: [&str; 3] = ["x-rate-limit", "ratelimit-limit", "rate-limit"];
/// Of the one that holds what is left of it.
const REMAINING: [&str; 3] = [
    "x-rate-limit-remaining",
    "ratelimit-remaining",
    "rate-limit-remaining",
];
/// Of the one that holds the seconds until the minute ends.
const RESET: [&str; 2] = ["ratelimit-reset", "rate-limit-reset"];
/// Beginnings of the headers of single endpoints, which end in a name such as `tickets-index`.
const ENDPOINT: [&str; 2] = ["zendesk-ratelimit-", "zendesk-rate-limit-"];

/// Reads the headers of an answer.
///
/// They are about the bucket that served the request: the account's, or the Help Center's, which
/// has one of its own of the same size. An endpoint's own counter is about the bucket of its name.
/// The budget of exports is in no header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZendeskRates {
    /// Part of the account's limit that may be used.
    pub(crate) share: f64,
}

impl RateLimitParser for ZendeskRates {
    fn read(&self, answer: &ResponseView<'_>, now: DateTime<Utc>) -> Vec<Hint> {
        let path = answer.request.url.path();
        let served_by = if is_help_center(path) {
            HELP_CENTER
        } else {
            SUPPORT
        };
        let account = self
            .account(answer.headers, now)
            .map(|hint| (Cow::Borrowed(served_by), hint));
        let endpoints = answer.headers.iter().filter_map(|(name, value)| {
            let name = ENDPOINT
                .iter()
                .find_map(|beginning| name.as_str().strip_prefix(beginning))?;
            Some((Cow::Owned(name.to_owned()), endpoint(value.to_str().ok()?)?))
        });
        account.into_iter().chain(endpoints).collect()
    }
}

impl ZendeskRates {
    /// What others may still use counts as used up: `remaining` is the whole account's.
    fn account(self, headers: &HeaderMap, now: DateTime<Utc>) -> Option<RateLimitInfo> {
        let number = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| number(headers.get(*name)?.to_str().ok()?))
        };
        let (limit, remaining) = (number(&LIMIT), number(&REMAINING));
        if limit.is_none() && remaining.is_none() {
            return None;
        }
        let others = limit.map_or(0.0, |limit| limit * (1.0 - self.share));
        // Where nobody says when the minute ends, it is the clock's.
        let reset = number(&RESET).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let reset =
            reset.unwrap_or_else(|| Duration::from_secs(u64::from(60 - now.second().min(59))));
        Some(RateLimitInfo {
            limit: limit.map(|limit| limit * self.share),
            remaining: remaining.map(|left| (left - others).max(0.0)),
            reset: Some(reset),
            ..RateLimitInfo::default()
        })
    }
}

/// A number that a limit can be: `NaN`, `inf` and negative ones say nothing.
fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// True for what counts against the Help Center's budget.
pub(crate) fn is_help_center(path: &str) -> bool {
    ["/api/v2/help_center/", "/api/v2/community/"]
        .iter()
        .any(|beginning| path.starts_with(beginning))
}

/// An endpoint's counter, such as `total=100; remaining=99; resets=43`.
fn endpoint(text: &str) -> Option<RateLimitInfo> {
    let value = |name: &str| {
        let pairs = text
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        pairs
            .into_iter()
            .find(|(known, _)| *known == name)
            .and_then(|(_, value)| number(value))
    };
    let reset = value("resets").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Some(RateLimitInfo {
        limit: value("total"),
        remaining: Some(value("remaining")?),
        reset,
        ..RateLimitInfo::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pipeline_core::http::{HeaderName, Method, Request, StatusCode};

    use super::*;

    fn read(path: &str, headers: &[(&str, &str)]) -> String {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let request = Request::new(
            Method::GET,
            format!("https://acme.zendesk.com/api/v2/{path}")
                .parse()
                .unwrap(),
        );
        let answer = ResponseView {
            request: &request,
            status: StatusCode::OK,
            headers: &headers,
            body: b"{}",
        };
        let hints =
            ZendeskRates { share: 0.8 }.read(&answer, "2026-11-22T12:00:45Z".parse().unwrap());
        let shown = hints.into_iter().map(|(bucket, hint)| {
            format!(
                "{bucket}: {:.0} of {:.0} left for {:?}",
                hint.remaining.unwrap_or(-1.0),
                hint.limit.unwrap_or(-1.0),
                hint.reset.unwrap_or_default()
            )
        });
        shown.collect::<Vec<_>>().join("; ")
    }

    /// `c31`: both spellings of the reset, and the counter of an endpoint.
    #[test]
    fn c31_every_spelling_of_the_headers_is_read() {
        let newer = [
            ("X-Rate-Limit", "700"),
            ("X-Rate-Limit-Remaining", "699"),
            ("ratelimit-reset", "33"),
        ];
        assert_eq!(read("groups", &newer), "support: 559 of 560 left for 33s");
        let older = [
            ("rate-limit", "700"),
            ("rate-limit-remaining", "140"),
            ("rate-limit-reset", "12"),
        ];
        assert_eq!(
            read("groups", &older),
            "support: 0 of 560 left for 12s",
            "the rest is for others"
        );
        let help_center = [("x-rate-limit", "100"), ("x-rate-limit-remaining", "60")];
        assert_eq!(
            read("help_center/articles", &help_center),
            "help_center: 40 of 80 left for 15s"
        );
        assert_eq!(
            read("community/posts", &help_center),
            "help_center: 40 of 80 left for 15s"
        );
        for name in [
            "Zendesk-RateLimit-tickets-index",
            "Zendesk-Rate-Limit-tickets-index",
        ] {
            assert_eq!(
                read("tickets", &[(name, "total=100; remaining=0; resets=12")]),
                "tickets-index: 0 of 100 left for 12s"
            );
        }
        assert_eq!(
            read("tickets", &[("zendesk-ratelimit-tickets-index", "soon")]),
            ""
        );
        assert_eq!(read("routing/agents", &[]), "", "some services say nothing");
        for absurd in ["NaN", "inf", "-1", "1e999", "many"] {
            assert_eq!(
                read(
                    "groups",
                    &[("x-rate-limit", absurd), ("x-rate-limit-remaining", absurd)]
                ),
                "",
                "{absurd}"
            );
        }
    }
}
