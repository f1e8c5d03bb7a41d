//! Cursors: what a page says of the next one can be asked for, and never leads to another host. The
//! first line is the position at which the page was read, the second its `Link` header, the rest
//! its body.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use pipeline_core::http::{Method, Request};
use pipeline_core::paginate::{
    AfterLastId, Counted, CursorField, LinkHeader, More, NextUrl, Offset, PageNumber, PageView,
    Paginator, SinglePage, WindowCursor,
};
use pipeline_core::state::Position;
use pipeline_core::{Advance, RecordPath, split};

const TOKEN: CursorField = CursorField {
    param: "after",
    token: "next",
    more: Some(More::WhenTrue("more")),
    first_page_only: &["since"],
    resumable: true,
};
const PAGES: PageNumber = PageNumber {
    param: "page",
    first: 1,
    total_pages: Some("pages"),
};

/// The request for a position, if there is one; its origin is always the same.
fn asked(paginator: &dyn Paginator, at: &Position) -> Option<Request> {
    let mut request = Request::new(
        Method::GET,
        "https://vendor.test/api/things".parse().expect("a URL"),
    );
    request.query = vec![("since".to_owned(), "5".to_owned())];
    let outcome = paginator.apply(at, &mut request);
    assert_eq!(
        request.full_url().origin().ascii_serialization(),
        "https://vendor.test",
        "{at:?}"
    );
    outcome.ok().map(|()| request)
}

fn walk(paginator: &dyn Paginator, at: &Position, headers: &HeaderMap, body: &Bytes) {
    let Some(request) = asked(paginator, at) else {
        return;
    };
    let mut earlier = paginator.recover(at);
    while let Some(position) = earlier {
        assert!(
            asked(paginator, &position).is_some(),
            "{paginator:?} goes back from {at:?} to {position:?}"
        );
        let next = paginator.recover(&position);
        assert_ne!(next.as_ref(), Some(&position), "{paginator:?}");
        earlier = next;
    }
    let Ok(page) = split(body, &[RecordPath::new("data")]) else {
        return;
    };
    let page = PageView {
        request: &request,
        headers,
        envelope: &page.envelope,
        records: &page.records[0],
    };
    match paginator.advance(at, &page) {
        Ok(Advance::Next(next) | Advance::CaughtUp(next)) => {
            assert!(
                asked(paginator, &Position::At(next.clone())).is_some(),
                "{paginator:?} goes on from {at:?} to {next:?}"
            );
        }
        Ok(Advance::End) | Err(_) => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let (Some(position), Some(link), Some(body)) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let position = String::from_utf8_lossy(position).replace('|', "\n");
    let at = if position.is_empty() {
        Position::Start
    } else {
        Position::At(position)
    };
    let mut headers = HeaderMap::new();
    if let Ok(link) = HeaderValue::from_bytes(link) {
        headers.insert(header::LINK, link);
    }
    let body = Bytes::copy_from_slice(body);
    let paginators: [&dyn Paginator; 11] = [
        &SinglePage,
        &TOKEN,
        &CursorField {
            more: None,
            resumable: false,
            ..TOKEN
        },
        &AfterLastId {
            param: "after",
            more: "more",
            id: "id",
        },
        &NextUrl { url: "next" },
        &LinkHeader,
        &WindowCursor {
            since: "since",
            until: "next",
            done: "more",
        },
        &Offset {
            param: "offset",
            total: Some("total"),
        },
        &PAGES,
        &Counted::new(PAGES, "total"),
        &Counted::new(NextUrl { url: "next" }, "total"),
    ];
    for paginator in paginators {
        walk(paginator, &at, &headers, &body);
    }
});
