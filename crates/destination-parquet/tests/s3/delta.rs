//! Delta logs in a bucket.

use std::collections::BTreeSet;

use destination_files::{FileDestination, Options};
use pipeline_engine::{Access, Commit, Generation};
use pipeline_testkit::destination_suite::{commit, row, store, table};
use pipeline_testkit::s3::{InBucket, Prefix};
use serde_json::Value;

use super::{Lake, open_at, options, skipped};

async fn open(prefix: &Prefix) -> FileDestination {
    let options = Options {
        delta: true,
        ..options()
    };
    let opened = open_at(prefix, &prefix.endpoint, Access::Write, options).await;
    opened.unwrap()
}

/// The commits that the log of a table has entries of, and the files that it names at its end.
fn log(prefix: &Prefix) -> (Vec<u64>, BTreeSet<String>) {
    let (mut sequences, mut files) = (Vec::new(), BTreeSet::new());
    let names = prefix.objects("demo/events/_delta_log");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(*name, format!("demo/events/_delta_log/{number:020}.json"));
        for action in serde_json::Deserializer::from_slice(&prefix.read(name)).into_iter() {
            let action: Value = action.unwrap();
            let path = |action: &Value| format!("demo/events/{}", action["path"].as_str().unwrap());
            if let Some(add) = action.get("add") {
                files.insert(path(add));
            } else if let Some(remove) = action.get("remove") {
                assert!(files.remove(&path(remove)));
            } else if let Some(txn) = action.get("txn") {
                sequences.push(txn["version"].as_u64().unwrap());
            }
        }
    }
    (sequences, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_write_one_log_and_a_lost_one_is_made_again() {
    if skipped("two_writers_write_one_log_and_a_lost_one_is_made_again") {
        return;
    }
    let prefix = Prefix::new();
    let (one, two) = (open(&prefix).await, open(&prefix).await);
    let events = table("events", &[], Generation::Current);
    for id in 0..4 {
        let writer = if id % 2 == 0 { &one } else { &two };
        let rows = vec![row(id, "a")];
        store(writer, &[(&events, rows)], &commit(vec![]))
            .await
            .unwrap();
    }
    let listed = || {
        let listed = InBucket(Lake).listed(&prefix, "demo/events");
        listed.into_iter().collect::<BTreeSet<_>>()
    };
    let (sequences, files) = log(&prefix);
    assert_eq!(sequences, [1, 2, 3, 4]);
    assert_eq!((files.len(), &files), (4, &listed()));

    let next = table("events", &[], Generation::Next);
    let publish = Commit {
        publish: vec![next.id()],
        ..commit(vec![])
    };
    store(&one, &[(&next, vec![row(9, "b")])], &publish)
        .await
        .unwrap();
    let (sequences, files) = log(&prefix);
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    assert_eq!((files.len(), &files), (1, &listed()));

    drop((one, two));
    for name in prefix.objects("demo/events/_delta_log") {
        prefix.remove(&name);
    }
    drop(open(&prefix).await);
    assert_eq!(log(&prefix), (vec![5], files));
}
