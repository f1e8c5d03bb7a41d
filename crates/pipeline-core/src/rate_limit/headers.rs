//! What response headers say about limits: `Retry-After` and the families of rate-limit headers.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::message::ResponseView;

/// What a vendor says about one of its limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimitInfo {
    /// Requests allowed in a window, or at once.
    pub limit: Option<f64>,
    /// Requests left.
    pub remaining: Option<f64>,
    /// Time until there is more.
    pub reset: Option<Duration>,
    /// Length of the window, if reported.
    pub window: Option<Duration>,
    /// True when the limit is on requests under way at once.
    pub concurrency: bool,
    /// The vendor's own name of the limit.
    pub policy: Option<String>,
}

impl RateLimitInfo {
    /// Keeps only a part of what is reported, between 0 and 1: the rest of the limit is left to the
    /// account's other programs, so that nothing is left for this one when only that reserve is.
    pub fn share(self, part: f64) -> Self {
        if self.concurrency {
            return self;
        }
        let reserve = self.limit.map_or(0.0, |limit| limit * (1.0 - part));
        let remaining = self
            .remaining
            .map(|remaining| (remaining - reserve).max(0.0));
        Self {
            limit: self.limit.map(|limit| limit * part),
            remaining,
            ..self
        }
    }

    /// True when nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.remaining.is_some_and(|left| left <= 0.0)
    }

    /// Without what no limit can be: numbers that are negative or not finite, windows without a
    /// length, and times centuries ahead, which are cut to such as can be added to any
    /// other.
    pub(crate) fn plausible(self) -> Self {
        let number =
            |number: Option<f64>| number.filter(|number| number.is_finite() && *number >= 0.0);
        Self {
            limit: number(self.limit),
            remaining: number(self.remaining),
            reset: self.reset.map(|reset| reset.min(LONGEST_PAUSE)),
            window: self
                .window
                .filter(|window| !window.is_zero())
                .map(|window| window.min(LONGEST_PAUSE)),
            ..self
        }
    }

    fn says_something(&self) -> bool {
        self.limit.is_some() || self.remaining.is_some()
    }
}

/// A hint and the name of the bucket that it is about.
pub type Hint = (Cow<'static, str>, RateLimitInfo);

/// Reads what a vendor says about its limits, and which bucket each saying is about.
pub trait RateLimitParser: Send + Sync + Debug {
    /// What an answer says. `now` is the vendor's wall clock.
    fn read(&self, answer: &ResponseView<'_>, now: DateTime<Utc>) -> Vec<Hint>;
}

/// What the number in a reset header means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetUnit {
    /// Seconds from now.
    DeltaSeconds,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// A timestamp such as `2026-01-01T00:00:00Z`.
    Rfc3339,
    /// Whichever of these it looks like.
    Auto,
}

/// A family of rate-limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateHeaders {
    /// One number a header.
    Plain {
        /// Name of the header that holds the limit.
        limit: &'static str,
        /// Name of the header that holds what is left.
        remaining: &'static str,
        /// Name of the header that says when there is more.
        reset: &'static str,
        /// What that header contains.
        unit: ResetUnit,
    },
    /// `RateLimit` and `RateLimit-Policy` as the IETF's httpapi group drafts them, in every
    /// revision's spelling.
    Ietf,
}

impl RateHeaders {
    /// `x-ratelimit-*`, reset in seconds since 1970.
    pub const GITHUB: Self = Self::Plain {
        limit: "x-ratelimit-limit",
        remaining: "x-ratelimit-remaining",
        reset: "x-ratelimit-reset",
        unit: ResetUnit::EpochSeconds,
    };
    /// `ratelimit-*`, reset in seconds since 1970.
    pub const GITLAB: Self = Self::Plain {
        limit: "ratelimit-limit",
        remaining: "ratelimit-remaining",
        reset: "ratelimit-reset",
        unit: ResetUnit::EpochSeconds,
    };
    /// `x-rate-limit-*`, reset in seconds since 1970.
    pub const TWITTER: Self = Self::Plain {
        limit: "x-rate-limit-limit",
        remaining: "x-rate-limit-remaining",
        reset: "x-rate-limit-reset",
        unit: ResetUnit::EpochSeconds,
    };
    /// `x-rate-limit`, `x-rate-limit-remaining` and `ratelimit-reset`, reset in seconds from now.
    pub const DELTA: Self = Self::Plain {
        limit: "x-rate-limit",
        remaining: "x-rate-limit-remaining",
        reset: "ratelimit-reset",
        unit: ResetUnit::DeltaSeconds,
    };

    /// Reads the headers. `now` is the vendor's wall clock.
    pub fn parse(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Vec<RateLimitInfo> {
        let mut hints = match self {
            Self::Plain {
                limit,
                remaining,
                reset,
                unit,
            } => {
                let limit = text(headers, limit).and_then(number);
                let remaining = text(headers, remaining).and_then(number);
                let reset = text(headers, reset).and_then(|text| reset_in(&text, *unit, now));
                vec![RateLimitInfo {
                    limit,
                    remaining,
                    reset,
                    ..RateLimitInfo::default()
                }]
            }
            Self::Ietf => ietf(headers, now),
        };
        hints.retain(RateLimitInfo::says_something);
        hints.into_iter().map(RateLimitInfo::plausible).collect()
    }

    /// A reader that applies everything these headers say to one bucket.
    pub fn for_bucket(self, bucket: impl Into<Cow<'static, str>>) -> BucketReader {
        BucketReader {
            headers: self,
            bucket: bucket.into(),
            share: 1.0,
        }
    }
}

/// Applies what a family of headers says to one bucket.
#[derive(Clone, Debug)]
pub struct BucketReader {
    headers: RateHeaders,
    bucket: Cow<'static, str>,
    share: f64,
}

impl BucketReader {
    /// Uses only a part of the limit that the vendor reports, between 0 and 1; see
    /// [`Quota::share`](crate::rate_limit::Quota::share).
    pub fn share(mut self, part: f64) -> Self {
        self.share = part.clamp(0.01, 1.0);
        self
    }
}

impl RateLimitParser for BucketReader {
    fn read(&self, answer: &ResponseView<'_>, now: DateTime<Utc>) -> Vec<Hint> {
        let hints = self.headers.parse(answer.headers, now).into_iter();
        hints
            .map(|hint| (self.bucket.clone(), hint.share(self.share)))
            .collect()
    }
}

/// Policies that one answer reports, at most: what is beyond is not a vendor's.
const MOST_ITEMS: usize = 32;

/// The longest pause that a header can ask for, a hundred years: short enough to be added to any
/// time.
const LONGEST_PAUSE: Duration = Duration::from_hours(100 * 365 * 24);

/// How long `Retry-After` asks to wait: seconds, whole or not, or a date in any of HTTP's three
/// forms. A date counts from the response's own `Date`, so that a wrong local clock does not
/// matter. Nonsense is not an answer.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    if let Some(seconds) = number(value.clone()) {
        return Some(
            Duration::try_from_secs_f64(seconds)
                .unwrap_or(LONGEST_PAUSE)
                .min(LONGEST_PAUSE),
        );
    }
    let at = httpdate::parse_http_date(&value).ok()?;
    let from = date(headers).unwrap_or_else(|| now.into());
    Some(
        at.duration_since(from)
            .unwrap_or_default()
            .min(LONGEST_PAUSE),
    )
}

/// The response's own time.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::trim);
    let first = values.next()?.to_owned();
    Some(values.fold(first, |all, value| all + "," + value))
}

/// A number that is finite and not negative.
fn number(text: impl AsRef<str>) -> Option<f64> {
    let text = text.as_ref().trim();
    let looks_right = text.starts_with(|first: char| first.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number: &f64| looks_right && number.is_finite())
}

fn reset_in(text: &str, unit: ResetUnit, now: DateTime<Utc>) -> Option<Duration> {
    let until = |at: Option<DateTime<Utc>>| Some((at? - now).to_std().unwrap_or_default());
    let parsed = number(text);
    match unit {
        ResetUnit::DeltaSeconds => Duration::try_from_secs_f64(parsed?).ok(),
        ResetUnit::EpochSeconds => until(DateTime::from_timestamp_millis(millis(parsed? * 1000.0))),
        ResetUnit::EpochMillis => until(DateTime::from_timestamp_millis(millis(parsed?))),
        ResetUnit::Rfc3339 => until(DateTime::parse_from_rfc3339(text).ok().map(Into::into)),
        ResetUnit::Auto => {
            let unit = match parsed {
                None => ResetUnit::Rfc3339,
                Some(number) if number > 1e12 => ResetUnit::EpochMillis,
                Some(number) if number > 1e9 => ResetUnit::EpochSeconds,
                Some(_) => ResetUnit::DeltaSeconds,
            };
            reset_in(text, unit, now)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "casts from float saturate, and no date is that far away"
)]
fn millis(number: f64) -> i64 {
    number as i64
}

/// One member of a structured field: `"name";key=value`.
struct Item {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Item {
    fn get(&self, key: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(number)
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        self.number(key)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

fn items(text: &str) -> Vec<Item> {
    let unquoted = |text: &str| text.trim().trim_matches('"').to_owned();
    let parse = |item: &str| {
        let mut parts = split_unquoted(item, ';').into_iter();
        let name = unquoted(parts.next().unwrap_or_default());
        let pair = |part: &str| {
            part.split_once('=')
                .map(|(key, value)| (key.trim().to_ascii_lowercase(), unquoted(value)))
        };
        Item {
            name,
            parameters: parts.filter_map(pair).collect(),
        }
    };
    split_unquoted(text, ',')
        .into_iter()
        .filter(|item| !item.trim().is_empty())
        .take(MOST_ITEMS)
        .map(parse)
        .collect()
}

fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|character: char| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
    .collect()
}

/// Reads the IETF draft's headers: revision 8 and later name each policy, revision 7 has one
/// dictionary, and older ones have a header for each number.
fn ietf(headers: &HeaderMap, now: DateTime<Utc>) -> Vec<RateLimitInfo> {
    let policies = text(headers, "ratelimit-policy")
        .map(|text| items(&text))
        .unwrap_or_default();
    let Some(state) = text(headers, "ratelimit") else {
        // A policy says something by itself.
        return ietf_separate(headers, &policies, now).map_or_else(
            || policies.iter().map(ietf_policy).collect(),
            |hint| vec![hint],
        );
    };
    let members = items(&state);
    if members.iter().any(|item| item.name.contains('=')) {
        let mut hint = RateLimitInfo::default();
        for (key, value) in members.iter().filter_map(|item| item.name.split_once('=')) {
            match key.trim() {
                "limit" => hint.limit = number(value),
                "remaining" => hint.remaining = number(value),
                "reset" => hint.reset = reset_in(value.trim(), ResetUnit::Auto, now),
                _ => {}
            }
        }
        hint.window = window_of(&policies, hint.limit);
        return vec![hint];
    }
    members
        .iter()
        .map(|item| {
            ietf_named(
                item,
                policies.iter().find(|policy| policy.name == item.name),
            )
        })
        .collect()
}

fn ietf_named(item: &Item, policy: Option<&Item>) -> RateLimitInfo {
    RateLimitInfo {
        // `a` and `w` are the names that the group considers in place of `r` and `t`.
        remaining: item.number("r").or_else(|| item.number("a")),
        reset: item.seconds("t").or_else(|| item.seconds("w")),
        policy: Some(item.name.clone()),
        ..policy.map_or_else(RateLimitInfo::default, ietf_policy)
    }
}

/// What a policy says of itself; older revisions call it by its limit.
fn ietf_policy(policy: &Item) -> RateLimitInfo {
    RateLimitInfo {
        limit: policy.number("q").or_else(|| number(&policy.name)),
        window: policy.seconds("w"),
        concurrency: policy.get("qu") == Some("concurrent-requests"),
        policy: Some(policy.name.clone()),
        ..RateLimitInfo::default()
    }
}

fn ietf_separate(
    headers: &HeaderMap,
    policies: &[Item],
    now: DateTime<Utc>,
) -> Option<RateLimitInfo> {
    let told = items(&text(headers, "ratelimit-limit")?);
    let limit = told.first().and_then(|item| number(&item.name));
    Some(RateLimitInfo {
        limit,
        remaining: text(headers, "ratelimit-remaining").and_then(number),
        reset: text(headers, "ratelimit-reset")
            .and_then(|text| reset_in(&text, ResetUnit::Auto, now)),
        window: window_of(&told, limit).or_else(|| window_of(policies, limit)),
        ..RateLimitInfo::default()
    })
}

/// The window of the policy that has this limit, where policies are named by their limit:
/// `100;w=60`.
fn window_of(policies: &[Item], limit: Option<f64>) -> Option<Duration> {
    policies
        .iter()
        .filter(|policy| limit.is_some() && number(&policy.name) == limit)
        .find_map(|policy| policy.seconds("w"))
}
