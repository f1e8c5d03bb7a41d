//! Tests of the error type: what a person reads, and which values win.

use std::error::Error as _;

use crate::{Error, ErrorKind, ErrorStatus};

fn sample() -> Error {
    let cause = Error::new(ErrorKind::Unavailable, "the connection broke")
        .with_source(std::io::Error::other("reset by peer"));
    Error::new(ErrorKind::Decode, "the response is not JSON")
        .temporary()
        .with_context("endpoint", "orders")
        .with_context("path", "/api/orders")
        .with_help("run again later")
        .with_source(cause)
}

#[test]
fn an_error_is_shown_on_one_line_with_where_it_happened() {
    let plain = Error::new(ErrorKind::NotFound, "there is no such account");
    let during = Error::new(ErrorKind::NotFound, "there is no such account")
        .with_operation("checking the account");
    let shown = [
        plain.to_string(),
        during.to_string(),
        sample().to_string(),
        sample().with_operation("reading a page").to_string(),
    ]
    .join("\n");
    insta::assert_snapshot!(shown, @r"
    there is no such account
    there is no such account (while checking the account)
    the response is not JSON (endpoint: orders, path: /api/orders)
    the response is not JSON (while reading a page, endpoint: orders, path: /api/orders)
    ");
}

#[test]
fn the_debug_form_adds_kind_status_and_every_cause() {
    insta::assert_snapshot!(
        format!("{:?}", sample()),
        @"Temporary Decode: the response is not JSON (endpoint: orders, path: /api/orders); caused \
          by: the connection broke; caused by: reset by peer"
    );
}

#[test]
fn the_innermost_operation_context_and_help_win() {
    let error = sample()
        .with_operation("inner")
        .with_operation("outer")
        .with_context("path", "/other")
        .with_help("do something else");
    assert_eq!(
        error.to_string(),
        "the response is not JSON (while inner, endpoint: orders, path: /api/orders)"
    );
    assert_eq!(error.context_value("path"), Some("/api/orders"));
    assert_eq!(error.context_value("stream"), None);
    assert_eq!(error.help(), Some("run again later"));
    assert_eq!(error.source().unwrap().to_string(), "the connection broke");
}

#[test]
fn only_a_temporary_error_becomes_persistent() {
    let permanent = || Error::new(ErrorKind::Decode, "x");
    assert_eq!(permanent().persistent().status(), ErrorStatus::Permanent);
    let persistent = permanent().temporary().persistent();
    assert_eq!(
        (persistent.status(), persistent.is_temporary()),
        (ErrorStatus::Persistent, false)
    );
    assert!(permanent().temporary().is_temporary());
}
