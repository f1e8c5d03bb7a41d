//! Tests of lines, and of answers that are not what was asked for.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;

use super::lines::cut_lines;
use super::*;
use crate::connector::Stream;
use crate::http::{
    Bearer, BuildContext, Classifier, HeaderMap, HttpClient, HttpService, RawResponse,
    ResponseAction, StatusCode, TransportError,
};
use crate::json::lines::Lines;
use crate::message::ResponseView;
use crate::model::schema::Schema;

/// What is not found is an empty answer.
#[derive(Debug)]
pub(super) struct GoneIsNothing;

impl Classifier for GoneIsNothing {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        (answer.status == StatusCode::NOT_FOUND).then_some(ResponseAction::Ignore)
    }
}

/// A success that says that there is no such thing is an empty answer.
#[derive(Debug)]
struct SaysNothing;

impl Classifier for SaysNothing {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        answer
            .body
            .starts_with(br#"{"ok":false"#)
            .then_some(ResponseAction::Ignore)
    }
}

#[tokio::test]
async fn t1_a_success_that_is_ignored_is_a_page_without_records() {
    let answer: &[u8] = br#"{"ok":false,"error":"channel_not_found"}"#;
    let context = BuildContext {
        transport: Some(Arc::new(Always(answer))),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .classifier(SaysNothing)
        .build()
        .unwrap();
    let things = || {
        Endpoint::get("things", "/things")
            .records("data")
            .stream(Stream::new("things", Schema::default()))
    };
    for endpoint in [
        things(),
        things().ndjson(Lines {
            check: |_| Ok(()),
            malformed: 0,
            most: u64::MAX,
        }),
    ] {
        let pages: Vec<Page> = Reader::new(client.clone())
            .read(&endpoint, SliceState::default())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            (pages.len(), pages[0].records[0].len(), &pages[0].advance),
            (1, 0, &Some(Advance::End))
        );
    }
}

#[tokio::test]
async fn a5_one_object_in_the_place_of_a_list_is_an_error_unless_the_answer_can_be_one_record() {
    assert_eq!(
        first(b"{\"data\":{\"id\":1}}").await.unwrap().records[0].len(),
        1
    );
    let (ids, error) = listed(&[r#"{"data":{"id":"a","at":9},"next":null}"#]).await;
    assert_eq!((ids.len(), error), (0, Some(ErrorKind::Decode)));
}

#[test]
fn lines_are_cut_at_line_feeds_only() {
    let texts = |lines: &'static str| {
        let lines = Bytes::from_static(lines.as_bytes());
        let records = cut_lines(&lines);
        assert!(
            records
                .iter()
                .all(|record| lines.as_ptr_range().contains(&record.as_bytes().as_ptr())),
            "slices, not copies"
        );
        records
            .iter()
            .map(|record| String::from_utf8(record.as_bytes().to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts("{\"a\":1}\n{\"a\":2}\n"), ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(
        texts("{\"a\":1}\n{\"a\":2}"),
        ["{\"a\":1}", "{\"a\":2}"],
        "the last line may lack its end"
    );
    assert_eq!(
        texts("\r\n{\"a\":1}\r\n \n\n{\"a\":2}\r\n"),
        ["{\"a\":1}", "{\"a\":2}"]
    );
    assert_eq!(texts("\u{feff}{\"a\":1}\n"), ["{\"a\":1}"]);
    for separator in ["\u{2028}", "\u{2029}", "\u{85}", "\u{b}", "\u{c}", "\r"] {
        let line = format!("{{\"a\":\"x{separator}y\"}}");
        assert_eq!(
            cut_lines(&Bytes::from(format!("{line}\n{line}"))).len(),
            2,
            "{separator:?}"
        );
    }
    assert_eq!(texts(""), [""; 0]);
}

/// Answers every request with the same bytes.
#[derive(Debug)]
struct Always(&'static [u8]);

#[async_trait::async_trait]
impl HttpService for Always {
    async fn call(&self, _request: Request) -> std::result::Result<RawResponse, TransportError> {
        Ok(RawResponse::full(StatusCode::OK, HeaderMap::new(), self.0))
    }
}

/// The first page of a list of things under `data` that answers so.
async fn first(body: &'static [u8]) -> Result<Page> {
    let context = BuildContext {
        transport: Some(Arc::new(Always(body))),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .authenticator(Bearer::new("s3cret-token".into()));
    let endpoint = Endpoint::get("things", "/things")
        .records("data")
        .stream(Stream::new("things", Schema::default()));
    let client = client.build().unwrap();
    Reader::new(client.clone())
        .read(&endpoint, SliceState::default())
        .try_next()
        .await
        .map(Option::unwrap)
}

#[tokio::test]
async fn a_page_of_many_small_records_is_read_without_a_budget() {
    let body = format!("{{\"data\":[{}]}}", vec!["{\"a\":1}"; 20_000].join(","));
    assert_eq!(
        first(body.leak().as_bytes()).await.unwrap().records[0].len(),
        20_000
    );
}

#[tokio::test]
async fn bytes_that_are_not_text_cost_neither_the_record_nor_the_page() {
    for body in [
        &b"{\"data\":[{\"a\":\"caf\xe9\"},{\"n\xff\":1}]}"[..],
        b"{\"data\":[{\"a\":\"caf\\ud83d\"},{\"n\\udc00\":1}]}",
    ] {
        let records = first(body).await.unwrap().records.remove(0);
        let read = |index: usize| {
            serde_json::from_slice::<std::collections::BTreeMap<String, RawText>>(
                &records[index].as_bytes(),
            )
            .unwrap()
        };
        assert_eq!(
            (read(0)["a"].0.as_str(), read(1)["n\u{FFFD}"].0.as_str()),
            ("caf\u{FFFD}", "1")
        );
    }
    assert_eq!(
        first(b"{\"data\":[\xff]}").await.unwrap_err().kind(),
        ErrorKind::Decode,
        "what is not JSON stays so"
    );
}

/// A string, or another value as it is written.
struct RawText(String);

impl<'de> serde::Deserialize<'de> for RawText {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
        Ok(Self(
            serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
        ))
    }
}

#[tokio::test]
async fn an_error_in_a_success_is_a_refusal_in_the_vendors_words() {
    let error = first(b"{\"error\":{\"message\":\"not set up for s3cret-token\"}}")
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("path")),
        (ErrorKind::Refused, Some("/things"))
    );
    assert_eq!(
        error.context_value("answer"),
        Some("{\"error\":{\"message\":\"not set up for [redacted]\"}}")
    );
    for body in [
        &b"{\"error\":null}"[..],
        b"{\"errors\":[]}",
        b"{\"things\":[]}",
    ] {
        assert_eq!(first(body).await.unwrap_err().kind(), ErrorKind::Decode);
    }
    first(b"{\"data\":[],\"error\":\"of no account\"}")
        .await
        .unwrap();
    let error = first(b"Back in an hour, s3cret-token").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("answer")),
        (ErrorKind::Decode, Some("Back in an hour, [redacted]"))
    );
}

/// Answers with one body after the other, and then with the last for ever.
#[derive(Debug)]
struct Script(std::sync::Mutex<Vec<String>>);

#[async_trait::async_trait]
impl HttpService for Script {
    async fn call(&self, _request: Request) -> std::result::Result<RawResponse, TransportError> {
        let mut bodies = self.0.lock().unwrap();
        let body = if bodies.len() > 1 {
            bodies.remove(0)
        } else {
            bodies[0].clone()
        };
        Ok(RawResponse::full(StatusCode::OK, HeaderMap::new(), body))
    }
}

/// The ids of the pages of a list that is answered so.
async fn listed(bodies: &[&str]) -> (Vec<String>, Option<ErrorKind>) {
    listed_in(None, bodies).await
}

/// The same of the part of a list that is in a window.
async fn listed_in(
    window: Option<crate::model::state::Window>,
    bodies: &[&str],
) -> (Vec<String>, Option<ErrorKind>) {
    let endpoint = things()
        .paginate(CURSOR)
        .cursor("at", crate::TimeFormat::UnixSeconds)
        .slices(crate::connector::slice::TimeSlicer::newest_first(
            "since",
            "until",
            crate::TimeFormat::UnixSeconds,
        ));
    let (ids, error) = walked(
        &endpoint,
        SliceState {
            window,
            ..SliceState::default()
        },
        bodies,
    )
    .await;
    (ids, error.map(|error| error.kind()))
}

const CURSOR: crate::connector::paginate::CursorField = crate::connector::paginate::CursorField {
    param: "page",
    token: "next",
    more: None,
    first_page_only: &[],
    resumable: false,
};

fn things() -> Endpoint {
    Endpoint::get("things", "/things")
        .records("data")
        .stream(Stream::new("things", Schema::default()).primary_key(["id"]))
}

/// The ids of the pages of a slice of a list that is answered so.
async fn walked(
    endpoint: &Endpoint,
    slice: SliceState,
    bodies: &[&str],
) -> (Vec<String>, Option<Error>) {
    let script = Script(std::sync::Mutex::new(
        bodies.iter().map(ToString::to_string).collect(),
    ));
    let context = BuildContext {
        transport: Some(Arc::new(script)),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .build()
        .unwrap();
    let mut pages = Reader::new(client.clone()).read(endpoint, slice);
    let mut ids = Vec::new();
    loop {
        match pages.try_next().await {
            Ok(Some(page)) => ids.push(
                page.records[0]
                    .iter()
                    .map(|record| record.scalar("id").unwrap())
                    .collect::<String>(),
            ),
            Ok(None) => return (ids, None),
            Err(error) => return (ids, Some(error)),
        }
    }
}

const A: &str = r#"{"data":[{"id":"a","at":9},{"id":"b","at":8}],"next":"2"}"#;
const B: &str = r#"{"data":[{"id":"c","at":7}],"next":"3"}"#;
const C: &str = r#"{"data":[{"id":"d","at":6}],"next":null}"#;

#[tokio::test(start_paused = true)]
async fn d01_a_page_that_is_damaged_on_the_way_is_asked_for_again() {
    let whole = (vec!["ab".to_owned(), "c".to_owned(), "d".to_owned()], None);
    for damaged in [
        r#"{"data":[{"id":"c","at":7},],"next":"3"}"#,
        r#"{"data":[{"id":"c" "at":7}],"next":"3"}"#,
        "{\"data\":[{]}",
        "{}",
    ] {
        assert_eq!(listed(&[A, damaged, B, C]).await, whole, "{damaged}");
        assert_eq!(
            listed(&[A, damaged, damaged, damaged, B]).await,
            (vec!["ab".to_owned()], Some(ErrorKind::Decode)),
            "{damaged}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn b20_a_page_that_comes_again_in_the_place_of_another_is_asked_for_again() {
    let whole = (vec!["ab".to_owned(), "c".to_owned(), "d".to_owned()], None);
    let again = A.replace("\"2\"", "\"other\"");
    assert_eq!(listed(&[A, &again, B, C]).await, whole, "the page before");
    assert_eq!(
        listed(&[A, B, &again, C]).await,
        whole,
        "one from before that, whose records are too new"
    );
}

#[tokio::test(start_paused = true)]
async fn b20_a_page_of_another_window_is_asked_for_again() {
    let second = |second| DateTime::<Utc>::from_timestamp(second, 0).unwrap();
    let window = Some(crate::model::state::Window {
        since: Some(second(6)),
        until: second(10),
    });
    let older = r#"{"data":[{"id":"x","at":5},{"id":"y","at":4}],"next":"9"}"#;
    let newer = r#"{"data":[{"id":"z","at":11}],"next":"9"}"#;
    let whole = (vec!["ab".to_owned(), "c".to_owned(), "d".to_owned()], None);
    for foreign in [older, newer] {
        for bodies in [[foreign, A, B, C], [A, foreign, B, C], [A, B, foreign, C]] {
            assert_eq!(listed_in(window, &bodies).await, whole, "{foreign}");
        }
    }
    // A vendor that ignores the window is taken as it is, and asked twice more only once.
    let (ids, error) = listed_in(window, &[older, older, older, B, C]).await;
    assert_eq!(
        (ids, error),
        (["xy", "c", "d"].map(str::to_owned).to_vec(), None)
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_in_order_is_read_as_it_is() {
    let newer = r#"{"data":[{"id":"n","at":99}],"next":"3"}"#;
    let newest = r#"{"data":[{"id":"m","at":199}],"next":"4"}"#;
    let read = listed(&[A, newer, newer, newer, newest, C]).await;
    assert_eq!(
        read,
        (["ab", "n", "m", "d"].map(str::to_owned).to_vec(), None)
    );
}

#[tokio::test(start_paused = true)]
async fn c03_the_same_page_under_ever_new_cursors_ends() {
    let pages: Vec<String> = (0..100)
        .map(|cursor| A.replace("\"2\"", &format!("\"{cursor}\"")))
        .collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let (ids, error) = listed(&pages).await;
    assert_eq!(
        (ids.len(), error),
        (1, Some(ErrorKind::Decode)),
        "not one of them is taken for the next page"
    );
}

fn strings(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// A list in no order, so that nothing but the content of its pages can be compared.
#[tokio::test(start_paused = true)]
async fn b20_a_page_that_stays_an_earlier_one_is_never_believed() {
    let list = things().paginate(CURSOR);
    let again = A.replace("\"2\"", "\"4\"");
    let wrong: [&[&str]; 2] = [
        &[A, &again, &again, &again, B, C],
        &[A, B, &again, &again, &again, C],
    ];
    for (bodies, read) in wrong
        .into_iter()
        .zip([strings(&["ab"]), strings(&["ab", "c"])])
    {
        let (ids, error) = walked(&list, SliceState::default(), bodies).await;
        let error = error.unwrap();
        assert_eq!(
            (ids, error.kind(), error.status()),
            (read, ErrorKind::Decode, crate::ErrorStatus::Persistent)
        );
        assert!(error.doubted().is_some());
    }
    let (ids, error) = walked(&list, SliceState::default(), &[A, B, &again, &again, C]).await;
    assert_eq!(
        (ids, error.is_none()),
        (strings(&["ab", "c", "d"]), true),
        "two wrong answers are not too many"
    );
}

#[tokio::test(start_paused = true)]
async fn b20_the_next_sync_does_not_believe_it_either() {
    let list = things().paginate(CURSOR);
    let again = A.replace("\"2\"", "\"4\"");
    let (_, error) = walked(&list, SliceState::default(), &[A, &again]).await;
    let doubted = |position: &str| SliceState {
        position: Position::At(position.to_owned()),
        doubted: error.as_ref().and_then(Error::doubted),
        ..SliceState::default()
    };
    let (ids, still) = walked(&list, doubted("2"), &[&again]).await;
    assert_eq!(
        (ids, still.and_then(|still| still.doubted())),
        (strings(&[]), error.as_ref().and_then(Error::doubted))
    );
    let (ids, healed) = walked(&list, doubted("2"), &[&again, B, C]).await;
    assert_eq!((ids, healed.is_none()), (strings(&["c", "d"]), true));
    let (ids, elsewhere) = walked(&list, doubted("1"), &[A, B, C]).await;
    assert_eq!(
        (ids, elsewhere.is_none()),
        (strings(&["ab", "c", "d"]), true),
        "where it belongs, the page is right"
    );
}

/// The last second of a page comes once more at the head of the next, and may be all of it.
#[tokio::test(start_paused = true)]
async fn c18_a_page_may_repeat_the_one_before_where_the_boundary_comes_again() {
    let list = things().paginate(crate::connector::paginate::WindowCursor {
        since: "since",
        until: "until",
        done: "done",
    });
    let page = |id: &str, until: u32, done: bool| {
        format!(r#"{{"data":[{{"id":"{id}"}}],"until":{until},"done":{done}}}"#)
    };
    let (ids, error) = walked(
        &list,
        SliceState::default(),
        &[&page("a", 5, false), &page("a", 5, true)],
    )
    .await;
    assert_eq!((ids, error.is_none()), (strings(&["a", "a"]), true));
    let stuck = [
        page("a", 5, false),
        page("a", 6, false),
        page("a", 6, false),
        page("a", 6, false),
    ];
    let (ids, error) = walked(
        &list,
        SliceState::default(),
        &stuck.each_ref().map(String::as_str),
    )
    .await;
    assert_eq!(
        (ids, error.map(|error| error.kind())),
        (strings(&["a"]), Some(ErrorKind::Decode)),
        "but not while time goes on"
    );
}

#[tokio::test(start_paused = true)]
async fn a_counted_list_is_complete_when_as_many_different_records_came() {
    use crate::connector::paginate::{Counted, PageNumber};
    let list = things().paginate(Counted::new(
        PageNumber {
            param: "page",
            first: 1,
            total_pages: None,
        },
        "total",
    ));
    let page = |ids: &[u32]| {
        let records: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        format!(r#"{{"data":[{}],"total":4}}"#, records.join(","))
    };
    let (first, second, mixed, none) = (page(&[1, 2]), page(&[3, 4]), page(&[2, 3]), page(&[]));
    let walk = async |bodies: &[&str]| {
        let (ids, error) = walked(&list, SliceState::default(), bodies).await;
        (ids.concat(), error.map(|error| error.kind()))
    };
    assert_eq!(
        walk(&[&first, &second, &none]).await,
        ("1234".to_owned(), None)
    );
    assert_eq!(
        walk(&[&first, &mixed, &none, &first, &second, &none]).await,
        ("12231234".to_owned(), None),
        "read once more"
    );
    let short = walk(&[&first, &mixed, &none, &first, &mixed, &none]).await;
    assert_eq!(short, ("12231223".to_owned(), Some(ErrorKind::Unavailable)));
    let repeated = walk(&[&first, &second, &first, &first, &first]).await;
    assert_eq!(
        repeated,
        ("1234".to_owned(), Some(ErrorKind::Decode)),
        "whatever the numbers are"
    );
    // A reading that was the second one is begun anew by the next sync.
    let resumed = SliceState {
        position: Position::At(r#"{"at":"2","seen":3,"total":4,"again":true}"#.to_owned()),
        ..SliceState::default()
    };
    let (ids, error) = walked(&list, resumed, &[&first, &second, &none]).await;
    assert_eq!((ids.concat(), error.is_none()), ("1234".to_owned(), true));
    let single = page(&[1]);
    assert_eq!(
        walk(&[&single, &none, &single, &none]).await.1,
        Some(ErrorKind::Unavailable),
        "in a second reading every page comes again"
    );
}
