//! Next pages that are named by URLs.

use bytes::Bytes;

use super::*;
use crate::model::record::{RecordPath, split};
use crate::tests::request;

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
