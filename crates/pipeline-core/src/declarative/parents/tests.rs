//! Tests of lists of lists, on a shop with orders, their lines, and the lines' notes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::connector::Stream;
use crate::connector::paginate::AfterLastId;
use crate::declarative::tests::GoneIsNothing;
use crate::http::{
    BuildContext, HeaderMap, HttpClient, HttpService, RawResponse, StatusCode, TransportError,
};
use crate::message::Request;
use crate::model::record::Op;
use crate::model::schema::{DataType, Schema};

/// Orders `a` to `e`, two a page. Order `b` has three lines, two a page; `c` is gone, `d` has none;
/// every other has one. Every line has one note.
#[derive(Debug, Default)]
struct Shop {
    refused: BTreeSet<String>,
    /// Orders more, before the others, whose lines are refused.
    refused_first: usize,
    /// Orders whose lines fail in a way that can pass.
    failing: BTreeSet<String>,
    requests: Mutex<Vec<String>>,
}

impl Shop {
    fn answer(&self, request: &Request) -> (u16, String) {
        let url = request.full_url();
        let path: Vec<_> = url.path_segments().unwrap().skip(1).collect();
        let after = url
            .query_pairs()
            .find(|(name, _)| name == "after")
            .map(|(_, id)| id.into_owned());
        self.requests.lock().unwrap().push(
            [Some(url.path()), url.query()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("?"),
        );
        let ids: Vec<String> = match *path {
            ["orders"] => {
                let others = (0..self.refused_first).map(|index| format!("x{index:03}"));
                others
                    .chain(["a", "b", "c", "d", "e"].map(str::to_owned))
                    .collect()
            }
            ["orders", order, "lines"] if order.starts_with('x') => return (403, "{}".to_owned()),
            ["orders", order, "lines"] if self.refused.contains(order) => {
                return (403, "{}".to_owned());
            }
            ["orders", order, "lines"] if self.failing.contains(order) => {
                return (500, "{}".to_owned());
            }
            ["orders", "b", "lines"] => vec!["b1".into(), "b2".into(), "b3".into()],
            ["orders", "c", "lines"] => return (404, "{}".to_owned()),
            ["orders", "d", "lines"] => Vec::new(),
            ["orders", order, "lines"] => vec![format!("{order}1")],
            ["lines", line, "notes"] => vec![format!("note-of-{line}")],
            _ => return (400, "{}".to_owned()),
        };
        let start = after
            .and_then(|after| ids.iter().position(|id| *id == after))
            .map_or(0, |index| index + 1);
        let page: Vec<_> = ids[start..]
            .iter()
            .take(2)
            .map(|id| format!(r#"{{"id":"{id}","created":1}}"#))
            .collect();
        (
            200,
            format!(
                r#"{{"data":[{}],"more":{}}}"#,
                page.join(","),
                start + 2 < ids.len()
            ),
        )
    }
}

#[async_trait]
impl HttpService for Shop {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let (status, body) = self.answer(&request);
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            body,
        ))
    }
}

fn list(name: &'static str, path: &'static str) -> Endpoint {
    let schema = Schema::default().with("id", DataType::String);
    Endpoint::get(name, path)
        .records("data")
        .stream(Stream::new(name, schema).primary_key(["id"]))
        .paginate(AfterLastId {
            param: "after",
            more: "more",
            id: "id",
        })
}

fn lines() -> Endpoint {
    list("lines", "orders/{id}/lines")
        .child_of(list("orders", "orders"))
        .include_from_parent("id", "order")
}

fn client(shop: &Arc<Shop>) -> HttpClient {
    let context = BuildContext {
        transport: Some(Arc::clone(shop) as _),
        ..BuildContext::default()
    };
    HttpClient::builder(&context, "https://shop.test/v1/".parse().unwrap())
        .classifier(GoneIsNothing)
        .build()
        .unwrap()
}

/// Reads to the end or the first error; each page as its records and the position behind it.
async fn walk(
    shop: &Arc<Shop>,
    endpoint: &Endpoint,
    from: Position,
) -> (Vec<Walked>, Option<ErrorKind>) {
    let client = client(shop);
    let mut pages = Reader::new(client.clone()).read(
        endpoint,
        SliceState {
            position: from,
            ..SliceState::default()
        },
    );
    let mut walked = Vec::new();
    loop {
        let page = match pages.try_next().await {
            Ok(Some(page)) => page,
            Ok(None) => return (walked, None),
            Err(error) => return (walked, Some(error.kind())),
        };
        let ids = page.records[0]
            .iter()
            .map(|record| record.scalar("id").unwrap())
            .collect();
        let position = match page.advance.unwrap() {
            Advance::Next(at) | Advance::CaughtUp(at) => Position::At(at),
            Advance::End => Position::End,
        };
        walked.push((ids, position, page.gaps));
    }
}

type Walked = (Vec<String>, Position, Vec<Missed>);

fn missed(pages: &[Walked]) -> Vec<&str> {
    pages
        .iter()
        .flat_map(|(.., gaps)| gaps)
        .map(|missed| missed.name.as_str())
        .collect()
}

fn ids(pages: &[Walked]) -> Vec<&str> {
    pages
        .iter()
        .flat_map(|(ids, ..)| ids)
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn children_come_in_the_order_of_their_parents() {
    let shop = Arc::<Shop>::default();
    let (pages, error) = walk(&shop, &lines(), Position::Start).await;
    assert_eq!(
        (ids(&pages), error),
        (vec!["a1", "b1", "b2", "b3", "e1"], None)
    );
    insta::assert_debug_snapshot!(
        pages
            .iter()
            .map(|(ids, position, _)| (ids, position))
            .collect::<Vec<_>>()
    );
    insta::assert_debug_snapshot!("requests", shop.requests.lock().unwrap());
}

#[tokio::test]
async fn what_belongs_to_parents_that_are_begun_is_in_hand() {
    let (endpoint, client) = (lines(), client(&Arc::default()));
    let pages = Reader::new(client.clone()).read(&endpoint, SliceState::default());
    let in_hand: Vec<_> = pages
        .map_ok(|page| (page.records[0].len(), page.in_hand))
        .try_collect()
        .await
        .unwrap();
    // The lists of `a` and of `b`, which has two pages, and the end of the first page of orders;
    // that of the second; the list of `e`.
    assert_eq!(
        in_hand,
        [
            (1, true),
            (2, false),
            (1, true),
            (0, false),
            (0, false),
            (1, true),
            (0, false)
        ]
    );
}

#[tokio::test]
async fn every_page_is_a_place_to_go_on_from() {
    for endpoint in [lines(), list("notes", "lines/{id}/notes").child_of(lines())] {
        let shop = Arc::<Shop>::default();
        let (pages, _) = walk(&shop, &endpoint, Position::Start).await;
        let all = ids(&pages);
        for (index, (_, position, _)) in pages.iter().enumerate() {
            let (rest, error) = walk(&shop, &endpoint, position.clone()).await;
            let resumed: Vec<_> = ids(&pages[..=index])
                .into_iter()
                .chain(ids(&rest))
                .collect();
            assert_eq!(
                (&resumed, error),
                (&all, None),
                "{} after page {index}",
                endpoint.name()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_cannot_be_read_is_passed_over_and_can_be_read_by_itself() {
    for order in ["a", "b", "e"] {
        let one = || BTreeSet::from([order.to_owned()]);
        for shop in [
            Shop {
                refused: one(),
                ..Shop::default()
            },
            Shop {
                failing: one(),
                ..Shop::default()
            },
        ] {
            let (pages, error) = walk(&Arc::new(shop), &lines(), Position::Start).await;
            assert_eq!((error, missed(&pages)), (None, vec![order]));
            let (others, own): (Vec<_>, Vec<_>) = ["a1", "b1", "b2", "b3", "e1"]
                .into_iter()
                .partition(|line| !line.starts_with(order));
            assert_eq!(ids(&pages), others);
            let missed = pages.iter().flat_map(|(.., gaps)| gaps).next().unwrap();
            assert_eq!(
                missed.keep,
                [("order".to_owned(), format!("\"{order}\""))].into()
            );
            let (client, endpoint) = (client(&Arc::default()), lines());
            let unit: Vec<Page> = Reader::new(client.clone())
                .read(&endpoint, missed.slice.clone())
                .try_collect()
                .await
                .unwrap();
            let records: Vec<_> = unit.iter().flat_map(|page| &page.records[0]).collect();
            assert_eq!(
                records
                    .iter()
                    .map(|record| record.scalar("id").unwrap())
                    .collect::<Vec<_>>(),
                own
            );
            assert!(
                records
                    .iter()
                    .all(|record| record.scalar("order").unwrap() == order)
            );
            assert_eq!(unit.last().unwrap().advance, Some(Advance::End));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_of_parents_that_cannot_be_read_is_passed_over_with_all_below_it() {
    let shop = Arc::new(Shop {
        refused: ["b".to_owned()].into(),
        ..Shop::default()
    });
    let endpoint = list("notes", "lines/{id}/notes").child_of(lines());
    let (pages, error) = walk(&shop, &endpoint, Position::Start).await;
    assert_eq!(
        (error, missed(&pages), ids(&pages)),
        (None, vec!["b"], vec!["note-of-a1", "note-of-e1"])
    );
    let slice = pages
        .iter()
        .flat_map(|(.., gaps)| gaps)
        .next()
        .unwrap()
        .slice
        .clone();
    let client = client(&Arc::default());
    let unit: Vec<Page> = Reader::new(client.clone())
        .read(&endpoint, slice)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(unit.iter().flat_map(|page| &page.records[0]).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn parents_that_fail_one_after_the_other_are_an_outage() {
    let shop = Arc::new(Shop {
        failing: ["b", "c", "d", "e"].map(str::to_owned).into(),
        ..Shop::default()
    });
    let (pages, error) = walk(&shop, &lines(), Position::Start).await;
    assert_eq!(
        (error, missed(&pages), ids(&pages)),
        (Some(ErrorKind::Unavailable), Vec::new(), vec!["a1"])
    );
}

#[tokio::test]
async fn what_belongs_to_a_parent_that_is_not_found_goes_with_it_where_that_is_declared() {
    let shop = Arc::<Shop>::default();
    let context = BuildContext {
        transport: Some(Arc::clone(&shop) as _),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, "https://shop.test/v1/".parse().unwrap())
        .build()
        .unwrap();
    for (endpoint, expected, missed) in [
        (lines(), None, 1),
        (lines().cascade_delete(), Some(r#"{"order":"c"}"#), 0),
    ] {
        let pages = Reader::new(client.clone()).read(&endpoint, SliceState::default());
        let pages: Vec<Page> = pages.try_collect().await.unwrap();
        let records = pages.iter().flat_map(|page| &page.records[0]);
        let gone: Vec<_> = records
            .filter(|record| record.op() == Op::DeleteMatching)
            .map(|record| String::from_utf8(record.as_bytes().into_owned()).unwrap())
            .collect();
        assert_eq!(gone, Vec::from_iter(expected));
        assert_eq!(
            pages.iter().map(|page| page.gaps.len()).sum::<usize>(),
            missed
        );
    }
}

#[tokio::test]
async fn t2_parents_behind_a_page_of_refused_ones_are_read() {
    for refused in [
        vec!["a", "b"],
        vec!["a", "b", "c", "d"],
        vec!["b", "c", "d", "e"],
    ] {
        let shop = Arc::new(Shop {
            refused: refused.iter().map(ToString::to_string).collect(),
            ..Shop::default()
        });
        let (pages, error) = walk(&shop, &lines(), Position::Start).await;
        assert_eq!((error, missed(&pages)), (None, refused.clone()));
        let readable = ["a1", "b1", "b2", "b3", "e1"]
            .into_iter()
            .filter(|line| !refused.contains(&&line[..1]));
        assert_eq!(ids(&pages), readable.collect::<Vec<_>>());
    }
    for refused_first in [10, 45, 99] {
        let shop = Arc::new(Shop {
            refused_first,
            ..Shop::default()
        });
        let (pages, error) = walk(&shop, &lines(), Position::Start).await;
        assert_eq!(
            (error, missed(&pages).len(), ids(&pages).len()),
            (None, refused_first, 5),
            "{refused_first} refused at the start"
        );
    }
}

#[tokio::test]
async fn when_no_parent_can_be_read_the_endpoint_is_refused_before_all_of_them_are_asked() {
    let shop = Arc::new(Shop {
        refused_first: 500,
        ..Shop::default()
    });
    let (pages, error) = walk(&shop, &lines(), Position::Start).await;
    assert_eq!(
        (ids(&pages), error),
        (Vec::new(), Some(ErrorKind::PermissionDenied))
    );
    assert!(
        shop.requests.lock().unwrap().len() < 200,
        "{} requests",
        shop.requests.lock().unwrap().len()
    );
}

#[tokio::test]
async fn when_no_parent_can_be_read_the_endpoint_is_refused() {
    let shop = Arc::new(Shop {
        refused: ["a", "b", "c", "d", "e"].map(str::to_owned).into(),
        ..Shop::default()
    });
    let (pages, error) = walk(&shop, &lines(), Position::Start).await;
    assert_eq!(
        (ids(&pages), error),
        (Vec::new(), Some(ErrorKind::PermissionDenied))
    );
}

#[tokio::test]
async fn parents_without_such_a_list_are_not_asked() {
    let shop = Arc::<Shop>::default();
    let endpoint = lines().parent_filter(|order| order.member("id") == Some("\"b\""));
    assert_eq!(
        ids(&walk(&shop, &endpoint, Position::Start).await.0),
        ["b1", "b2", "b3"]
    );
    assert!(
        !shop
            .requests
            .lock()
            .unwrap()
            .iter()
            .any(|request| request.contains("/a/"))
    );
}

#[tokio::test]
async fn the_children_of_one_parent_can_be_read_alone() {
    let shop = Arc::<Shop>::default();
    let parent = RawRecord::upsert(r#"{"id":"b"}"#);
    let children = Reader::new(client(&shop))
        .read_children(&lines(), &parent)
        .await
        .unwrap();
    let children: Vec<_> = children[0]
        .iter()
        .map(|record| String::from_utf8_lossy(&record.as_bytes()).into_owned())
        .collect();
    assert_eq!(children[2], r#"{"order":"b","id":"b3","created":1}"#);
}

#[test]
fn a_parents_id_never_changes_the_shape_of_a_path() {
    let path_of = |id: &str| {
        path(
            "coupons/{id}/uses",
            &RawRecord::upsert(format!(r#"{{"id":"{id}"}}"#)),
        )
        .ok()
    };
    assert_eq!(
        path_of("50 %/off?#x").as_deref(),
        Some("coupons/50%20%25%2Foff%3F%23x/uses")
    );
    assert_eq!(
        path_of("Pro+ %2F").as_deref(),
        Some("coupons/Pro%2B%20%252F/uses")
    );
    assert_eq!(path_of("é").as_deref(), Some("coupons/%C3%A9/uses"));
    assert_eq!(
        [path_of(""), path_of("."), path_of("..")],
        [None, None, None]
    );
    assert!(path("coupons/{name}", &RawRecord::upsert("{}")).is_err());
}

#[test]
fn members_are_inherited_unless_the_child_has_them() {
    let parent = RawRecord::upsert(r#"{"id":7,"created":"x"}"#);
    let inherited = |child: &'static str| {
        let names = [
            ("id", "order_id"),
            ("created", "order_created"),
            ("none", "none"),
        ];
        let child = Inheritance::of(&parent, &names).give(RawRecord::upsert(child));
        String::from_utf8(child.as_bytes().to_vec()).unwrap()
    };
    assert_eq!(
        inherited(r#"{"id":1}"#),
        r#"{"order_id":7,"order_created":"x","id":1}"#
    );
    assert_eq!(
        inherited(r#"{"order_id":1}"#),
        r#"{"order_created":"x","order_id":1}"#
    );
    assert_eq!(
        inherited("{ \"order_id\" : null, \"id\": 1}"),
        r#"{"order_id":7,"order_created":"x","id":1}"#
    );
    assert_eq!(inherited("{ }"), r#"{"order_id":7,"order_created":"x"}"#);
    assert_eq!(inherited("[]"), "[]");
}

#[tokio::test]
async fn a7_what_permits_a_page_stays_until_the_records_with_inherited_members_are_gone() {
    let budget = crate::memory::MemoryBudget::new(1 << 20);
    let lease = budget.hold().lease();
    lease.grow_patiently(100).await.unwrap();
    let page = crate::memory::leased(
        bytes::Bytes::from_static(br#"{"id":"child"}"#),
        Arc::new(lease),
    );
    let parent = RawRecord::upsert(r#"{"id":"parent"}"#);
    let inherited = Inheritance::of(&parent, &[("id", "owner")]).give(RawRecord::upsert(page));
    assert_eq!(inherited.scalar("owner").as_deref(), Some("parent"));
    assert_eq!(budget.held(), 100);
    drop(inherited);
    assert_eq!(budget.held(), 0);
}
