//! How lists are walked.

use bytes::Bytes;
use pipeline_core::http::HeaderMap;
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{Advance, RecordPath, split};

use super::request;
use crate::paging::AppPages;
use crate::profiles::SessionPages;

#[test]
fn a_scan_ends_when_the_page_and_the_total_agree() {
    let advance = |at: &Position, body: &'static str| {
        let split = split(&Bytes::from(body), &[RecordPath::new("results")]).unwrap();
        let request = request("/api/query/engage");
        let view = PageView {
            request: &request,
            headers: &HeaderMap::new(),
            envelope: &split.envelope,
            records: &split.records[0],
            fresh: split.records[0].len(),
        };
        format!("{:?}", SessionPages.advance(at, &view))
    };
    let second = Position::At("1 5 s 1".to_owned());
    let unknown = Position::At("1 - s".to_owned());
    let table = [
        advance(
            &Position::Start,
            r#"{"page_size":2,"session_id":"s 1","total":5,"results":[{},{}]}"#,
        ),
        advance(
            &Position::Start,
            r#"{"page_size":2,"session_id":"s","total":0,"results":[]}"#,
        ),
        advance(
            &Position::Start,
            r#"{"page_size":2,"session_id":"s","results":[{},{}]}"#,
        ),
        advance(
            &second,
            r#"{"page_size":2,"session_id":"s 1","results":[{},{}]}"#,
        ),
        advance(
            &second,
            r#"{"page_size":2,"session_id":"s 1","results":[{}]}"#,
        ),
        advance(
            &second,
            r#"{"page_size":2,"session_id":"s 1","results":[]}"#,
        ),
        advance(
            &Position::At("2 5 s 1".to_owned()),
            r#"{"page_size":2,"session_id":"s 1","results":[{}]}"#,
        ),
        advance(
            &Position::At("2 6 s".to_owned()),
            r#"{"page_size":2,"session_id":"s","results":[{},{}]}"#,
        ),
        advance(
            &Position::At("3 6 s".to_owned()),
            r#"{"page_size":2,"session_id":"s","results":[]}"#,
        ),
        advance(
            &unknown,
            r#"{"page_size":2,"session_id":"s","results":[{}]}"#,
        ),
        advance(&unknown, r#"{"session_id":"s","results":[{}]}"#),
        advance(&unknown, r#"{"page_size":1,"results":[{}]}"#),
        advance(
            &Position::Start,
            r#"{"page_size":2,"session_id":"s","total":2,"results":[{}]}"#,
        ),
        advance(
            &Position::At("1 4:2 s".to_owned()),
            r#"{"page_size":2,"session_id":"s","results":[{},{}]}"#,
        ),
        advance(
            &Position::At("1 4:2 s".to_owned()),
            r#"{"page_size":2,"session_id":"s","results":[{}]}"#,
        ),
        advance(
            &Position::At("0 -:0:1 ".to_owned()),
            r#"{"page_size":2,"session_id":"s","total":4,"results":[{},{}]}"#,
        ),
        advance(
            &Position::At("1 4:2:1 s".to_owned()),
            r#"{"page_size":2,"session_id":"s","results":[{}]}"#,
        ),
        advance(
            &Position::At("1 4:2:1 s".to_owned()),
            r#"{"page_size":2,"session_id":"s","results":[{},{}]}"#,
        ),
    ];
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_scan_whose_session_expired_is_begun_anew_once() {
    let recovered = |at: &str| SessionPages.recover(&Position::At(at.to_owned()));
    let anew = Position::At("0 -:0:1 ".to_owned());
    assert_eq!(recovered("2 5:4 s"), Some(anew.clone()));
    assert_eq!(
        recovered("2 5 s"),
        Some(anew.clone()),
        "a position of an earlier version"
    );
    assert_eq!(recovered("2 5:4:1 s"), None);
    assert_eq!(SessionPages.recover(&Position::Start), None);
    let mut asked = request("/api/query/engage");
    SessionPages.apply(&anew, &mut asked).unwrap();
    assert_eq!(asked.body.as_ref(), b"", "it is a first page");
    SessionPages
        .apply(&Position::At("3 9:6:1 s 1".to_owned()), &mut asked)
        .unwrap();
    assert_eq!(asked.body.as_ref(), b"page=3&session_id=s+1");
}

#[test]
fn lists_of_the_app_api_go_on_where_they_say_so() {
    let advance = |body: &'static str| {
        let split = split(&Bytes::from(body), &[RecordPath::new("results")]).unwrap();
        let request = request("/api/app/projects/7/annotations");
        let view = PageView {
            request: &request,
            headers: &HeaderMap::new(),
            envelope: &split.envelope,
            records: &split.records[0],
            fresh: split.records[0].len(),
        };
        AppPages.advance(&Position::Start, &view).unwrap()
    };
    for whole in [
        r#"{"results":[{}]}"#,
        r#"{"results":[],"pagination":null}"#,
        r#"{"results":[{}],"pagination":{"page_size":100,"next_cursor":null}}"#,
    ] {
        assert_eq!(advance(whole), Advance::End, "{whole}");
    }
    assert_eq!(
        advance(r#"{"results":[],"pagination":{"page_size":100,"next_cursor":"abc"}}"#),
        Advance::Next("abc".to_owned())
    );
    let mut asked = request("/api/app/projects/7/annotations");
    AppPages
        .apply(&Position::At("abc".to_owned()), &mut asked)
        .unwrap();
    assert_eq!(asked.query, [("cursor".to_owned(), "abc".to_owned())]);
}
