//! What is said of answers that are failures, when the vendor's classifier has no words for them.

use crate::error::ErrorKind;
use crate::http::StatusCode;
use crate::http::client::classify::is_web_page;
use crate::message::ResponseView;

/// What can be done when only the vendor's words say what is wrong.
pub(crate) const REFUSED: &str = "the vendor's answer says why, and trying again does not change \
                                  it: set up there what is missing, or deselect the stream";

/// What is said of a web page that comes as a success: no vendor refuses in this way, so somebody
/// else has answered.
pub const WEB_PAGE: &str = "answered with a web page (proxy or captive portal)";

/// Says in words why an answer is a failure.
pub(crate) fn failure(kind: ErrorKind, answer: &ResponseView<'_>) -> &'static str {
    match kind {
        _ if answer.status == StatusCode::NOT_MODIFIED => {
            "the server says that nothing has changed, and sends nothing"
        }
        _ if answer.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the proxy asks for credentials"
        }
        _ if answer.status.is_redirection() => {
            "the server redirects elsewhere, and redirects are not followed"
        }
        _ if answer.status == StatusCode::PAYMENT_REQUIRED => "the vendor asks for payment",
        _ if answer.status.is_success() && is_web_page(answer) => WEB_PAGE,
        ErrorKind::PermissionDenied => "the credentials may not read this",
        ErrorKind::NotFound => "the resource does not exist",
        ErrorKind::Unauthenticated => "the credentials were refused",
        ErrorKind::TooLarge => "the server could not make an answer this large in time",
        _ if answer.status.is_success() => "the server reported an error in a successful response",
        ErrorKind::Unexpected => "the vendor calls the request malformed",
        _ => "the server refused the request",
    }
}

/// What can be done about a refusal that the vendor's classifier has no advice for. Trying again is
/// not among it.
pub(crate) fn refusal_help(kind: ErrorKind, answer: &ResponseView<'_>) -> Option<&'static str> {
    if kind != ErrorKind::Refused {
        return None;
    }
    Some(match answer.status.as_u16() {
        304 => {
            "a cache answers in the vendor's place, to a question that was not asked: check the \
             base URL and the proxy settings"
        }
        300..=399 => {
            "another server answers at this address: check the base URL and whether the account \
             has this product, or deselect the stream"
        }
        402 => {
            "the plan or the billing of the account does not cover this: settle it with the \
             vendor, or deselect the stream"
        }
        _ if is_web_page(answer) => {
            "a proxy, a captive portal or a login page answered instead of the API: check the base \
             URL, the network and the proxy settings"
        }
        _ => REFUSED,
    })
}
