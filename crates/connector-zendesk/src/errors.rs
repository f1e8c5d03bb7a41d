//! Reads Zendesk's error answers, which come as JSON of several shapes, plain text and HTML.

use std::time::Duration;

use pipeline_core::ErrorKind;
use pipeline_core::http::{Classifier, Request, ResponseAction, ResponseView, StatusCode};
use pipeline_core::rate_limit::Throttle;

use crate::limits::{EXPORT, HELP_CENTER, SUPPORT, TALK_EXPORT};
use crate::rates::is_help_center;
use crate::slices::START_TIME;

/// How long to wait when an answer asks for a pause but does not say how long: limits count by the
/// minute.
const MINUTE: Duration = Duration::from_mins(1);

/// Zendesk's own reading of answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZendeskClassifier;

impl Classifier for ZendeskClassifier {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        let text = String::from_utf8_lossy(answer.body);
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
                if has_none(answer.request, &text) =>
            {
                Some(ResponseAction::Ignore)
            }
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                refused_parameter(answer.request, &text)
            }
            StatusCode::UNAUTHORIZED if text.contains("Couldn't authenticate you") => {
                Some(ResponseAction::Fail(
                    ErrorKind::Unauthenticated,
                    Some(
                        "check email and api_token; API tokens unused for 30 days are deactivated"
                            .to_owned(),
                    ),
                ))
            }
            StatusCode::FORBIDDEN => Some(ResponseAction::Fail(
                ErrorKind::PermissionDenied,
                Some(forbidden(answer.request, &text)),
            )),
            StatusCode::NOT_FOUND => Some(ResponseAction::Fail(
                ErrorKind::NotFound,
                not_found(answer.request, &text),
            )),
            StatusCode::CONFLICT => Some(ResponseAction::Retry {
                throttled: false,
                after: None,
            }),
            StatusCode::GATEWAY_TIMEOUT if text.contains("upstream request timeout") => {
                larger_than_one(answer.request)
            }
            StatusCode::TOO_MANY_REQUESTS => Some(throttled(answer, &text)),
            _ => None,
        }
    }
}

/// Names the limit that was hit, where the text tells. Otherwise the counters in the headers do, or
/// else it is the narrowest one of the request.
fn throttled(answer: &ResponseView<'_>, text: &str) -> ResponseAction {
    let path = answer.request.url.path();
    let is_told = answer.headers.contains_key("retry-after");
    let after = (!is_told).then_some(MINUTE);
    let limit =
        if text.contains("incremental export API requests") && path.contains("/incremental/") {
            if path.contains("/channels/voice/") {
                TALK_EXPORT
            } else {
                EXPORT
            }
        } else if text.contains("Number of allowed API requests per minute")
            || text.contains("edge protection")
        {
            if is_help_center(path) {
                HELP_CENTER
            } else {
                SUPPORT
            }
        } else {
            return ResponseAction::Retry {
                throttled: true,
                after,
            };
        };
    ResponseAction::Throttled {
        scope: Throttle::Rate(limit.into()),
        after,
    }
}

/// Pages that Zendesk numbers, of 100 rows each.
const MOST_PAGES: u32 = 100;

fn numbered(request: &Request) -> Option<u32> {
    request
        .query
        .iter()
        .find(|(name, _)| name == "page")?
        .1
        .parse()
        .ok()
}

/// True for a list of one ticket, which can be refused while those of others are not.
fn is_of_ticket(request: &Request) -> bool {
    let mut segments = request
        .url
        .path()
        .trim_start_matches("/api/v2/tickets/")
        .split('/');
    segments.next().is_some_and(|id| id.parse::<u64>().is_ok()) && segments.next().is_some()
}

/// True when a ticket has no such list, which is no refusal: it is gone since it was exported, or
/// is of a kind that never has one. Of its comments somebody else must hear that they are gone.
fn has_none(request: &Request, text: &str) -> bool {
    const WORDS: [&str; 3] = [
        "RecordNotFound",
        "not supported on this ticket",
        "unsupported on this ticket",
    ];
    is_of_ticket(request)
        && !request.url.path().ends_with("/comments")
        && WORDS.iter().any(|words| text.contains(words))
}

fn refused_parameter(request: &Request, text: &str) -> Option<ResponseAction> {
    let has_cursor = request
        .query
        .iter()
        .any(|(name, _)| name == "cursor" || name == "page[after]");
    // Nothing can be new since then.
    if text.contains("Too recent start_time") || text.contains("StartTimeTooRecent") {
        return Some(ResponseAction::Ignore);
    }
    if let Some(page) = numbered(request).filter(|page| *page > MOST_PAGES) {
        let help = format!(
            "page {page} was refused: Zendesk numbers no more than 10,000 rows of a list, so this one cannot be read whole"
        );
        return Some(ResponseAction::Fail(ErrorKind::Decode, Some(help)));
    }
    let names_cursor =
        text.contains("InvalidPaginationParameter") || text.to_ascii_lowercase().contains("cursor");
    if has_cursor && names_cursor {
        return Some(ResponseAction::ResetPagination);
    }
    is_malformed(request, text).then_some(ResponseAction::Fail(ErrorKind::Unexpected, None))
}

/// True when the vendor finds fault with a parameter that nobody but this program chose. What it
/// refuses otherwise, such as a feature that the account lacks, is no fault of the request's.
fn is_malformed(request: &Request, text: &str) -> bool {
    const CODES: [&str; 4] = [
        "InvalidPaginationParameter",
        "UnpermittedParameter",
        "UnknownParameter",
        "InvalidParameter",
    ];
    // Words of a language would be found in any text.
    let is_telling =
        |name: &str| name.contains(['_', '[']) && name != START_TIME && name != "end_time";
    CODES.iter().any(|code| text.contains(code))
        || request
            .query
            .iter()
            .any(|(name, _)| is_telling(name) && text.contains(name.as_str()))
}

/// A page that takes too long to make is asked for again with fewer records; a page of one record
/// just once more.
fn larger_than_one(request: &Request) -> Option<ResponseAction> {
    let size = |(name, value): &(String, String)| {
        (name == "per_page" || name == "page[size]").then(|| value.parse::<u32>().ok())?
    };
    request
        .query
        .iter()
        .find_map(size)
        .filter(|size| *size > 1)
        .map(|_| ResponseAction::Fail(ErrorKind::TooLarge, None))
}

fn forbidden(request: &Request, text: &str) -> String {
    if text.contains("required scopes") {
        "give the OAuth client or token the scope `read`".to_owned()
    } else if request.url.path().contains("/incremental/") {
        "incremental exports may be read by administrators only; use the credentials of one"
            .to_owned()
    } else {
        "the role or the plan of the configured credentials does not allow this".to_owned()
    }
}

fn not_found(request: &Request, text: &str) -> Option<String> {
    let is_page = text.trim_start().starts_with('<');
    let hint = "check the subdomain: a renamed account leaves nothing at its old name";
    (is_page || request.url.path().ends_with("/users/me")).then(|| hint.to_owned())
}
