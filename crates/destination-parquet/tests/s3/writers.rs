//! Several writers of one bucket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use destination_files::FileDestination;
use destination_parquet::{Compression, Parquet};
use pipeline_core::ErrorKind;
use pipeline_engine::{Destination, Generation};
use pipeline_testkit::destination_suite::{advance, commit, gone, plan, row, store, table};
use pipeline_testkit::s3::{BucketFormat as _, Prefix};

use super::{Lake, listed, open, skipped};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_writers_at_once_lose_and_double_nothing() {
    if skipped("twenty_writers_at_once_lose_and_double_nothing") {
        return;
    }
    let prefix = Arc::new(Prefix::new());
    let writers: Vec<_> = (0..20)
        .map(|writer| {
            let prefix = Arc::clone(&prefix);
            tokio::spawn(async move {
                let destination = open(&prefix).await.unwrap();
                let name = format!("events{writer}");
                let events = table(&name, &[], Generation::Current);
                let mut numbers = vec![];
                for page in 0..3 {
                    let advance = advance(&name, page);
                    let changes = if page == 0 {
                        vec![plan(&name), advance]
                    } else {
                        vec![advance]
                    };
                    let id = i64::try_from(page).unwrap();
                    let rows = vec![row(id, "a")];
                    let made = store(&destination, &[(&events, rows)], &commit(changes)).await;
                    numbers.push(made.unwrap());
                }
                numbers
            })
        })
        .collect();
    let mut numbers = BTreeSet::new();
    for writer in writers {
        numbers.extend(writer.await.unwrap());
    }
    assert_eq!(numbers, (1..=60).collect(), "each commit has its number");
    for writer in 0..20 {
        assert_eq!(listed(&prefix, &format!("events{writer}")).len(), 3);
    }
    let destination = open(&prefix).await.unwrap();
    assert_eq!(
        destination
            .verify(pipeline_engine::Depth::Content)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_writers_with_one_delta_one_wins() {
    if skipped("of_twenty_writers_with_one_delta_one_wins") {
        return;
    }
    let prefix = Arc::new(Prefix::new());
    let events = table("events", &[], Generation::Current);
    let first = open(&prefix).await.unwrap();
    store(&first, &[], &commit(vec![plan("events")]))
        .await
        .unwrap();
    let writers: Vec<_> = (0..20)
        .map(|writer| {
            let (prefix, events) = (Arc::clone(&prefix), Arc::clone(&events));
            tokio::spawn(async move {
                let destination = open(&prefix).await.unwrap();
                let writes = [(&events, vec![row(writer, "a")])];
                store(&destination, &writes, &commit(vec![advance("events", 0)])).await
            })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::CheckpointConflict, "{error:?}"),
        }
    }
    assert_eq!((won, listed(&prefix, "events").len()), (1, 1));
    drop(first);
    open(&prefix).await.unwrap();
    assert_eq!(prefix.objects("_staging"), [""; 0], "losers leave nothing");
}

#[tokio::test]
async fn a_claim_that_a_process_left_is_taken_over() {
    if skipped("a_claim_that_a_process_left_is_taken_over") {
        return;
    }
    let prefix = Prefix::new();
    let destination = open(&prefix).await.unwrap();
    prefix.write(
        "_claims/shop.json",
        br#"{"process":4711,"since":"2026-11-30 12:00:00 UTC","run":"run-dead","beat":"x"}"#,
    );
    let started = tokio::time::Instant::now();
    let claim = destination.claim("shop", "run-1").await.unwrap();
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "it might have been kept"
    );
    assert_eq!(destination.is_claimed("shop").await.unwrap(), Some(true));
    let other = open(&prefix).await.unwrap();
    let Err(error) = other.claim("shop", "run-2").await else {
        panic!("it is kept");
    };
    assert!(error.to_string().contains("run-1"), "{error}");
    drop(claim);
    assert_eq!(prefix.objects("_claims"), [""; 0]);
    assert_eq!(other.is_claimed("shop").await.unwrap(), Some(false));
}

#[tokio::test]
async fn a_bucket_holds_what_a_folder_holds() {
    if skipped("a_bucket_holds_what_a_folder_holds") {
        return;
    }
    let (prefix, folder) = (Prefix::new(), tempfile::tempdir().unwrap());
    let local = FileDestination::open(
        folder.path(),
        Parquet::new(Compression::Zstd),
        super::options(),
    )
    .unwrap();
    let remote = open(&prefix).await.unwrap();
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let pages = [
        (&current, vec![row(1, "a"), row(2, "b")], false),
        (
            &current,
            vec![row(1, "a"), row(2, "bb"), row(3, "c")],
            false,
        ),
        (&current, vec![gone(1), row(4, "d")], false),
        (&next, vec![row(2, "n"), row(5, "n")], false),
        (&next, vec![row(6, "n")], true),
        (&current, vec![row(6, "nn"), row(5, "n")], false),
    ];
    for (table, rows, publishes) in pages {
        let publish = publishes.then(|| table.id()).into_iter().collect();
        let commit = pipeline_engine::Commit {
            publish,
            ..commit(vec![])
        };
        for destination in [&local, &remote] {
            let writes = [(table, rows.clone())];
            store(destination, &writes, &commit).await.unwrap();
        }
        let files = local.files(&current.id()).unwrap();
        let mut expected: Vec<String> = files
            .iter()
            .flat_map(|path| Lake.rows(std::fs::read(path).unwrap()))
            .collect();
        expected.sort();
        assert_eq!(listed(&prefix, "charges"), expected);
    }
    assert_eq!(
        local.status(9).await.unwrap().rows,
        remote.status(9).await.unwrap().rows
    );
}

#[tokio::test]
async fn small_files_of_a_bucket_are_merged() {
    if skipped("small_files_of_a_bucket_are_merged") {
        return;
    }
    let prefix = Prefix::new();
    let destination = open(&prefix).await.unwrap();
    let events = table("events", &[], Generation::Current);
    for id in 0..20 {
        let writes = [(&events, vec![row(id, "a")])];
        store(&destination, &writes, &commit(vec![])).await.unwrap();
        let run = pipeline_core::RunRecord {
            took: Some(Duration::from_secs(1)),
            ..pipeline_core::RunRecord::started(
                format!("run-{id}"),
                chrono::DateTime::UNIX_EPOCH,
                vec!["demo".to_owned()],
            )
        };
        destination.record_run(&run).await.unwrap();
    }
    let files = prefix.objects("demo/events");
    assert_eq!(files.len(), 6, "{files:?}");
    assert_eq!(listed(&prefix, "events").len(), 20);
    let reading = open(&prefix).await.unwrap();
    let found = reading.verify(pipeline_engine::Depth::Content).await;
    assert_eq!(found.unwrap(), []);
    assert_eq!(prefix.objects("_staging"), [""; 0]);
}
