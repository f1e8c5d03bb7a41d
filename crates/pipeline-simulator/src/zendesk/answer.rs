//! Bodies of answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// `{"name":[`
pub(super) fn open(name: &str) -> Vec<u8> {
    format!("{{\"{name}\":[").into_bytes()
}

/// Ends the array and adds the members of `tail`.
pub(super) fn close(mut body: Vec<u8>, tail: &Value) -> Response {
    let tail = tail.to_string();
    body.push(b']');
    if tail != "{}" {
        body.push(b',');
    }
    body.extend_from_slice(tail.trim_start_matches('{').as_bytes());
    (
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        body,
    )
        .into_response()
}

/// 401 to a bearer token that isn't known, was replaced or has expired.
pub(crate) fn invalid_token() -> Response {
    let description =
        "The access token provided is expired, revoked, malformed or invalid for other reasons.";
    let body = json!({ "error": "invalid_token", "error_description": description });
    (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()
}

/// The account's 429 is plain text.
pub(super) fn account_limited() -> Response {
    let text = "Number of allowed API requests per minute exceeded";
    (
        StatusCode::TOO_MANY_REQUESTS,
        [(header::CONTENT_TYPE, "text/plain")],
        text,
    )
        .into_response()
}

pub(super) fn export_limited() -> Response {
    let text = "Number of allowed incremental export API requests per minute exceeded";
    error(StatusCode::TOO_MANY_REQUESTS, "APIRateLimitExceeded", text)
}

/// A list beyond a limit of its own.
pub(super) fn list_limited() -> Response {
    error(
        StatusCode::TOO_MANY_REQUESTS,
        "APIRateLimitExceeded",
        "Number of allowed requests to this list exceeded",
    )
}

/// An injected 429.
pub(crate) fn throttled(retry_after: u64) -> Response {
    let mut response = export_limited();
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// 503 under load.
pub(super) fn backpressure() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "3")],
        "Database timeout",
    )
        .into_response()
}

pub(super) fn bad_cursor() -> Response {
    error(
        StatusCode::BAD_REQUEST,
        "InvalidPaginationParameter",
        "cursor is not valid",
    )
}

pub(super) fn unknown() -> Response {
    error(StatusCode::NOT_FOUND, "InvalidEndpoint", "Not found")
}

pub(super) fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "RecordNotFound", "Not found")
}

/// 403, where one service answers with nothing at all.
pub(super) fn forbidden(is_empty: bool) -> Response {
    if is_empty {
        return (
            StatusCode::FORBIDDEN,
            [(header::CONTENT_TYPE, "text/html")],
            "",
        )
            .into_response();
    }
    let message = "You do not have access to this page. Please contact the account owner of this \
                   help desk for further help.";
    (
        StatusCode::FORBIDDEN,
        axum::Json(json!({ "error": { "title": "Forbidden", "message": message } })),
    )
        .into_response()
}

/// 404 where there is no Help Center.
pub(super) fn no_help_center() -> Response {
    let page = "<!DOCTYPE html><html><head><title>The page you were looking for doesn't exist \
                (404)</title></head></html>";
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        page,
    )
        .into_response()
}

/// The usual error body.
pub(crate) fn error(status: StatusCode, error: &str, description: &str) -> Response {
    (
        status,
        axum::Json(json!({ "error": error, "description": description })),
    )
        .into_response()
}
