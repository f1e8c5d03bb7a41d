//! Tests of lists inside records, on a shop whose orders bring the first two of their lines along.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::TryStreamExt;

use super::*;
use crate::connector::Stream;
use crate::connector::paginate::AfterLastId;
use crate::declarative::tests::GoneIsNothing;
use crate::http::{BuildContext, HttpClient, HttpService, RawResponse, StatusCode, TransportError};
use crate::model::schema::{DataType, Schema};

/// Orders as they are listed, and the lines of the order `a` as its own list has them, two a page.
#[derive(Debug)]
struct Shop {
    orders: String,
    lines: Vec<&'static str>,
    is_gone: bool,
    requests: Mutex<Vec<String>>,
}

#[async_trait]
impl HttpService for Shop {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let url = request.full_url();
        self.requests.lock().unwrap().push(
            [Some(url.path()), url.query()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("?"),
        );
        let after = url
            .query_pairs()
            .find(|(name, _)| name == "after")
            .map(|(_, id)| id.into_owned());
        let (status, body) = match url.path() {
            "/orders" => (200, format!(r#"{{"data":[{}],"more":false}}"#, self.orders)),
            _ if self.is_gone => (404, "{}".to_owned()),
            _ => {
                let start = after
                    .and_then(|after| self.lines.iter().position(|line| *line == after))
                    .map_or(0, |index| index + 1);
                let page: Vec<_> = self.lines[start..]
                    .iter()
                    .take(2)
                    .map(|id| format!(r#"{{"id":"{id}"}}"#))
                    .collect();
                (
                    200,
                    format!(
                        r#"{{"data":[{}],"more":{}}}"#,
                        page.join(","),
                        start + 2 < self.lines.len()
                    ),
                )
            }
        };
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            body,
        ))
    }
}

const PAGES: AfterLastId = AfterLastId {
    param: "after",
    more: "more",
    id: "id",
};

fn stream(name: &'static str) -> Stream {
    Stream::new(name, Schema::default().with("id", DataType::String)).primary_key(["id"])
}

fn orders() -> Endpoint {
    let lines = Endpoint::get("lines", "/orders/{id}/lines")
        .records("data")
        .stream(stream("lines"))
        .paginate(PAGES);
    Endpoint::get("orders", "/orders")
        .records("data")
        .stream(stream("orders"))
        .paginate(PAGES)
        .stream_embedded(
            EmbeddedList::new("lines", "more", lines)
                .total("count")
                .include_from_parent("id", "order"),
        )
}

/// What came of reading one order: the orders and lines read and the lists given up, and the
/// requests for lines.
async fn read(
    orders_json: &str,
    lines: &[&'static str],
    is_gone: bool,
) -> (Result<(String, Vec<String>, u64)>, Vec<String>) {
    let shop = Arc::new(Shop {
        orders: orders_json.to_owned(),
        lines: lines.to_vec(),
        is_gone,
        requests: Mutex::default(),
    });
    let context = BuildContext {
        transport: Some(shop.clone()),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .classifier(GoneIsNothing)
        .build()
        .unwrap();
    let endpoint = orders();
    let pages: Result<Vec<Page>> = Reader::new(client.clone())
        .read(&endpoint, SliceState::default())
        .try_collect()
        .await;
    let text = |records: &[RawRecord]| -> Vec<String> {
        records
            .iter()
            .map(|record| String::from_utf8_lossy(&record.as_bytes()).into_owned())
            .collect()
    };
    let found = pages.map(|pages| {
        let [page] = &pages[..] else {
            panic!("one page, not {}", pages.len())
        };
        (
            text(&page.records[0]).join(" "),
            text(&page.records[1]),
            page.skipped,
        )
    });
    let requests = shop.requests.lock().unwrap()[1..].to_vec();
    (found, requests)
}

#[tokio::test]
async fn what_is_missing_of_a_list_is_requested_behind_what_is_there() {
    let order = r#"{"id":"a","lines":{"data":[{"id":"1"},{"id":"2","order":null}],"more":true,"count":5},"paid":1.10}"#;
    let (found, requests) = read(order, &["1", "2", "3", "4", "5"], false).await;
    let (order, lines, skipped) = found.unwrap();
    assert_eq!(
        requests,
        ["/orders/a/lines?after=2", "/orders/a/lines?after=4"]
    );
    let all = r#"[{"id":"1"},{"id":"2","order":null},{"id":"3"},{"id":"4"},{"id":"5"}]"#;
    assert_eq!(
        order,
        format!(r#"{{"id":"a","lines":{{"data":{all},"more":false,"count":5}},"paid":1.10}}"#)
    );
    let expected: Vec<_> = (1..=5)
        .map(|id| format!(r#"{{"order":"a","id":"{id}"}}"#))
        .collect();
    assert_eq!((lines, skipped), (expected, 0));
}

#[tokio::test]
async fn a_list_that_is_all_there_costs_no_request() {
    for order in [
        r#"{"id":"a","lines":{"data":[{"id":"1"},{"id":"2"}],"more":false,"count":2}}"#,
        r#"{"id":"a","lines":{"data":[],"more":false}}"#,
        r#"{"id":"a","lines":null}"#,
        r#"{"id":"a"}"#,
    ] {
        let (found, requests) = read(order, &["1", "2"], false).await;
        let (read, lines, _) = found.unwrap();
        assert_eq!(
            (read.as_str(), lines.len()),
            (order, order.matches("id").count() - 1)
        );
        assert!(requests.is_empty(), "{requests:?}");
    }
}

#[tokio::test]
async fn the_beginning_is_kept_and_counted_when_the_record_is_gone() {
    let order = r#"{"id":"a","lines":{"data":[{"id":"1"},{"id":"2"}],"more":true}}"#;
    let (found, requests) = read(order, &[], true).await;
    let (read, lines, skipped) = found.unwrap();
    assert_eq!((read.as_str(), lines.len(), skipped), (order, 2, 1));
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn a_list_that_does_not_hold_what_it_says_is_missing_and_its_record_is_not() {
    let order = r#"{"id":"a","lines":{"data":[{"id":"1"},{"id":"2"}],"more":true,"count":4}}"#;
    let shop = Arc::new(Shop {
        orders: order.to_owned(),
        lines: vec!["1", "2", "3"],
        is_gone: false,
        requests: Mutex::default(),
    });
    let context = BuildContext {
        transport: Some(shop),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .build()
        .unwrap();
    let endpoint = orders();
    let pages: Vec<Page> = Reader::new(client.clone())
        .read(&endpoint, SliceState::default())
        .try_collect()
        .await
        .unwrap();
    let [Page { records, gaps, .. }] = &pages[..] else {
        panic!("{pages:?}")
    };
    assert_eq!(
        (records[0].len(), records[1].len()),
        (1, 2),
        "what the vendor sent is stored"
    );
    let [missed] = &gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!(missed.name, "a");
    assert!(
        missed.reason.contains("list: lines") && missed.reason.contains("entries: 3 of 4"),
        "{}",
        missed.reason
    );
    let fetched = Reader::new(client.clone())
        .read_record(&endpoint, RawRecord::upsert(order))
        .await;
    assert_eq!(fetched.unwrap_err().kind(), ErrorKind::Decode);
}

#[tokio::test]
async fn one_record_with_an_odd_list_fails_no_other() {
    for odd in [
        "{}",
        "null",
        "[]",
        r#"{"data":null}"#,
        r#"{"more":true}"#,
        "7",
    ] {
        let orders = format!(
            r#"{{"id":"a","lines":{{"data":[{{"id":"1"}}],"more":false}}}},{{"id":"b","lines":{odd}}},{{"id":"c"}}"#
        );
        let shop = Arc::new(Shop {
            orders,
            lines: Vec::new(),
            is_gone: false,
            requests: Mutex::default(),
        });
        let context = BuildContext {
            transport: Some(shop),
            ..BuildContext::default()
        };
        let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
            .build()
            .unwrap();
        let endpoint = super::tests::orders();
        let pages: Vec<Page> = Reader::new(client.clone())
            .read(&endpoint, SliceState::default())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            (pages[0].records[0].len(), pages[0].records[1].len()),
            (3, 1),
            "{odd}"
        );
    }
}

#[tokio::test]
async fn a_beginning_that_does_not_tell_where_to_go_on_is_read_again() {
    for beginning in [r#"{"id":"1"},{"id":"1"}"#, r#"{"id":"1"},{}"#, ""] {
        let order = format!(r#"{{"id":"a","lines":{{"data":[{beginning}],"more":true}}}}"#);
        let (found, requests) = read(&order, &["1", "2", "3"], false).await;
        let (_, lines, _) = found.unwrap();
        assert_eq!(lines.len(), 3, "{beginning}");
        assert_eq!(
            requests,
            ["/orders/a/lines", "/orders/a/lines?after=2"],
            "{beginning}"
        );
    }
}

#[tokio::test]
async fn a_record_fetched_by_itself_holds_its_lists_as_well() {
    let shop = Arc::new(Shop {
        orders: String::new(),
        lines: vec!["1", "2", "3"],
        is_gone: false,
        requests: Mutex::default(),
    });
    let context = BuildContext {
        transport: Some(shop),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .build()
        .unwrap();
    let order = RawRecord::upsert(r#"{"id":"a","lines":{"data":[{"id":"1"}],"more":true}}"#);
    let records = Reader::new(client.clone())
        .read_record(&orders(), order)
        .await
        .unwrap();
    assert_eq!(records.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(
        records[0][0].member("lines").unwrap(),
        r#"{"data":[{"id":"1"},{"id":"2"},{"id":"3"}],"more":false}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a5_a_record_without_the_list_that_a_stream_is_fed_from_is_not_a_record_without_entries() {
    let endpoint = |is_optional| {
        let lines = Endpoint::get("lines", "/orders/{id}/lines")
            .records("data")
            .stream(stream("lines"))
            .paginate(PAGES);
        let list = EmbeddedList::new("lines", "more", lines).include_from_parent("id", "order");
        let orders = Endpoint::get("orders", "/orders")
            .records("data")
            .stream(stream("orders"))
            .paginate(PAGES);
        orders.stream_embedded(if is_optional { list.optional() } else { list })
    };
    for (lines, is_gap, is_gap_if_optional) in [
        ("", true, false),
        (r#","lines":null"#, true, true),
        (r#","lines":{}"#, true, true),
        (r#","lines":{"data":null,"more":false}"#, true, true),
        (r#","lines":{"items":[],"more":false}"#, true, true),
        (r#","lines":"none""#, true, true),
        (r#","lines":{"data":[],"more":false}"#, false, false),
    ] {
        for (is_optional, is_gap) in [(false, is_gap), (true, is_gap_if_optional)] {
            let orders = format!(
                r#"{{"id":"a"{lines}}},{{"id":"b","lines":{{"data":[{{"id":"1"}}],"more":false}}}}"#
            );
            let shop = Arc::new(Shop {
                orders,
                lines: Vec::new(),
                is_gone: false,
                requests: Mutex::default(),
            });
            let context = BuildContext {
                transport: Some(shop),
                ..BuildContext::default()
            };
            let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
                .build()
                .unwrap();
            let endpoint = endpoint(is_optional);
            let pages: Vec<Page> = Reader::new(client.clone())
                .read(&endpoint, SliceState::default())
                .try_collect()
                .await
                .unwrap();
            let gaps: Vec<_> = pages[0]
                .gaps
                .iter()
                .map(|missed| (missed.name.as_str(), missed.keep.clone()))
                .collect();
            let expected = [("a", [("order".to_owned(), "\"a\"".to_owned())].into())];
            assert_eq!(
                gaps,
                expected[..usize::from(is_gap)],
                "{lines}, optional: {is_optional}"
            );
            assert_eq!(
                (pages[0].records[0].len(), pages[0].records[1].len()),
                (2, 1),
                "what is there is read"
            );
        }
    }
}
