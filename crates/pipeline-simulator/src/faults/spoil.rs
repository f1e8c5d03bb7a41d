//! The answers that rules put in the place of the right one.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::Value;

use super::rule::Spoil;
use super::{cut, error_of};
use crate::Vendor;

/// The largest answer that is changed.
const LARGEST: usize = 1 << 30;

/// Members that say that more records follow, and what they are at the end of a list.
const ENDS: [(&str, Value); 8] = [
    ("has_more", Value::Bool(false)),
    ("end_of_stream", Value::Bool(true)),
    ("next", Value::Null),
    ("next_page", Value::Null),
    ("next_page_url", Value::Null),
    ("after_url", Value::Null),
    ("next_cursor", Value::Null),
    ("cursor", Value::Null),
];

/// What is sent instead of the right answer. None of the answers that the right one may be replaced
/// by is made of it before the limits and the credentials have let it pass.
pub(crate) async fn spoiled(spoil: &Spoil, vendor: Vendor, right: Response) -> Response {
    match spoil {
        Spoil::Error { .. } | Spoil::Redirect | Spoil::Page(_) | Spoil::Silence => {
            instead(spoil, vendor)
        }
        Spoil::Cut => cut(right),
        Spoil::Line(line) => edited(right, |body| with_line(body, line)).await,
        Spoil::Short(records) => edited(right, |body| shortened(body, *records)).await,
    }
}

/// An answer that has nothing of the right one.
pub(crate) fn instead(spoil: &Spoil, vendor: Vendor) -> Response {
    let status = |status: u16| StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    match spoil {
        Spoil::Error {
            status: number,
            message,
            code,
        } => error_of(vendor, status(*number), message, code.as_deref()),
        Spoil::Redirect => (
            StatusCode::FOUND,
            [(header::LOCATION, "/login")],
            page("Sign in"),
        )
            .into_response(),
        Spoil::Page(number) => (status(*number), page("Not what was asked for")).into_response(),
        // The connection closes before a byte of the body, of which more was announced.
        _ => {
            let broken =
                stream::once(async { Err::<Bytes, _>(std::io::Error::other("closed on purpose")) });
            Response::new(Body::from_stream(broken))
        }
    }
}

fn page(title: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// An answer with another body.
async fn edited(right: Response, edit: impl FnOnce(&[u8]) -> Vec<u8>) -> Response {
    let (mut parts, body) = right.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let body = edit(&body);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Body::from(body))
}

/// A text with a line put into it at the end of the line that its middle is in.
fn with_line(body: &[u8], line: &str) -> Vec<u8> {
    let half = body.len() / 2;
    let at = body[half..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(half, |after| half + after + 1);
    [&body[..at], line.as_bytes(), b"\n", &body[at..]].concat()
}

/// A page of a list with the first records only, as if it were the last one. Totals are left alone.
fn shortened(body: &[u8], records: usize) -> Vec<u8> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(mut list)) => {
            list.truncate(records);
            Value::Array(list).to_string().into_bytes()
        }
        Ok(mut page @ Value::Object(_)) => {
            for (_, member) in page.as_object_mut().into_iter().flatten() {
                match member {
                    Value::Array(list) if list.first().is_some_and(Value::is_object) => {
                        list.truncate(records);
                    }
                    // `meta`, `links`, `pagination`.
                    Value::Object(_) => end(member),
                    _ => {}
                }
            }
            end(&mut page);
            page.to_string().into_bytes()
        }
        _ => body.to_vec(),
    }
}

fn end(page: &mut Value) {
    for (name, value) in ENDS {
        if let Some(member) = page.get_mut(name) {
            *member = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_short_page_ends_the_list_and_keeps_its_total() {
        let body = json!({ "users": [{ "id": 1 }, { "id": 2 }], "count": 9, "next_page": "x", "meta": { "has_more": true }, "tags": ["a"] });
        let short: Value =
            serde_json::from_slice(&shortened(body.to_string().as_bytes(), 1)).unwrap_or_default();
        let expected = json!({ "users": [{ "id": 1 }], "count": 9, "next_page": null, "meta": { "has_more": false }, "tags": ["a"] });
        assert_eq!(short, expected);
        assert_eq!(shortened(b"[1,2]", 1), b"[1]");
    }

    #[test]
    fn a_line_comes_between_two_others() {
        assert_eq!(with_line(b"aa\nbb\ncc\n", "x"), b"aa\nbb\nx\ncc\n");
        assert_eq!(with_line(b"{}", "x"), b"{x\n}");
    }
}
