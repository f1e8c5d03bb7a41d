//! What Stripe's answers mean.

use pipeline_core::ErrorKind;
use pipeline_core::http::{Answer, Classifier, HeaderMap, Request, ResponseAction, Throttle};
use serde::{Deserialize, Deserializer};

use crate::streams::{ACCOUNT, belongs_to_record, operation, template};

#[cfg(test)]
mod tests;

/// Phrases of the refusals that say that the account does not have a product. They carry no code.
const NOT_ENABLED: [&str; 4] = ["not set up to use", "not set up for", "not enabled", "isn't enabled"];

/// What to do when Stripe does not name the permission that is missing.
const PERMIT: &str = "give the key read permission in Stripe's dashboard, or deselect the stream";

/// What to do when the key cannot read an account at all.
const CONNECT: &str = "the key does not open this account: it does not exist, or is not connected any more";

/// Reads Stripe's answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripeAnswers;

impl Classifier for StripeAnswers {
    fn classify(&self, answer: &Answer<'_>) -> Option<ResponseAction> {
        if answer.status.is_success() {
            return None;
        }
        let refusal = Refusal::read(answer.body);
        Some(match answer.status.as_u16() {
            400 | 404 if refusal.code == "resource_missing" => missing(answer.request, &refusal),
            // Somebody else's request holds the object: not our pace.
            429 if refusal.code == "lock_timeout" => RETRY,
            429 => throttled(answer),
            // Versions of long ago limited with 400.
            400 if refusal.code == "rate_limit" => throttled(answer),
            // Reading changes nothing, so it is tried again even when Stripe says that it does not help: once.
            500..=599 if text(answer.headers, SHOULD_RETRY) == "false" => ResponseAction::RetryOnce,
            409 | 424 | 500..=599 => RETRY,
            status => refuse(status, &refusal, answer.headers),
        })
    }
}

/// The header in which Stripe says whether trying again can help.
const SHOULD_RETRY: &str = "stripe-should-retry";

const RETRY: ResponseAction = ResponseAction::Retry { throttled: false, after: None };

/// What was asked for, or asked with, is not there (any more).
fn missing(request: &Request, refusal: &Refusal) -> ResponseAction {
    let names_parent = request.query.iter().any(|(name, _)| *name == refusal.param);
    match &*refusal.param {
        "starting_after" => ResponseAction::ResetPagination,
        // The record that the list belongs to was deleted meanwhile, and its list with it.
        _ if names_parent || belongs_to_record(request.url.path()) => ResponseAction::Ignore,
        _ => ResponseAction::Fail(ErrorKind::NotFound, None),
    }
}

/// Slows down what Stripe names. It names nothing in some answers, and a limit of one object in others.
fn throttled(answer: &Answer<'_>) -> ResponseAction {
    let operation = || operation(&template(answer.request.url.path())).into();
    let scope = match text(answer.headers, "stripe-rate-limited-reason") {
        "endpoint-rate" => Throttle::Rate(operation()),
        "endpoint-concurrency" => Throttle::Concurrency(operation()),
        "global-rate" => Throttle::Rate(ACCOUNT.into()),
        "global-concurrency" => Throttle::Concurrency(ACCOUNT.into()),
        _ => return ResponseAction::Retry { throttled: true, after: None },
    };
    ResponseAction::Throttled { scope, after: None }
}

/// Answers that will be the same next time, unless Stripe says otherwise.
fn refuse(status: u16, refusal: &Refusal, headers: &HeaderMap) -> ResponseAction {
    let fail = |kind, help: String| ResponseAction::Fail(kind, Some(help));
    match (status, refusal.permission()) {
        // No refusal of one list: nothing of the account can be read.
        (403, _) if refusal.code == "account_invalid" => fail(ErrorKind::Unsupported, CONNECT.to_owned()),
        (401 | 403, Some(permission)) => fail(
            ErrorKind::PermissionDenied,
            format!("give the restricted key the permission `{permission}` in Stripe's dashboard, or deselect the stream"),
        ),
        // Live restricted keys are refused with either status.
        (401, None) if refusal.message.contains("permission") => fail(ErrorKind::PermissionDenied, PERMIT.to_owned()),
        (403, None) => fail(ErrorKind::PermissionDenied, PERMIT.to_owned()),
        (400, _) if NOT_ENABLED.iter().any(|phrase| refusal.message.contains(phrase)) => fail(
            ErrorKind::PermissionDenied,
            "the account does not have this product of Stripe's: enable it in the dashboard, or deselect the stream".to_owned(),
        ),
        (401, None) if refusal.code.ends_with("api_key_expired") => {
            fail(ErrorKind::Unauthenticated, format!("stripe says `{}`: make a new key in its dashboard", refusal.code))
        }
        (401, None) => fail(
            ErrorKind::Unauthenticated,
            "check that the API key is complete and was not deleted or replaced in Stripe's dashboard".to_owned(),
        ),
        _ if text(headers, SHOULD_RETRY) == "true" => RETRY,
        (404, _) if !refusal.is_empty() => ResponseAction::Fail(ErrorKind::NotFound, None),
        _ => ResponseAction::Fail(ErrorKind::Unexpected, None),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The envelope of errors. What is missing in it is empty here; proxies send other bodies or none.
#[derive(Debug, Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    error: Refusal,
}

/// Why Stripe refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    #[serde(deserialize_with = "text_or_null")]
    code: String,
    #[serde(deserialize_with = "text_or_null")]
    message: String,
    #[serde(deserialize_with = "text_or_null")]
    param: String,
}

fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Refusal {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice::<Envelope>(body).unwrap_or_default().error
    }

    /// True when the body could not be read: it may have been cut off.
    fn is_empty(&self) -> bool {
        self.code.is_empty() && self.message.is_empty()
    }

    /// The permission that is missing, such as `rak_charge_read`.
    fn permission(&self) -> Option<&str> {
        let words = self.message.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        words.into_iter().find(|word| word.starts_with("rak_"))
    }
}
