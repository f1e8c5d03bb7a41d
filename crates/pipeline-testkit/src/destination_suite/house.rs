//! The rules of what a destination keeps beside rows and checkpoints: who may read a source, and
//! which runs there were.
#![allow(missing_docs, reason = "the names say it")]

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::{EndpointRecord, RUN_CAPACITY, RunRecord};
use pipeline_engine::Depth;

use super::*;

/// The error of a claim that is refused.
async fn refused(destination: &dyn Destination, source: &str, run: &str) -> Error {
    destination
        .claim(source, run)
        .await
        .err()
        .unwrap_or_else(|| panic!("{source} is claimed already"))
}

pub async fn a_source_is_claimed_once(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let (left, right) = (open(fixture, &scratch).await, open(fixture, &scratch).await);
    let names = ["shop", "shop2", "shop/2", "shop_2", "ü", "..", ""];
    let mut claims = Vec::new();
    for name in names {
        claims.push(left.claim(name, "run-left").await.unwrap());
    }
    for name in names {
        let error = refused(&*right, name, "run-right").await;
        assert_eq!(
            error.kind(),
            ErrorKind::CheckpointConflict,
            "{name}: {error:?}"
        );
        assert!(
            error.to_string().contains("run-left"),
            "the holder is named: {error}"
        );
        assert!(error.help().is_some(), "{error:?}");
        refused(&*left, name, "run-again").await;
    }
    // Who has no claim is kept from nothing else, and who has one is not held up.
    let events = table("events", &[], Generation::Current);
    store(
        &*right,
        &[(&events, vec![row(1, "a")])],
        &commit(vec![plan("events")]),
    )
    .await
    .unwrap();
    store(
        &*left,
        &[(&events, vec![row(2, "a")])],
        &commit(vec![advance("events", 0)]),
    )
    .await
    .unwrap();
    drop(claims.remove(0));
    let taken = right.claim("shop", "run-right").await.unwrap();
    assert!(
        refused(&*left, "shop", "run-left")
            .await
            .to_string()
            .contains("run-right")
    );
    refused(&*right, "shop2", "run-right").await;
    // A claim outlives the destination that gave it.
    drop(right);
    refused(&*left, "shop", "run-left").await;
    drop(taken);
    left.claim("shop", "run-left").await.unwrap();
    drop(left);
    assert_eq!(
        shown(fixture, &scratch, &events).await,
        ["1=a", "2=a"],
        "claims are not taken for data"
    );
}

fn instant(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
}

/// A run that began in some minute.
fn begun(minute: i64) -> RunRecord {
    RunRecord::started(
        format!("run-{minute}"),
        instant(minute),
        vec!["demo".to_owned(), "it's".to_owned()],
    )
}

/// The same, ended.
fn ended(minute: i64) -> RunRecord {
    let endpoint = |name: &str, status: &str| EndpointRecord {
        id: endpoint(name),
        streams: vec![name.to_owned()],
        status: status.to_owned(),
        error: (status != "done").then(|| "the vendor said \"no\"\nand 漢😀".to_owned()),
        rows: 7,
        succeeded: Some(instant(minute)),
    };
    RunRecord {
        took: Some(Duration::from_millis(1_500)),
        rows: 14,
        commits: 3,
        endpoints: vec![endpoint("charges", "done"), endpoint("refunds", "failed")],
        ..begun(minute).failed(Some(ErrorKind::Unavailable))
    }
}

pub async fn runs_are_remembered(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    assert_eq!(destination.runs(10).await.unwrap(), []);
    // One that is running, or was killed, has no end. They are in the order in which they began,
    // however they were recorded.
    for run in [begun(2), ended(1), begun(3), ended(3)] {
        destination.record_run(&run).await.unwrap();
    }
    assert_eq!(
        destination.runs(10).await.unwrap(),
        [ended(3), begun(2), ended(1)]
    );
    assert_eq!(destination.runs(1).await.unwrap(), [ended(3)]);
    // Data and checkpoints do not know of it.
    let events = table("events", &[], Generation::Current);
    store(
        &*destination,
        &[(&events, vec![row(1, "a")])],
        &commit(vec![plan("events")]),
    )
    .await
    .unwrap();
    drop(destination);
    let destination = open(fixture, &scratch).await;
    destination.record_run(&ended(2)).await.unwrap();
    assert_eq!(
        destination.runs(10).await.unwrap(),
        [ended(3), ended(2), ended(1)]
    );
    assert_eq!(destination.status(10).await.unwrap().commits.len(), 1);
    assert_eq!(shown(fixture, &scratch, &events).await, ["1=a"]);
}

pub async fn the_oldest_runs_are_forgotten(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let capacity = i64::try_from(RUN_CAPACITY).unwrap();
    for minute in 0..capacity + 3 {
        destination.record_run(&begun(minute)).await.unwrap();
    }
    let runs = destination.runs(2 * RUN_CAPACITY).await.unwrap();
    let minutes: Vec<_> = (3..capacity + 3)
        .rev()
        .map(|minute| format!("run-{minute}"))
        .collect();
    assert_eq!(
        runs.into_iter().map(|run| run.run).collect::<Vec<_>>(),
        minutes
    );
}

/// What was never touched by anybody else is what its log says, whatever was done to it and however
/// often it is opened.
pub async fn an_intact_destination_has_no_damage(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    for depth in [Depth::Shape, Depth::Content] {
        assert_eq!(destination.verify(depth).await.unwrap(), [], "a new one");
    }
    store_history(&*destination).await;
    let (events, next) = (
        table("events", &[], Generation::Current),
        customers(Generation::Next),
    );
    destination
        .prepare(&[
            Arc::clone(&events),
            table("never_written", &["id"], Generation::Next),
        ])
        .await
        .unwrap();
    store(
        &*destination,
        &[(&events, vec![row(1, "a"), row(1, "a")])],
        &commit(vec![plan("events")]),
    )
    .await
    .unwrap();
    intact(fixture, &scratch, "the history").await;
    let discard = Commit {
        discard: vec![next.id()],
        ..commit(vec![advance("events", 0)])
    };
    store(
        &*destination,
        &[(&next, vec![row(4, "d"), row(5, "d")])],
        &discard,
    )
    .await
    .unwrap();
    intact(fixture, &scratch, "a refresh that was begun again").await;
    let mut dropped = destination.begin().await.unwrap();
    dropped
        .write(&events, batch(&events, &[row(9, "dropped")]))
        .await
        .unwrap();
    drop(dropped);
    let publish = Commit {
        publish: vec![next.id()],
        keep: vec![keep(&next, "b")],
        ..commit(vec![])
    };
    store(
        &*destination,
        &[(&next, vec![row(5, "e"), gone(4)])],
        &publish,
    )
    .await
    .unwrap();
    drop(destination);
    intact(fixture, &scratch, "a refresh that was published").await;
    let destination = open(fixture, &scratch).await;
    destination.record_run(&begun(1)).await.unwrap();
    let _claim = destination.claim("demo", "run-1").await.unwrap();
    destination.purge(&purge(true)).await.unwrap();
    store(
        &*destination,
        &[],
        &Commit {
            publish: vec![customers(Generation::Current).id()],
            ..commit(vec![])
        },
    )
    .await
    .unwrap();
    intact(fixture, &scratch, "a purge").await;
}

async fn intact(fixture: &dyn DestinationFixture, scratch: &Scratch, after: &str) {
    let destination = open(fixture, scratch).await;
    for depth in [Depth::Shape, Depth::Content] {
        assert_eq!(destination.verify(depth).await.unwrap(), [], "{after}");
    }
}
