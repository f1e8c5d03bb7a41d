//! Tests of the paginators: a position makes a request, a page makes the next position.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::header::LINK;

use super::cursors::More;
use super::*;
use crate::http::HeaderValue;
use crate::model::record::{RecordPath, split};
use crate::tests::request;

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

const MISSING: &str = "the response lacks the member that tells whether the list goes on";
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

#[test]
fn counted_lists_end_with_an_empty_page_or_the_total_and_never_with_a_short_page() {
    let number = PageNumber {
        param: "page",
        first: 1,
        total_pages: None,
    };
    let known = PageNumber {
        total_pages: Some("pages"),
        ..number
    };
    let from_zero = PageNumber { first: 0, ..known };
    let offset = Offset {
        param: "offset",
        total: None,
    };
    let total = Offset {
        total: Some("total"),
        ..offset
    };
    let cases: [(&dyn Paginator, Position, &str, &str, &str); 13] = [
        (
            &number,
            Position::Start,
            r#"{"data":[1]}"#,
            "page=1",
            "next 2",
        ),
        (&number, at("2"), r#"{"data":[1]}"#, "page=2", "next 3"),
        (&number, at("3"), r#"{"data":[]}"#, "page=3", "end"),
        (
            &known,
            at("2"),
            r#"{"data":[1],"pages":3}"#,
            "page=2",
            "next 3",
        ),
        (
            &known,
            at("3"),
            r#"{"data":[1],"pages":3}"#,
            "page=3",
            "end",
        ),
        (
            &known,
            at("3"),
            r#"{"data":[1],"pages":null}"#,
            "page=3",
            "next 4",
        ),
        (
            &from_zero,
            at("1"),
            r#"{"data":[1],"pages":3}"#,
            "page=1",
            "next 2",
        ),
        (
            &from_zero,
            at("2"),
            r#"{"data":[1],"pages":3}"#,
            "page=2",
            "end",
        ),
        (
            &offset,
            Position::Start,
            r#"{"data":[1,2,3]}"#,
            "offset=0",
            "next 3",
        ),
        (&offset, at("3"), r#"{"data":[1]}"#, "offset=3", "next 4"),
        (&offset, at("4"), r#"{"data":[]}"#, "offset=4", "end"),
        (
            &total,
            at("3"),
            r#"{"data":[1],"total":5}"#,
            "offset=3",
            "next 4",
        ),
        (
            &total,
            at("3"),
            r#"{"data":[1,2],"total":5}"#,
            "offset=3",
            "end",
        ),
    ];
    for (paginator, position, body, query, expected) in cases {
        assert_eq!(applied(paginator, &position, &[]), query);
        assert_eq!(
            shown(follows(paginator, &position, body, &[])),
            expected,
            "{body} at {position:?}"
        );
        assert!(paginator.shifts());
    }
    for paginator in [&number as &dyn Paginator, &offset] {
        assert_eq!(
            shown(follows(paginator, &at("three"), r#"{"data":[]}"#, &[])),
            "the stored position is not a number"
        );
        assert_eq!(
            shown(follows(
                paginator,
                &at(&u64::MAX.to_string()),
                r#"{"data":[1]}"#,
                &[]
            )),
            format!("next {}", u64::MAX)
        );
    }
}

const FOREIGN: &str =
    "the link to the next page leads to another host, where credentials must not go";

#[test]
fn the_next_url_is_followed_within_the_host_only() {
    let paginator = NextUrl { url: "links/next" };
    assert_eq!(
        applied(
            &paginator,
            &at("/api/orders?page=2&q=a%20b"),
            &[("old", "1")]
        ),
        "page=2&q=a+b"
    );
    for (position, url, expected) in [
        (
            Position::Start,
            r#""https://shop.test/api/orders?page=2""#,
            "next /api/orders?page=2",
        ),
        (
            Position::Start,
            r#""https://shop.test:443/api/orders?page=2#top""#,
            "next /api/orders?page=2",
        ),
        (
            Position::Start,
            r#""/api/v2/orders?page=2""#,
            "next /api/v2/orders?page=2",
        ),
        (Position::Start, r#""?page=2""#, "next /api/orders?page=2"),
        (
            Position::Start,
            r#""https://user:secret@shop.test/api/orders?page=2""#,
            "next /api/orders?page=2",
        ),
        (Position::Start, "null", "end"),
        (Position::Start, r#""""#, "end"),
        (
            Position::Start,
            r#""https://evil.test/api/orders?page=2""#,
            FOREIGN,
        ),
        (
            Position::Start,
            r#""//evil.test/api/orders?page=2""#,
            FOREIGN,
        ),
        (
            Position::Start,
            r#""http://shop.test/api/orders?page=2""#,
            FOREIGN,
        ),
        (
            Position::Start,
            r#""https://shop.test:8443/api/orders?page=2""#,
            FOREIGN,
        ),
        (
            Position::Start,
            r#""https://shop.test.evil.test/?page=2""#,
            FOREIGN,
        ),
        (
            Position::Start,
            r#""https://[broken""#,
            "the link to the next page is not a URL",
        ),
        (
            at("/api/orders?page=2"),
            r#""https://shop.test/api/orders?page=2""#,
            STUCK,
        ),
        (
            at("/api/orders?page=2&x=1"),
            r#""https://shop.test/api/orders?x=1&page=2""#,
            STUCK,
        ),
        (
            at("/api/orders?page=2"),
            r#""https://shop.test/api/orders?page=3""#,
            "next /api/orders?page=3",
        ),
        (
            Position::Start,
            r#""https://shop.test//api/orders?page=2""#,
            "next /.//api/orders?page=2",
        ),
        (
            at("/.//api/orders?page=2"),
            r#""https://shop.test//api/orders?page=2""#,
            STUCK,
        ),
        (
            at("/.//api/orders?page=2"),
            r#""https://shop.test//api/orders?page=3""#,
            "next /.//api/orders?page=3",
        ),
        (at("//evil.test/api"), "null", FOREIGN),
        (at("https://evil.test/api"), "null", FOREIGN),
    ] {
        let body = format!(r#"{{"data":[],"links":{{"next":{url}}}}}"#);
        assert_eq!(
            shown(follows(&paginator, &position, &body, &[])),
            expected,
            "{url} at {position:?}"
        );
    }
}

/// Links may have the path of the base URL or the vendor's own, whose beginning may be the same.
#[test]
fn a_link_through_a_gateway_leads_to_the_vendors_path() {
    for (mount, link, expected) in [
        (
            "/shop",
            "https://shop.test/shop/api/orders?page=2",
            "/api/orders?page=2",
        ),
        ("/shop", "/api/orders?page=2", "/api/orders?page=2"),
        ("/shop", "/shopping?page=2", "/shopping?page=2"),
        ("/shop", "?page=2", "/api/orders?page=2"),
        ("/api", "/api/orders?page=2", "/api/orders?page=2"),
        (
            "/api",
            "https://shop.test/api/api/orders?page=2",
            "/api/orders?page=2",
        ),
        ("", "/api/orders?page=2", "/api/orders?page=2"),
    ] {
        let mut request = request(&[]);
        mount.clone_into(&mut request.mount);
        let body = format!(r#"{{"data":[],"next":"{link}"}}"#);
        let split = split(&Bytes::from(body), &[RecordPath::new("data")]).unwrap();
        let page = PageView {
            request: &request,
            headers: &HeaderMap::new(),
            envelope: &split.envelope,
            records: &split.records[0],
            fresh: split.records[0].len(),
        };
        let advance = NextUrl { url: "next" }.advance(&Position::Start, &page);
        assert_eq!(
            shown(advance),
            format!("next {expected}"),
            "{mount}: {link}"
        );
    }
}

#[test]
fn link_headers_are_read_as_the_standard_has_them() {
    for (links, expected) in [
        (&[][..], "end"),
        (
            &["<https://shop.test/api/orders?page=2>; rel=\"next\""][..],
            "next /api/orders?page=2",
        ),
        (
            &["<?page=1>; rel=\"prev\", <?page=3>; rel=\"next\", <?page=9>; rel=\"last\""],
            "next /api/orders?page=3",
        ),
        (
            &["<?page=1>; rel=prev", "<?page=3>; rel=next"],
            "next /api/orders?page=3",
        ),
        (
            &["<?page=3>; REL = \"last NEXT\""],
            "next /api/orders?page=3",
        ),
        (
            &["<?page=3>;rel=next;title=\"x\""],
            "next /api/orders?page=3",
        ),
        (
            &["<?ids=1,2;3>; rel=\"prev\",<?ids=4,5;6>; rel=\"next\""],
            "next /api/orders?ids=4,5;6",
        ),
        (
            &["<?page=1>; title=\"a, <b>; rel=next\"; rel=\"prev\""],
            "end",
        ),
        (
            &["<?page=1>; title=\"a \\\", b\"; rel=\"prev\", <?page=3>; rel=next"],
            "next /api/orders?page=3",
        ),
        (&["<?page=3>; rel=\"nextish prev\""], "end"),
        (
            &["<?page=3>; title=\"caf\u{e9}\"; rel=next"],
            "next /api/orders?page=3",
        ),
        (&["<https://evil.test/?page=2>; rel=\"next\""], FOREIGN),
        (
            &["<?page=3; rel=\"next\""],
            "the link header holds a target without an end",
        ),
        (&["nonsense"], "end"),
    ] {
        let links: Vec<&[u8]> = links.iter().map(|link| link.as_bytes()).collect();
        assert_eq!(
            shown(follows(
                &LinkHeader,
                &Position::Start,
                r#"{"data":[]}"#,
                &links
            )),
            expected,
            "{links:?}"
        );
    }
    assert_eq!(
        shown(follows(
            &LinkHeader,
            &Position::Start,
            r#"{"data":[]}"#,
            &[b"<?page=2>; title=\"\xff\"; rel=next"]
        )),
        "next /api/orders?page=2"
    );
    assert_eq!(
        applied(&LinkHeader, &at("/api/orders?page=2"), &[("page", "1")]),
        "page=2"
    );
}

/// The error of a list that ends short is no `Decode`: it may be whole next time.
fn counted(paginator: &dyn Paginator, position: &Position, body: &str) -> String {
    match follows(paginator, position, body, &[]) {
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            format!(
                "short: {} of {}",
                value(&error, "records"),
                value(&error, "total")
            )
        }
        other => shown(other),
    }
}

fn value<'e>(error: &'e Error, name: &str) -> &'e str {
    error.context_value(name).unwrap()
}

#[test]
fn a_list_that_ends_short_of_its_total_is_read_once_more_and_then_fails() {
    let list = Counted::new(
        PageNumber {
            param: "page",
            first: 0,
            total_pages: None,
        },
        "total",
    );
    let pages = [
        r#"{"data":[1,2],"total":7}"#,
        r#"{"data":[3],"total":7}"#,
        r#"{"data":[]}"#,
    ];
    let mut position = Position::Start;
    let mut walk = Vec::new();
    for page in pages.iter().cycle().take(6) {
        let next = counted(&list, &position, page);
        if let Some(text) = next.strip_prefix("next ") {
            position = at(text);
            walk.push(applied(&list, &position, &[]));
        } else {
            walk.push(next);
        }
    }
    assert_eq!(
        walk,
        [
            "page=1",
            "page=2",
            "page=0",
            "page=1",
            "page=2",
            "short: 3 of 7"
        ]
    );
}

#[test]
fn a_list_that_brings_what_is_counted_at_its_end_is_whole() {
    let list = Counted::new(
        PageNumber {
            param: "page",
            first: 1,
            total_pages: None,
        },
        "meta/total",
    );
    for (place, body, expected) in [
        // A record went meanwhile, others came, or nobody counts.
        (
            r#"{"at":"2","seen":3,"total":7}"#,
            r#"{"data":[],"meta":{"total":3}}"#,
            "end",
        ),
        (r#"{"at":"2","seen":9,"total":7}"#, r#"{"data":[]}"#, "end"),
        (
            r#"{"at":"2","seen":3}"#,
            r#"{"data":[],"meta":{"total":null}}"#,
            "end",
        ),
        // The second reading brought everything.
        (
            r#"{"at":"2","seen":7,"total":7,"again":true}"#,
            r#"{"data":[]}"#,
            "end",
        ),
        (
            r#"{"at":"2","seen":3,"total":3}"#,
            r#"{"data":[],"meta":{"total":"4"}}"#,
            r#"next {"seen":0,"again":true}"#,
        ),
        // A position from before anybody counted.
        ("2", r#"{"data":[],"meta":{"total":9}}"#, "end"),
        ("2", r#"{"data":[1],"meta":{"total":9}}"#, "next 3"),
        // Nothing to compare.
        (r#"{"at":"2","seen":3}"#, r#"{"data":[1]}"#, "next 3"),
    ] {
        assert_eq!(counted(&list, &at(place), body), expected, "{place}");
    }
    assert_eq!(applied(&list, &at("2"), &[]), "page=2");
    assert_eq!(applied(&list, &Position::Start, &[]), "page=1");
    assert!(list.shifts());
}

#[test]
fn a_counted_list_that_does_not_move_is_noticed() {
    let list = Counted::new(CURSOR, "total");
    let body = r#"{"data":[1],"meta":{"after":"x","has_more":true},"total":9}"#;
    assert_eq!(
        counted(&list, &Position::Start, body),
        r#"next {"at":"x","seen":1,"total":9}"#
    );
    assert_eq!(
        counted(&list, &at(r#"{"at":"x","seen":1,"total":9}"#), body),
        STUCK
    );
    assert_eq!(
        counted(
            &list,
            &at("x"),
            r#"{"data":[1],"meta":{"after":"x","has_more":true}}"#
        ),
        STUCK
    );
}

#[test]
fn a_counted_list_recovers_as_the_other_one_does() {
    let list = Counted::new(
        AfterLastId {
            param: "after",
            more: "has_more",
            id: "id",
        },
        "total",
    );
    let place = at(r#"{"at":"a\nb","seen":2,"total":5}"#);
    assert_eq!(
        list.recover(&place),
        Some(at(r#"{"at":"a","seen":2,"total":5}"#))
    );
    assert_eq!(list.recover(&Position::Start), None);
}
