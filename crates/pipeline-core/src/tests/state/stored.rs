//! States as they are stored, by this version and by earlier ones.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{advance, orders, page, slice, state};
use crate::model::state::{
    CheckpointDelta, CheckpointStore, EndpointId, EndpointState, MemoryCheckpoints, Position,
    STATE_VERSION, Seen, SliceState, Window,
};
use crate::tests::at;
use crate::{Coverage, ErrorKind, Origin, Since};

#[tokio::test]
async fn a_store_applies_all_changes_or_none() {
    let store = MemoryCheckpoints::default();
    let refunds = EndpointId::new("shop", "refunds");
    let planned = state([slice(0, 10, Position::Start)]);
    let plan = |endpoint: &EndpointId| CheckpointDelta::Replace {
        endpoint: endpoint.clone(),
        from: EndpointState::default(),
        to: planned.clone(),
    };
    let conflict = store
        .apply(&[plan(&orders()), advance(0, page("never"), page("a"))])
        .await
        .unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::CheckpointConflict);
    assert_eq!(store.list().await.unwrap(), []);
    store
        .apply(&[
            plan(&orders()),
            advance(0, Position::Start, page("a")),
            plan(&refunds),
        ])
        .await
        .unwrap();
    assert_eq!(
        store.load(&orders()).await.unwrap().slices[&0].position,
        page("a")
    );
    assert_eq!(store.load(&refunds).await.unwrap(), planned);
    assert_eq!(
        store.load(&EndpointId::new("shop", "other")).await.unwrap(),
        EndpointState::default()
    );
    let names: Vec<String> = store
        .list()
        .await
        .unwrap()
        .iter()
        .map(|(id, _)| id.to_string())
        .collect();
    assert_eq!(names, ["shop/orders", "shop/refunds"]);
}

/// Never change this file: states like it are stored at users.
const VERSION_1: &str = include_str!("../golden/endpoint_state_v1.json");

#[test]
fn a_state_of_version_1_is_read_for_ever() {
    let day = |day: &str| format!("{day}T00:00:00Z").parse::<DateTime<Utc>>().unwrap();
    let whole = SliceState {
        position: Position::End,
        ..SliceState::default()
    };
    let open = SliceState {
        window: Some(Window {
            since: None,
            until: day("2026-01-10"),
        }),
        ..SliceState::default()
    };
    let pair = |value: &str| ("status".to_owned(), value.to_owned());
    let running = SliceState {
        window: Some(Window {
            since: Some(day("2026-01-10")),
            until: at("12:00:01"),
        }),
        query: vec![pair("open"), pair("closed")],
        position: page("or_1\nor_2"),
        watermark: Some(day("2026-01-20") + TimeDelta::minutes(510)),
        unit: None,
        doubted: None,
    };
    let expected = EndpointState {
        version: STATE_VERSION,
        plan: 7,
        cursor: Some(day("2026-01-01")),
        refreshing: true,
        begun: None,
        edition: None,
        origin: None,
        coverage: None,
        settings: BTreeMap::new(),
        streams: BTreeSet::from(["order_lines".to_owned(), "orders".to_owned()]),
        boundary: BTreeMap::from([
            (
                9_007_199_254_740_993,
                Seen {
                    content: u64::MAX,
                    at: 1_767_225_600,
                },
            ),
            (u64::MAX, Seen { content: 0, at: -1 }),
        ]),
        slices: BTreeMap::from([(0, open), (3, running), (10, whole)]),
        gaps: BTreeMap::new(),
    };
    assert_eq!(EndpointState::from_json(VERSION_1).unwrap(), expected);
    assert_eq!(
        EndpointState::from_json(&expected.to_json()).unwrap(),
        expected
    );
    let dated = EndpointState {
        begun: Some(at("12:00:01")),
        edition: Some("2026-01-31".to_owned()),
        ..expected
    };
    assert_eq!(EndpointState::from_json(&dated.to_json()).unwrap(), dated);
    assert_eq!(
        EndpointState::from_json(r#"{"version":1}"#).unwrap(),
        EndpointState::default()
    );
    assert_eq!(
        EndpointState::default().to_json(),
        r#"{"version":3,"plan":0}"#
    );
}

const VERSION_3: &str = r#"{"version":3,"plan":2,"cursor":"2026-01-02T00:00:00Z","origin":{"account":"acct_1","realm":"test mode"},"coverage":{"since":{"at":"2025-01-01T00:00:00Z"},"wanted":"beginning","until":"2026-01-01T00:00:00Z","newest":"2025-12-31T23:00:00Z"},"settings":{"time_storage":"utc"}}"#;

#[test]
fn a1_a2_a_state_says_what_it_was_read_from_and_what_it_covers() {
    let day = |text: &str| format!("{text}T00:00:00Z").parse().unwrap();
    let expected = EndpointState {
        plan: 2,
        cursor: Some(day("2026-01-02")),
        origin: Some(Origin::of_account("acct_1").realm("test mode")),
        coverage: Some(Coverage {
            since: Since::At(day("2025-01-01")),
            wanted: Since::Beginning,
            until: Some(day("2026-01-01")),
            newest: Some("2025-12-31T23:00:00Z".parse().unwrap()),
        }),
        settings: BTreeMap::from([("time_storage".to_owned(), "utc".to_owned())]),
        ..EndpointState::default()
    };
    assert_eq!(EndpointState::from_json(VERSION_3).unwrap(), expected);
    assert_eq!(expected.to_json(), VERSION_3);
}

#[tokio::test]
async fn a_store_that_keeps_no_claims_says_that_it_does_not_know_of_any() {
    let store = MemoryCheckpoints::default();
    let claim = store.claim("shop", "run").await.unwrap();
    assert_eq!(store.is_claimed("shop").await.unwrap(), None);
    drop(claim);
}

#[test]
fn a_state_that_is_damaged_or_too_new_is_never_taken_for_an_empty_one() {
    let newer = format!(r#"{{"version":{},"unheard":"of"}}"#, STATE_VERSION + 1);
    let error = EndpointState::from_json(&newer).unwrap_err();
    assert_eq!(
        (error.kind(), error.help()),
        (ErrorKind::Unsupported, Some("upgrade this program"))
    );
    let damaged = [
        "",
        " ",
        "null",
        "{}",
        "[]",
        "<html>",
        r#"{"version":"1"}"#,
        r#"{"version":-1}"#,
        r#"{"version":1"#,
        r#"{"version":1} x"#,
        r#"{"version":1,"cursor":"yesterday"}"#,
        r#"{"version":1,"slices":{"0":{}}}"#,
        r#"{"version":1,"slices":{"x":{"position":"start"}}}"#,
        r#"{"version":1,"slices":{"0":{"position":"middle"}}}"#,
        r#"{"version":1,"boundary":[1]}"#,
    ];
    for json in damaged {
        assert_eq!(
            EndpointState::from_json(json).unwrap_err().kind(),
            ErrorKind::Decode,
            "{json}"
        );
    }
    for end in 0..VERSION_1.trim_end().len() {
        assert!(
            EndpointState::from_json(&VERSION_1[..end]).is_err(),
            "cut at {end}"
        );
    }
}
