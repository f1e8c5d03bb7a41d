//! What an answer means: the vendor's classifier is asked first, then this default.

use std::fmt::Debug;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ErrorKind;
use crate::http::StatusCode;
use crate::http::transport::PROXY_CREDENTIALS;
use crate::message::ResponseView;
use crate::rate_limit::Throttle;

/// What to do with a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseAction {
    /// Take it.
    Accept,
    /// Send the request again.
    Retry {
        /// True when the vendor says that requests come too fast. The narrowest bucket of the
        /// request then pauses; use [`Throttled`](Self::Throttled) when the vendor says which limit
        /// was hit.
        throttled: bool,
        /// How long the vendor asks to wait; none: what `Retry-After` says, or a growing delay.
        after: Option<Duration>,
    },
    /// Send the request again, and take a third failure for the sign that a smaller answer should
    /// be asked for: the vendor ran out of time or broke off.
    TooLarge,
    /// Send the request once more and then give up: the vendor says that trying again does not
    /// help, which it can be wrong about as far as reading goes.
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
    /// Fail with this kind; the second part says what the user can do about it. For
    /// [`ErrorKind::Refused`] it can be left out. [`ErrorKind::Unexpected`] is for a request that
    /// the vendor calls malformed: a defect of ours.
    Fail(ErrorKind, Option<String>),
}

/// A vendor's own reading of answers. Asked before the default one; no opinion is the default's
/// turn.
pub trait Classifier: Send + Sync + Debug {
    /// Says what to do with an answer.
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction>;
}

/// The default reading. Unknown means neither retry nor defect: the vendor refuses, and its words
/// say why.
pub(crate) fn default_action(answer: &ResponseView<'_>) -> ResponseAction {
    let retry = |throttled| ResponseAction::Retry {
        throttled,
        after: None,
    };
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
pub(crate) fn is_web_page(answer: &ResponseView<'_>) -> bool {
    let declared = answer.headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"text/html")
    });
    match without_bom(answer.body).trim_ascii_start().first() {
        None => declared && answer.status != StatusCode::NO_CONTENT,
        Some(b'<') => true,
        Some(b'{' | b'[') => false,
        Some(_) => declared,
    }
}

/// True when a JSON document is empty or does not end as it began: it was cut off.
pub(crate) fn is_cut_off(body: &[u8]) -> bool {
    let body = without_bom(body).trim_ascii();
    match (body.first(), body.last()) {
        (None, _) | (_, None) => true,
        (Some(b'{'), Some(last)) => *last != b'}' || body.len() == 1,
        (Some(b'['), Some(last)) => *last != b']' || body.len() == 1,
        _ => false,
    }
}

/// True for a JSON object with an error, such as one that comes with a success and in the place of
/// records.
pub(crate) fn says_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        errors: Option<&'a RawValue>,
    }
    let is_told =
        |value: &RawValue| !matches!(value.get(), "null" | "false" | "\"\"" | "[]" | "{}");
    let envelope = serde_json::from_slice::<Envelope<'_>>(without_bom(body));
    envelope.is_ok_and(|Envelope { error, errors }| error.into_iter().chain(errors).any(is_told))
}

/// True for a body that does not even begin like JSON: its content is not a record.
pub(crate) fn is_prose(body: &[u8]) -> bool {
    without_bom(body)
        .trim_ascii_start()
        .first()
        .is_some_and(u8::is_ascii_alphabetic)
        && serde_json::from_slice::<&RawValue>(body).is_err()
}

fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::http::{HeaderMap, Method, Request};

    fn action(status: u16, content_type: Option<&str>, body: &str) -> ResponseAction {
        let request = Request::new(Method::GET, "https://api.test/things".parse().unwrap());
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
        }
        default_action(&ResponseView {
            request: &request,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            body: body.as_bytes(),
        })
    }

    #[test]
    fn what_a_status_means_where_the_vendor_says_nothing() {
        let fail = |kind| ResponseAction::Fail(kind, None);
        let retry = |throttled| ResponseAction::Retry {
            throttled,
            after: None,
        };
        let cases = [
            (&[200, 201, 204, 299][..], ResponseAction::Accept),
            (&[401], ResponseAction::RefreshAuth),
            (&[403], fail(ErrorKind::PermissionDenied)),
            (&[404, 410], fail(ErrorKind::NotFound)),
            (
                &[407],
                ResponseAction::Fail(ErrorKind::ConfigInvalid, Some(PROXY_CREDENTIALS.to_owned())),
            ),
            (&[413, 414], fail(ErrorKind::TooLarge)),
            (&[429], retry(true)),
            (&[408, 425, 500, 502, 503, 504, 529, 599], retry(false)),
            (
                &[
                    199, 300, 302, 304, 400, 402, 405, 409, 411, 415, 422, 451, 499, 600,
                ],
                fail(ErrorKind::Refused),
            ),
        ];
        for (statuses, expected) in cases {
            for status in statuses {
                assert_eq!(action(*status, None, "{}"), expected, "{status}");
            }
        }
    }

    #[test]
    fn a_web_page_is_not_an_answer_whatever_its_status_and_its_type_say() {
        let (refused, accepted) = (
            ResponseAction::Fail(ErrorKind::Refused, None),
            ResponseAction::Accept,
        );
        let html = Some("Text/HTML; charset=utf-8");
        for (status, content_type, body, expected) in [
            (200, None, "<html>", &refused),
            (200, Some("application/json"), "\u{feff} <html>", &refused),
            (200, html, "log in", &refused),
            (200, html, "", &refused),
            (204, html, "", &accepted),
            (200, None, "", &accepted),
            (200, html, " {}", &accepted),
            (200, html, "[]", &accepted),
            (200, Some("text/plain"), "log in", &accepted),
        ] {
            assert_eq!(
                &action(status, content_type, body),
                expected,
                "{status} {content_type:?} {body}"
            );
        }
    }

    #[test]
    fn a_document_that_does_not_end_as_it_began_was_cut_off() {
        for cut in [
            "",
            " ",
            "\u{feff}",
            "{",
            "[",
            "{\"a\":1",
            "[1",
            "{]",
            "[}",
            "[{}",
            "{\"a\":[]",
        ] {
            assert!(is_cut_off(cut.as_bytes()), "{cut}");
        }
        for whole in [
            "{}",
            "[]",
            " [1]\n",
            "\u{feff}{\"a\":1} ",
            "1",
            "null",
            "\"text",
        ] {
            assert!(!is_cut_off(whole.as_bytes()), "{whole}");
        }
    }

    #[test]
    fn an_error_in_the_place_of_records_is_seen_and_an_empty_one_is_not() {
        for error in [
            r#"{"error":"busy"}"#,
            r#"{"errors":[{}],"data":[]}"#,
            r#"{"error":null,"errors":["x"]}"#,
            r#"{"error":{"a":1}}"#,
        ] {
            assert!(says_error(error.as_bytes()), "{error}");
        }
        for fine in [
            "{}",
            r#"{"error":null}"#,
            r#"{"error":false,"errors":[]}"#,
            r#"{"error":"","errors":{}}"#,
            "[1]",
            "{",
            r#"{"data":{"error":1}}"#,
        ] {
            assert!(!says_error(fine.as_bytes()), "{fine}");
        }
    }

    #[test]
    fn words_are_not_json() {
        for prose in [
            "Too many requests",
            " terminated early",
            "\u{feff}nul",
            "NaN",
            "true false",
        ] {
            assert!(is_prose(prose.as_bytes()), "{prose}");
        }
        for other in [
            "",
            " ",
            "true",
            " null ",
            "12",
            "{}",
            "[words]",
            "\"words\"",
            "<p>words</p>",
            "…",
        ] {
            assert!(!is_prose(other.as_bytes()), "{other}");
        }
    }
}
