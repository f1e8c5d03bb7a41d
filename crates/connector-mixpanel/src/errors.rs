//! Reads Mixpanel's error answers: several meanings share the status 400, and queries fail with
//! status 200 too.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::ErrorKind;
use pipeline_core::http::{Classifier, ResponseAction, ResponseView, StatusCode};
use pipeline_core::rate_limit::{RateHeaders, RateLimitInfo, Throttle, retry_after};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::history::TOO_OLD;
use crate::limits::buckets_of;

/// The longest span that a limit of Mixpanel's counts by: whoever is told to wait longer is told
/// nonsense.
const LONGEST: Duration = Duration::from_hours(1);

const LOGIN_HELP: &str = "check the service account (it may be expired or removed from the project), the project id and the region";

const IN_BAND_HELP: &str =
    "mixpanel's answer says why: correct the report or the configuration, or deselect the stream";

/// The one answer whose members are called as a project likes: it lists the properties of an event.
const PROPERTIES: &str = "/api/query/events/properties/top";

/// Mixpanel's own reading of answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MixpanelClassifier;

impl Classifier for MixpanelClassifier {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        let text = String::from_utf8_lossy(answer.body);
        let fail = |kind, help: &str| Some(ResponseAction::Fail(kind, Some(help.to_owned())));
        match answer.status {
            // Concerns every request with these days alike. The walk asks for later ones.
            _ if text.contains(TOO_OLD) && answer.status.is_client_error() => fail(
                ErrorKind::ConfigInvalid,
                "the project keeps less history than asked for; set a later start_date, or fewer report_days",
            ),
            StatusCode::OK if is_enveloped(answer.request.url.path()) => {
                in_band_error(answer).map(|error| {
                    by_text(&error).unwrap_or_else(|| {
                        ResponseAction::Fail(ErrorKind::Refused, Some(IN_BAND_HELP.to_owned()))
                    })
                })
            }
            StatusCode::BAD_REQUEST if text.contains("Timeout Error") && is_export(answer) => {
                Some(ResponseAction::TooLarge)
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT if is_export(answer) => {
                Some(ResponseAction::TooLarge)
            }
            // The walk leaves the last day out, once.
            StatusCode::BAD_REQUEST
                if text.contains("to_date cannot be later") && is_export(answer) =>
            {
                Some(ResponseAction::ResetPagination)
            }
            StatusCode::BAD_REQUEST => by_text(&text),
            StatusCode::UNAUTHORIZED => fail(ErrorKind::Unauthenticated, LOGIN_HELP),
            StatusCode::PAYMENT_REQUIRED => fail(
                ErrorKind::Refused,
                "the plan or the billing of the project does not allow this call: settle it with Mixpanel, or deselect the stream",
            ),
            StatusCode::FORBIDDEN => fail(
                ErrorKind::PermissionDenied,
                "give the service account a role in this project",
            ),
            StatusCode::NOT_FOUND if text.contains("Missing Datagroup") => fail(
                ErrorKind::NotFound,
                "the cohort belongs to a group key that was deleted",
            ),
            StatusCode::NOT_FOUND => {
                fail(ErrorKind::NotFound, "check the project id and the region")
            }
            StatusCode::TOO_MANY_REQUESTS => Some(throttled(answer)),
            _ => None,
        }
    }
}

fn is_export(answer: &ResponseView<'_>) -> bool {
    answer.request.url.path().ends_with("/export")
}

/// What an error's text says, whatever its status.
fn by_text(text: &str) -> Option<ResponseAction> {
    let fail = |kind, help: &str| Some(ResponseAction::Fail(kind, Some(help.to_owned())));
    if text.contains("Unable to authenticate request") {
        fail(ErrorKind::Unauthenticated, LOGIN_HELP)
    } else if text.contains("to_date cannot be later than today") {
        fail(
            ErrorKind::ConfigInvalid,
            "the project's day is behind UTC: set include_today to false",
        )
    } else if text.contains("Timeout Error") {
        Some(ResponseAction::Retry {
            throttled: false,
            after: None,
        })
    } else if text.contains("rate limit exceeded") {
        Some(ResponseAction::Retry {
            throttled: true,
            after: None,
        })
    } else if text.contains("uncached query") {
        Some(ResponseAction::ResetPagination)
    } else {
        None
    }
}

/// True for answers that are one JSON document, whose members can say that it is an error.
fn is_enveloped(path: &str) -> bool {
    path.starts_with("/api/query/") || path.starts_with("/api/app/")
}

/// The error that a successful answer carries, if it does.
fn in_band_error(answer: &ResponseView<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        status: Option<&'a RawValue>,
    }
    let body = answer.body;
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
    let is_property = answer.request.url.path() == PROPERTIES;
    let counts = |value: &&RawValue| !(is_property && value.get().starts_with('{'));
    let is_refused = envelope
        .status
        .filter(counts)
        .is_some_and(|status| status.get() != "\"ok\"");
    (envelope.error.as_ref().is_some_and(counts) || is_refused).then(|| {
        envelope
            .error
            .map_or(String::new(), |error| error.get().to_owned())
    })
}

/// Which limit was hit and how long to wait: seconds for queries under way at once, up to an hour
/// for the hourly budget. Answers without rate-limit headers, as when the server sheds load, are
/// left to `Retry-After` or a growing delay.
fn throttled(answer: &ResponseView<'_>) -> ResponseAction {
    let hints = RateHeaders::Ietf.parse(answer.headers, DateTime::UNIX_EPOCH);
    let used_up = hints.into_iter().find(RateLimitInfo::is_used_up);
    let (Some(hint), Some((rate, pace))) = (used_up, buckets_of(answer.request)) else {
        return ResponseAction::Retry {
            throttled: true,
            after: is_too_long(answer).then_some(LONGEST),
        };
    };
    let scope = if hint.concurrency {
        Throttle::Concurrency(pace.into())
    } else {
        Throttle::Rate(rate.into())
    };
    let after = hint
        .reset
        .map(|reset| reset.min(LONGEST))
        .or_else(|| is_too_long(answer).then_some(LONGEST));
    ResponseAction::Throttled { scope, after }
}

/// True when `Retry-After` asks for longer than any limit lasts. A date that has no `Date` beside
/// it is not judged.
fn is_too_long(answer: &ResponseView<'_>) -> bool {
    retry_after(answer.headers, DateTime::<Utc>::MAX_UTC).is_some_and(|wait| wait > LONGEST)
}
