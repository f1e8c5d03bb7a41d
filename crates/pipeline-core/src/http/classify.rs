//! What an answer means: the vendor's classifier is asked first, then this default.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{HeaderMap, PROXY_CREDENTIALS, Request, StatusCode};
use crate::error::ErrorKind;

/// What to do with a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseAction {
    /// Take it.
    Accept,
    /// Send the request again.
    Retry {
        /// True when the vendor says that requests come too fast. The narrowest bucket of the request then pauses; use
        /// [`Throttled`](Self::Throttled) when the vendor says which limit was hit.
        throttled: bool,
        /// How long the vendor asks to wait; none: what `Retry-After` says, or a growing delay.
        after: Option<Duration>,
    },
    /// Send the request again, and take a third failure for the sign that a smaller answer should be asked for: the vendor
    /// ran out of time or broke off.
    TooLarge,
    /// Send the request once more and then give up: the vendor says that trying again does not help, which it can be wrong
    /// about as far as reading goes.
    RetryOnce,
    /// Send the request again, once the limit that the vendor names lets it.
    Throttled {
        /// The limit that was hit.
        scope: Throttle,
        /// How long the vendor asks to wait; none: what `Retry-After` says, or a growing delay.
        after: Option<Duration>,
    },
    /// Refresh the credential once and send the request again.
    RefreshAuth,
    /// Take it as a page without records: a sub-resource that is gone.
    Ignore,
    /// The vendor refuses the position: recover it.
    ResetPagination,
    /// Fail with this kind; what the user can do about it is told by the second part. For [`ErrorKind::Refused`] it can be left
    /// out. [`ErrorKind::Unexpected`] is for a request that the vendor calls malformed: a defect of ours.
    Fail(ErrorKind, Option<String>),
}

/// The limit that a throttled request hit, by the name of its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// Too many requests in a span: the bucket pauses for everybody.
    Rate(Cow<'static, str>),
    /// Too many requests at once: fewer are under way from now on.
    Concurrency(Cow<'static, str>),
}

/// What a classifier sees of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The request that was sent, without credentials.
    pub request: &'a Request,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body: whole when it is held in memory, its beginning when it is on disk.
    pub body: &'a [u8],
}

/// A vendor's own reading of answers. Asked before the default one; no opinion is the default's turn.
pub trait Classifier: Send + Sync + Debug {
    /// Says what to do with an answer.
    fn classify(&self, answer: &Answer<'_>) -> Option<ResponseAction>;
}

/// The default reading. Unknown means neither retry nor defect: the vendor refuses, and its words say why.
pub(super) fn default_action(answer: &Answer<'_>) -> ResponseAction {
    let retry = |throttled| ResponseAction::Retry { throttled, after: None };
    match answer.status.as_u16() {
        200..=299 if is_web_page(answer) => ResponseAction::Fail(ErrorKind::Refused, None),
        200..=299 => ResponseAction::Accept,
        401 => ResponseAction::RefreshAuth,
        403 => ResponseAction::Fail(ErrorKind::PermissionDenied, None),
        404 | 410 => ResponseAction::Fail(ErrorKind::NotFound, None),
        407 => ResponseAction::Fail(ErrorKind::ConfigInvalid, Some(PROXY_CREDENTIALS.to_owned())),
        413 | 414 => ResponseAction::Fail(ErrorKind::TooLarge, None),
        429 => retry(true),
        408 | 425 | 500..=599 => retry(false),
        _ => ResponseAction::Fail(ErrorKind::Refused, None),
    }
}

/// True for HTML, whatever the status says. The content decides over a content type that lies.
pub(super) fn is_web_page(answer: &Answer<'_>) -> bool {
    let declared = answer.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"text/html"));
    match without_bom(answer.body).trim_ascii_start().first() {
        None => declared && answer.status != StatusCode::NO_CONTENT,
        Some(b'<') => true,
        Some(b'{' | b'[') => false,
        Some(_) => declared,
    }
}

/// True when a JSON document is empty or does not end as it began: it was cut off.
pub(super) fn is_cut_off(body: &[u8]) -> bool {
    let body = without_bom(body).trim_ascii();
    match (body.first(), body.last()) {
        (None, _) | (_, None) => true,
        (Some(b'{'), Some(last)) => *last != b'}' || body.len() == 1,
        (Some(b'['), Some(last)) => *last != b']' || body.len() == 1,
        _ => false,
    }
}

/// True for a JSON object with an error, such as one that comes with a success and in the place of records.
pub(super) fn says_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        errors: Option<&'a RawValue>,
    }
    let is_told = |value: &RawValue| !matches!(value.get(), "null" | "false" | "\"\"" | "[]" | "{}");
    let envelope = serde_json::from_slice::<Envelope<'_>>(without_bom(body));
    envelope.is_ok_and(|Envelope { error, errors }| error.into_iter().chain(errors).any(is_told))
}

/// True for a body that does not even begin like JSON: what it says is no record.
pub(super) fn is_prose(body: &[u8]) -> bool {
    without_bom(body).trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic) && serde_json::from_slice::<&RawValue>(body).is_err()
}

fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}
