//! What Stripe's answers mean.

use pipeline_core::ErrorKind;
use pipeline_core::http::{Classifier, HeaderMap, Request, ResponseAction, ResponseView};
use pipeline_core::rate_limit::Throttle;
use serde::{Deserialize, Deserializer};

use crate::limits::{ACCOUNT, operation};
use crate::streams::{belongs_to_record, is_of_account, is_of_one_record, template};

#[cfg(test)]
mod tests;

/// Phrases of refusals that concern what the account or its mode has, and not how it was asked.
/// They carry no code.
const NOT_AVAILABLE: [&str; 13] = [
    "Unrecognized request URL",
    "not set up to use",
    "not set up for",
    "not enabled",
    "isn't enabled",
    "Have you onboarded",
    "only available in",
    "not available",
    "not supported for your account",
    "not eligible",
    "signed up for",
    "sign up for",
    "must be enabled",
];

/// Codes of refusals of the request itself, whatever it is about. Codes of single parameters begin
/// with [`INVALID_PARAMETER`].
const MALFORMED: [&str; 4] = [
    "parameter_missing",
    "parameter_unknown",
    "parameters_exclusive",
    "url_invalid",
];

const INVALID_PARAMETER: &str = "parameter_invalid_";

/// What to do when Stripe does not name the permission that is missing.
const PERMIT: &str = "give the key the permission that Stripe's answer asks for in Stripe's dashboard (for connected accounts, among its \
                      Connect permissions), or deselect the stream";

/// What to do when the account does not have what was asked for.
const ENABLE: &str = "the account, or its mode, does not have what Stripe's answer names: enable it in the dashboard, or deselect the stream";

/// What to do about a refusal that is not known.
const REFUSED: &str = "Stripe refuses this request, and its answer says why: change that in the dashboard, or deselect the stream";

/// What to do when the key cannot read an account at all.
const CONNECT: &str =
    "the key does not open this account: it does not exist, or is not connected any more";

/// Reads Stripe's answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripeAnswers;

impl Classifier for StripeAnswers {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        if answer.status.is_success() {
            // An error that a proxy or an outage has sent as if it were a success.
            let refusal = is_error(answer.body)
                .then(|| Refusal::read(answer.body))
                .filter(|refusal| !refusal.is_empty());
            return refusal.map(|refusal| refuse(400, &refusal, answer));
        }
        let refusal = Refusal::read(answer.body);
        Some(match answer.status.as_u16() {
            400 | 404 if refusal.is_of_missing() => missing(answer.request, &refusal),
            // Somebody else's request holds the object: not our pace.
            429 if refusal.code == "lock_timeout" => RETRY,
            429 => throttled(answer),
            // Versions of long ago limited with 400.
            400 if refusal.code == "rate_limit" => throttled(answer),
            // Reading changes nothing, so it is tried again even when Stripe says that it does not
            // help: once.
            500..=599 if text(answer.headers, SHOULD_RETRY) == "false" => ResponseAction::RetryOnce,
            409 | 424 | 500..=599 => RETRY,
            // Said by whoever stands between Stripe and here, or meant as everywhere: a cache, a
            // proxy, a timeout, a size.
            304 | 407 | 408 | 413 | 414 | 425 => return None,
            status => refuse(status, &refusal, answer),
        })
    }
}

/// The header in which Stripe says whether trying again can help.
const SHOULD_RETRY: &str = "stripe-should-retry";

const RETRY: ResponseAction = ResponseAction::Retry {
    throttled: false,
    after: None,
};

/// What was asked for, or asked with, is not there (any more).
fn missing(request: &Request, refusal: &Refusal) -> ResponseAction {
    let path = request.url.path();
    let names_parent = request.query.iter().any(|(name, _)| *name == refusal.param)
        || is_of_one_record(path, &request.query);
    match &*refusal.param {
        "starting_after" => ResponseAction::ResetPagination,
        // The record that the list belongs to was deleted meanwhile, and its list with it.
        _ if names_parent || belongs_to_record(path) => ResponseAction::Ignore,
        _ => ResponseAction::Fail(ErrorKind::NotFound, None),
    }
}

/// Slows down what Stripe names. It names nothing in some answers, and a limit of one object in
/// others.
fn throttled(answer: &ResponseView<'_>) -> ResponseAction {
    let operation = || operation(&template(answer.request.url.path())).into();
    let scope = match text(answer.headers, "stripe-rate-limited-reason") {
        "endpoint-rate" => Throttle::Rate(operation()),
        "endpoint-concurrency" => Throttle::Concurrency(operation()),
        "global-rate" => Throttle::Rate(ACCOUNT.into()),
        "global-concurrency" => Throttle::Concurrency(ACCOUNT.into()),
        _ => {
            return ResponseAction::Retry {
                throttled: true,
                after: None,
            };
        }
    };
    ResponseAction::Throttled { scope, after: None }
}

/// Answers that will be the same next time, unless Stripe says otherwise.
fn refuse(status: u16, refusal: &Refusal, answer: &ResponseView<'_>) -> ResponseAction {
    let fail = |kind, help: String| ResponseAction::Fail(kind, Some(help));
    match (status, refusal.permission()) {
        // Not a refusal of one list: nothing of the account can be read.
        (403, _) if refusal.code == "account_invalid" => fail(ErrorKind::Unsupported, CONNECT.to_owned()),
        (401 | 403, Some(permission)) => fail(
            ErrorKind::PermissionDenied,
            format!("give the restricted key the permission `{permission}` in Stripe's dashboard, or deselect the stream"),
        ),
        // Live restricted keys are refused with either status.
        (401, None) if refusal.message.contains("permission") => fail(ErrorKind::PermissionDenied, PERMIT.to_owned()),
        (400 | 403 | 404, _) if refusal.is_of_product() => fail(ErrorKind::PermissionDenied, ENABLE.to_owned()),
        (403, None) => fail(ErrorKind::PermissionDenied, PERMIT.to_owned()),
        (401, None) if refusal.code.ends_with("api_key_expired") => {
            fail(ErrorKind::Unauthenticated, format!("stripe says `{}`: make a new key in its dashboard", refusal.code))
        }
        (401, None) => fail(
            ErrorKind::Unauthenticated,
            "check that the API key is complete and was not deleted or replaced in Stripe's dashboard".to_owned(),
        ),
        _ if text(answer.headers, SHOULD_RETRY) == "true" => RETRY,
        (400, _) if refusal.is_malformed(answer.request) => ResponseAction::Fail(ErrorKind::Unexpected, None),
        _ if refusal.is_empty() => ResponseAction::Fail(ErrorKind::Refused, None),
        _ => fail(ErrorKind::Refused, REFUSED.to_owned()),
    }
}

/// Whether a body begins as the envelope of errors does, whose only member is the error.
fn is_error(body: &[u8]) -> bool {
    let inside = body
        .trim_ascii_start()
        .strip_prefix(b"{")
        .map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|inside| inside.starts_with(br#""error""#))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// What Stripe says in the excerpt of an answer; all of it when that cannot be told.
pub(crate) fn words(excerpt: &str) -> String {
    let said = Refusal::read(excerpt.as_bytes()).message;
    if said.is_empty() {
        excerpt.to_owned()
    } else {
        said
    }
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
        serde_json::from_slice::<Envelope>(body)
            .unwrap_or_default()
            .error
    }

    /// True when the body could not be read: it may have been cut off.
    fn is_empty(&self) -> bool {
        self.code.is_empty() && self.message.is_empty()
    }

    /// Whether what was asked for, or asked with, does not exist.
    fn is_of_missing(&self) -> bool {
        self.code == "resource_missing"
            || (self.code.is_empty() && self.message.starts_with("No such "))
    }

    /// Whether the account lacks a product, or its mode a resource.
    fn is_of_product(&self) -> bool {
        self.code.is_empty()
            && NOT_AVAILABLE
                .iter()
                .any(|phrase| self.message.contains(phrase))
    }

    /// Whether this program asked for something that Stripe's API does not have. What a request
    /// about one record says of it is the record's matter, but for parameters and members that no
    /// record has.
    fn is_malformed(&self, request: &Request) -> bool {
        let is_expansion =
            self.param.starts_with("expand") || self.message.contains("cannot be expanded");
        let is_coded = MALFORMED.contains(&&*self.code) || self.code.starts_with(INVALID_PARAMETER);
        self.code == "parameter_unknown"
            || is_expansion
            || (is_coded && is_of_account(request.url.path()))
    }

    /// The permission that is missing, such as `rak_charge_read` or, in newer answers,
    /// `charge_read`.
    fn permission(&self) -> Option<&str> {
        let words = || {
            self.message
                .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        };
        let is_permission = |word: &&str| {
            let scope = word
                .strip_suffix("_read")
                .or(word.strip_suffix("_write"))
                .unwrap_or_default();
            !scope.is_empty()
                && scope.bytes().all(|letter| {
                    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_'
                })
        };
        words()
            .find(|word| word.starts_with("rak_"))
            .or_else(|| words().find(is_permission))
    }
}
