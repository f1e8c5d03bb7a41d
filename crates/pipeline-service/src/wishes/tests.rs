//! Wishes on a real disk, with the time as a value.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;

const SETTLES: Duration = Duration::from_secs(3);

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn names(streams: &[&str]) -> BTreeSet<String> {
    streams.iter().map(|name| (*name).to_owned()).collect()
}

fn hint(id: &str, streams: &[&str]) -> WebhookHint {
    WebhookHint {
        id: Some(id.to_owned()),
        kind: "something.happened".to_owned(),
        streams: names(streams),
    }
}

/// What the file holds for a source.
fn written(folder: &Path) -> BTreeSet<String> {
    let bytes = fs::read(folder.join(FILE)).unwrap();
    let mut written: Written = serde_json::from_slice(&bytes).unwrap();
    written.wishes.remove("a").unwrap_or_default()
}

#[tokio::test]
async fn a_wish_is_on_the_disk_until_a_run_that_could_see_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = Wishes::open(folder.path(), at(0));
    let selected = names(&["charges", "invoices"]);
    let take = async |id: &str, streams: &[&str], second| {
        let hint = hint(id, streams);
        wishes
            .take("a", &hint, &selected, at(second))
            .await
            .unwrap()
    };
    assert_eq!(take("1", &["charges", "other"], 0).await, Taken::Stored);
    assert_eq!(written(folder.path()), names(&["charges"]));
    assert_eq!(take("1", &["charges"], 1).await, Taken::Duplicate);
    assert_eq!(take("2", &["other"], 1).await, Taken::Ignored);
    assert_eq!(wishes.due("a", SETTLES), Some(at(3)));
    assert_eq!(wishes.due("a", Duration::ZERO), Some(at(2)));
    assert_eq!(wishes.due("b", SETTLES), None);

    // One that comes a second before the run starts is not seen by it.
    assert_eq!(take("3", &["invoices"], 2).await, Taken::Stored);
    assert_eq!(wishes.started("a", at(3)), selected);
    wishes.ended("a", true, SETTLES, at(4));
    wishes.write().await.unwrap();
    assert_eq!(written(folder.path()), names(&["invoices"]));
    assert_eq!(wishes.due("a", SETTLES), Some(at(6)));

    // A process that ends without a word has forgotten nothing.
    let again = Wishes::open(folder.path(), at(100));
    assert_eq!(again.due("a", SETTLES), Some(at(103)));
    assert_eq!(again.started("a", at(103)), names(&["invoices"]));
    again.ended("a", true, SETTLES, at(104));
    again.write().await.unwrap();
    assert_eq!(written(folder.path()), names(&[]));
    assert_eq!(again.due("a", SETTLES), None);
}

#[tokio::test]
async fn a_run_that_fails_is_tried_again_later_and_later() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = Wishes::open(folder.path(), at(0));
    let selected = names(&["charges"]);
    let webhook = hint("1", &["charges"]);
    wishes.take("a", &webhook, &selected, at(0)).await.unwrap();
    let mut pauses = Vec::new();
    for failure in 0..9 {
        let now = at(failure * 10_000);
        wishes.started("a", now);
        wishes.ended("a", false, SETTLES, now);
        pauses.push((wishes.due("a", SETTLES).unwrap() - now).num_seconds());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
    assert_eq!(written(folder.path()), selected);
}

#[tokio::test]
async fn a_flood_costs_a_write_for_each_stream_and_a_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = Arc::new(Wishes::open(folder.path(), at(0)));
    let selected = Arc::new(names(&["charges", "invoices"]));
    let first = hint("first", &["charges", "invoices"]);
    wishes.take("a", &first, &selected, at(0)).await.unwrap();
    // From now on nothing can be written, and nothing has to be.
    let kept = fs::read(folder.path().join(FILE)).unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    for number in 0..60_000 {
        let webhook = hint(&number.to_string(), &["charges"]);
        let taken = wishes.take("a", &webhook, &selected, at(1)).await.unwrap();
        assert_eq!(taken, Taken::Stored);
    }
    {
        let sources = wishes.lock();
        let of = &sources["a"];
        assert_eq!(
            (of.remembered.len(), of.known.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert_eq!(of.streams.len(), 2);
    }
    // A webhook about another stream has to be written, and is not accepted when it cannot be.
    let other = names(&["charges", "refunds"]);
    let webhook = hint("other", &["refunds"]);
    wishes.take("a", &webhook, &other, at(2)).await.unwrap_err();
    fs::create_dir_all(folder.path()).unwrap();
    fs::write(folder.path().join(FILE), kept).unwrap();
    let taken = wishes.take("a", &webhook, &other, at(3)).await.unwrap();
    assert_eq!(
        taken,
        Taken::Stored,
        "it is not a duplicate of the failed one"
    );
    assert_eq!(
        written(folder.path()),
        names(&["charges", "invoices", "refunds"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_accepted_while_runs_end_is_always_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = Arc::new(Wishes::open(folder.path(), at(0)));
    let selected = Arc::new(names(&["charges"]));
    for round in 0..200 {
        let webhook = hint(&round.to_string(), &["charges"]);
        wishes.started("a", at(round * 10));
        let accept = {
            let (wishes, selected) = (Arc::clone(&wishes), Arc::clone(&selected));
            tokio::spawn(async move { wishes.take("a", &webhook, &selected, at(round * 10)).await })
        };
        wishes.ended("a", true, SETTLES, at(round * 10 + 1));
        let writing = wishes.write();
        let (taken, result) = tokio::join!(accept, writing);
        result.unwrap();
        assert_eq!(taken.unwrap().unwrap(), Taken::Stored);
        assert_eq!(written(folder.path()), *selected, "round {round}");
    }
}

#[test]
fn a_file_that_cannot_be_read_costs_only_latency() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "{\"version\":1,\"wishes\":{").unwrap();
    let wishes = Wishes::open(folder.path(), at(0));
    assert_eq!(wishes.due("a", SETTLES), None);
    fs::write(
        folder.path().join(FILE),
        r#"{"version":1,"wishes":{"a":["charges"],"b":["users"]}}"#,
    )
    .unwrap();
    let wishes = Wishes::open(folder.path(), at(0));
    wishes.keep(|source| source == "b");
    assert_eq!(wishes.due("a", SETTLES), None);
    assert_eq!(wishes.due("b", SETTLES), Some(at(3)));
}
