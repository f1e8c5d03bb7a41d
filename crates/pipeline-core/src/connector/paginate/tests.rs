//! Tests of the paginators: a position makes a request, a page makes the next position.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::header::LINK;

use super::cursors::More;
use super::*;
use crate::http::HeaderValue;
use crate::model::record::{RecordPath, split};
use crate::tests::request;

mod counted;
mod links;

fn at(position: &str) -> Position {
    Position::At(position.to_owned())
}

/// The query of the request for a position, sorted.
fn applied(paginator: &dyn Paginator, position: &Position, query: &[(&str, &str)]) -> String {
    let mut request = request(query);
    paginator.apply(position, &mut request).unwrap();
    request.full_url().query().unwrap_or_default().to_owned()
}

/// What follows a page with this body and these `Link` headers, read at a position.
fn follows(
    paginator: &dyn Paginator,
    position: &Position,
    body: &str,
    links: &[&[u8]],
) -> Result<Advance> {
    let mut request = request(&[]);
    paginator.apply(position, &mut request)?;
    let mut headers = HeaderMap::new();
    for link in links {
        headers.append(LINK, HeaderValue::from_bytes(link).unwrap());
    }
    let split = split(
        &Bytes::copy_from_slice(body.as_bytes()),
        &[RecordPath::new("data")],
    )
    .unwrap();
    paginator.advance(
        position,
        &PageView {
            request: &request,
            headers: &headers,
            envelope: &split.envelope,
            records: &split.records[0],
            fresh: split.records[0].len(),
        },
    )
}

/// What follows, in short: `next x`, `caught up x`, `end` or the error's message.
fn shown(advance: Result<Advance>) -> String {
    match advance {
        Ok(Advance::Next(position)) => format!("next {position}"),
        Ok(Advance::CaughtUp(position)) => format!("caught up {position}"),
        Ok(Advance::End) => "end".to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Decode);
            error.message().to_owned()
        }
    }
}

const MISSING: &str = "the response lacks the member that says whether the list has more pages";

const STUCK: &str = "the list does not advance: the next page is at the position just read";

#[test]
fn a_single_page_is_all() {
    assert_eq!(applied(&SinglePage, &at("x"), &[("a", "1")]), "a=1");
    assert_eq!(
        shown(follows(
            &SinglePage,
            &Position::Start,
            r#"{"data":[1]}"#,
            &[]
        )),
        "end"
    );
}

const CURSOR: CursorField = CursorField {
    param: "page[after]",
    token: "meta/after",
    more: Some(More::WhenTrue("meta/has_more")),
    first_page_only: &["start_time"],
    resumable: false,
};

#[test]
fn a_token_replaces_what_only_the_first_page_takes() {
    let query = [("start_time", "5"), ("size", "10")];
    assert_eq!(
        applied(&CURSOR, &Position::Start, &query),
        "size=10&start_time=5"
    );
    assert_eq!(
        applied(&CURSOR, &at("a b&c"), &query),
        "page%5Bafter%5D=a+b%26c&size=10"
    );
}

#[test]
fn a_token_goes_on_as_the_flag_says() {
    let resumable = CursorField {
        resumable: true,
        ..CURSOR
    };
    let by_token = CursorField {
        more: None,
        ..CURSOR
    };
    let until_end = CursorField {
        more: Some(More::WhenFalse("meta/end")),
        ..resumable
    };
    for (paginator, position, meta, expected) in [
        (
            CURSOR,
            Position::Start,
            r#"{"after":"x","has_more":true}"#,
            "next x",
        ),
        (
            CURSOR,
            Position::Start,
            r#"{"after":17,"has_more":true}"#,
            "next 17",
        ),
        (
            CURSOR,
            Position::Start,
            r#"{"after":"x","has_more":false}"#,
            "end",
        ),
        (
            CURSOR,
            at("x"),
            r#"{"after":null,"has_more":true}"#,
            MISSING,
        ),
        (CURSOR, at("x"), r#"{"after":"","has_more":true}"#, MISSING),
        (CURSOR, at("x"), r#"{"after":"y"}"#, MISSING),
        (
            CURSOR,
            at("x"),
            r#"{"after":"y","has_more":"true"}"#,
            MISSING,
        ),
        (CURSOR, at("x"), r#"{"after":"y","has_more":null}"#, MISSING),
        (by_token, at("x"), r#"{"after":"y"}"#, "next y"),
        (by_token, at("x"), r#"{"after":""}"#, "end"),
        (by_token, at("x"), r#"{"after":null}"#, "end"),
        (by_token, at("x"), "{}", "end"),
        (
            resumable,
            at("x"),
            r#"{"after":"y","has_more":false}"#,
            "caught up y",
        ),
        (
            resumable,
            at("x"),
            r#"{"after":null,"has_more":false}"#,
            "caught up x",
        ),
        (
            resumable,
            Position::Start,
            r#"{"after":null,"has_more":false}"#,
            "end",
        ),
        (until_end, at("x"), r#"{"after":"y","end":false}"#, "next y"),
        (
            until_end,
            at("x"),
            r#"{"after":"y","end":true}"#,
            "caught up y",
        ),
    ] {
        let body = format!(r#"{{"data":[],"meta":{meta}}}"#);
        assert_eq!(
            shown(follows(&paginator, &position, &body, &[])),
            expected,
            "{meta} at {position:?}"
        );
    }
}

const BY_ID: AfterLastId = AfterLastId {
    param: "starting_after",
    more: "has_more",
    id: "id",
};

#[test]
fn the_last_id_starts_the_next_page() {
    assert_eq!(applied(&BY_ID, &Position::Start, &[]), "");
    assert_eq!(
        applied(&BY_ID, &at("a\nb\nmy plan"), &[]),
        "starting_after=my+plan"
    );
    for (position, body, expected) in [
        (
            Position::Start,
            r#"{"data":[{"id":"a"},{"id":"b"}],"has_more":true}"#,
            "next a\nb",
        ),
        (
            Position::Start,
            r#"{"data":[{"id":7},{"id":8}],"has_more":true}"#,
            "next 7\n8",
        ),
        (
            at("a"),
            r#"{"data":[{"id":"b c"}],"has_more":true}"#,
            "next b c",
        ),
        (at("a"), r#"{"data":[{"id":"b"}],"has_more":false}"#, "end"),
        (at("a"), r#"{"data":[],"has_more":false}"#, "end"),
        (at("a"), r#"{"data":[{"id":"b"}]}"#, MISSING),
        (
            at("a"),
            r#"{"data":[],"has_more":true}"#,
            "the list says that there is more but the page is empty",
        ),
        (
            at("a"),
            r#"{"data":[{"id":"b"},{}],"has_more":true}"#,
            "a record has no id, so the next page cannot be asked for",
        ),
        (
            at("a"),
            r#"{"data":[{"id":null}],"has_more":true}"#,
            "a record has no id, so the next page cannot be asked for",
        ),
        (
            at("z\nb"),
            r#"{"data":[{"id":"a"},{"id":"b"}],"has_more":true}"#,
            STUCK,
        ),
    ] {
        assert_eq!(
            shown(follows(&BY_ID, &position, body, &[])),
            expected,
            "{body}"
        );
    }
}

#[test]
fn a_deleted_id_is_recovered_from_by_the_one_before_it() {
    let records: Vec<String> = (0..100).map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
    let body = format!(r#"{{"data":[{}],"has_more":true}}"#, records.join(","));
    let Ok(Advance::Next(position)) = follows(&BY_ID, &Position::Start, &body, &[]) else {
        panic!("the list goes on")
    };
    let mut position = at(&position);
    for id in (81..100).rev() {
        assert_eq!(
            applied(&BY_ID, &position, &[]),
            format!("starting_after={id}")
        );
        position = BY_ID.recover(&position).unwrap();
    }
    assert_eq!(applied(&BY_ID, &position, &[]), "starting_after=80");
    assert_eq!(BY_ID.recover(&position), None);
    assert_eq!(BY_ID.recover(&Position::Start), None);
    assert_eq!(CURSOR.recover(&at("x")), None);
}

const WINDOW: WindowCursor = WindowCursor {
    since: "start_time",
    until: "end_time",
    done: "end_of_stream",
};

#[test]
fn a_window_slides_until_the_vendor_says_that_it_is_done() {
    assert_eq!(
        applied(&WINDOW, &at("20"), &[("start_time", "10")]),
        "start_time=20"
    );
    for (position, body, expected) in [
        (
            at("10"),
            r#"{"data":[1],"end_time":20,"end_of_stream":false}"#,
            "next 20",
        ),
        (
            at("10"),
            r#"{"data":[1],"end_time":20,"end_of_stream":true}"#,
            "caught up 20",
        ),
        (
            at("10"),
            r#"{"data":[1],"end_time":10,"end_of_stream":true}"#,
            "caught up 10",
        ),
        (
            at("10"),
            r#"{"data":[1],"end_time":10,"end_of_stream":false}"#,
            STUCK,
        ),
        (
            at("10"),
            r#"{"data":[],"end_time":null,"end_of_stream":true}"#,
            "caught up 10",
        ),
        (
            Position::Start,
            r#"{"data":[],"end_time":null,"end_of_stream":true}"#,
            "end",
        ),
        (at("10"), r#"{"data":[],"end_time":null}"#, "caught up 10"),
        (
            at("10"),
            r#"{"data":[1],"end_time":null,"end_of_stream":false}"#,
            MISSING,
        ),
        (at("10"), r#"{"data":[1],"end_time":20}"#, "next 20"),
    ] {
        assert_eq!(
            shown(follows(&WINDOW, &position, body, &[])),
            expected,
            "{body}"
        );
    }
    assert!(WINDOW.shifts() && !CURSOR.shifts() && !BY_ID.shifts());
}
