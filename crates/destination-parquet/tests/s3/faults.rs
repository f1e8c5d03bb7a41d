//! What stores and networks do, done by a server in front of the real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipeline_core::ErrorKind;
use pipeline_core::state::Position;
use pipeline_engine::{Access, Destination, Generation};
use pipeline_testkit::destination_suite::{
    advance, batch, commit, endpoint, plan, row, store, table,
};
use pipeline_testkit::s3::{Prefix, Reaction, Seen};

use super::{listed, open, open_at, options, skipped, storage};

/// Reacts to the first requests that are selected, and lets everything else pass.
fn once(
    times: usize,
    selected: fn(&Seen) -> bool,
    reaction: Reaction,
) -> (
    Arc<AtomicUsize>,
    impl Fn(&Seen) -> Reaction + Send + Sync + 'static,
) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let react = move |seen: &Seen| {
        if selected(seen) && counted.fetch_add(1, Ordering::SeqCst) < times {
            reaction.clone()
        } else {
            Reaction::Pass
        }
    };
    (count, react)
}

/// What a request is of, which requests are, and what becomes of the first of them.
type Fault = (&'static str, fn(&Seen) -> bool, Reaction);

fn is_manifest(seen: &Seen) -> bool {
    seen.is_conditional && seen.path.ends_with("/_manifest/0000000001.json")
}

#[tokio::test]
async fn what_exists_may_be_ours() {
    if skipped("what_exists_may_be_ours") {
        return;
    }
    let answers = [
        Reaction::DoAndAnswer(500),
        Reaction::DoAndAnswer(503),
        Reaction::DoAndAnswer(409),
        Reaction::DoAndCut,
        Reaction::Refuse(409),
        Reaction::Refuse(500),
        Reaction::Cut,
    ];
    for answer in answers {
        let prefix = Prefix::new();
        let (count, react) = once(1, is_manifest, answer.clone());
        let proxy = prefix.behind(react);
        let destination = open_at(&prefix, &proxy.endpoint, Access::Write, options())
            .await
            .unwrap();
        let events = table("events", &[], Generation::Current);
        let writes = [(&events, vec![row(1, "a")])];
        let sequence = store(
            &destination,
            &writes,
            &commit(vec![plan("events"), advance("events", 0)]),
        )
        .await
        .unwrap_or_else(|error| panic!("{answer:?}: {error:?}"));
        assert_eq!(sequence, 1, "{answer:?}");
        assert!(count.load(Ordering::SeqCst) > 0, "{answer:?} came");
        assert_eq!(listed(&prefix, "events").len(), 1, "{answer:?}");
        assert_eq!(destination.status(9).await.unwrap().commits.len(), 1);
        // And a commit of the same content by another process is not ours.
        let other = open(&prefix).await.unwrap();
        store(&other, &[], &commit(vec![advance("events", 0)]))
            .await
            .expect_err("the position is taken");
    }
}

#[tokio::test]
async fn a_number_that_another_writer_took_is_not_ours() {
    if skipped("a_number_that_another_writer_took_is_not_ours") {
        return;
    }
    // Both commit the same change without rows, so that only the nonce differs.
    let prefix = Prefix::new();
    let (left, right) = (open(&prefix).await.unwrap(), open(&prefix).await.unwrap());
    let change = commit(vec![plan("events")]);
    let (left, right) = tokio::join!(store(&left, &[], &change), store(&right, &[], &change));
    let refused = match (left, right) {
        (Ok(1), Err(error)) | (Err(error), Ok(1)) => error,
        both => panic!("exactly one wins: {both:?}"),
    };
    assert_eq!(refused.kind(), ErrorKind::CheckpointConflict);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused() {
    if skipped("a_store_that_ignores_conditions_is_refused") {
        return;
    }
    let prefix = Prefix::new();
    let proxy = prefix.behind(|seen| {
        if seen.is_conditional {
            Reaction::IgnoreCondition
        } else {
            Reaction::Pass
        }
    });
    let error = open_at(&prefix, &proxy.endpoint, Access::Write, options())
        .await
        .expect_err("two writers would overwrite each other");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(
        error.message().contains("ignores conditional writes"),
        "{error:?}"
    );
    assert_eq!(prefix.objects(""), [""; 0], "nothing is left");
    // Reading needs no conditions.
    let reading = open_at(&prefix, &proxy.endpoint, Access::Read, options()).await;
    assert_eq!(reading.unwrap().status(1).await.unwrap().commits, []);
}

#[tokio::test]
async fn a_rule_that_removes_manifests_is_found() {
    if skipped("a_rule_that_removes_manifests_is_found") {
        return;
    }
    let prefix = Prefix::new();
    let proxy = prefix.behind(|seen| {
        if seen.path.contains("/_manifest/") {
            Reaction::AddHeader(
                "x-amz-expiration: expiry-date=\"Fri, 01 Jan 2027 00:00:00 GMT\", rule-id=\"tidy\"",
            )
        } else {
            Reaction::Pass
        }
    });
    let destination = open_at(&prefix, &proxy.endpoint, Access::Write, options())
        .await
        .unwrap();
    let error = destination.check().await.expect_err("it will be lost");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(
        error.context_value("rule").unwrap().contains("tidy") && error.help().is_some(),
        "{error:?}"
    );
    open(&prefix).await.unwrap().check().await.unwrap();
}

#[tokio::test]
async fn uploads_and_copies_that_fail_are_done_again() {
    if skipped("uploads_and_copies_that_fail_are_done_again") {
        return;
    }
    let is_part = |seen: &Seen| seen.method == "PUT" && seen.query.contains("partNumber=2");
    let is_staged = |seen: &Seen| seen.method == "PUT" && seen.path.contains("/_staging/");
    let is_copied = |seen: &Seen| seen.method == "PUT" && seen.path.contains("/demo/events/");
    let completes = |seen: &Seen| seen.method == "POST" && seen.query.contains("uploadId");
    let faults: [Fault; 7] = [
        ("a part", is_part, Reaction::Cut),
        ("a part", is_part, Reaction::Refuse(503)),
        ("a part", is_part, Reaction::DoAndCut),
        ("the last step", completes, Reaction::DoAndAnswer(500)),
        ("a file", is_staged, Reaction::Cut),
        ("a copy", is_copied, Reaction::DoAndCut),
        ("a copy", is_copied, Reaction::Refuse(500)),
    ];
    // More than one part, which does not compress.
    let mut state = 7_u64;
    let mut noise = || {
        let mut text = String::with_capacity(1 << 20);
        while text.len() < 1 << 20 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push(char::from_u32(0x4E00 + u32::try_from(state >> 50).unwrap()).unwrap());
        }
        text
    };
    let rows: Vec<_> = (0..18).map(|id| row(id, noise())).collect();
    for (what, selected, reaction) in faults {
        let prefix = Prefix::new();
        let (count, react) = once(2, selected, reaction.clone());
        let proxy = prefix.behind(react);
        let destination = open_at(&prefix, &proxy.endpoint, Access::Write, options())
            .await
            .unwrap();
        let events = table("events", &[], Generation::Current);
        let mut transaction = destination.begin().await.unwrap();
        transaction
            .write(&events, batch(&events, &rows))
            .await
            .unwrap();
        let committed = transaction.commit(&commit(vec![])).await;
        // What the store has done and not told may be refused the second time: then nothing is lost
        // either, and the next run goes on.
        let is_made = committed.is_ok();
        assert!(
            is_made || reaction == Reaction::DoAndAnswer(500),
            "{what}, {reaction:?}: {committed:?}"
        );
        assert!(count.load(Ordering::SeqCst) > 1, "{what}, {reaction:?}");
        let shown = listed(&prefix, "events").len();
        assert_eq!(shown, if is_made { 18 } else { 0 }, "{what}, {reaction:?}");
    }
}

#[tokio::test]
async fn what_was_committed_is_moved_by_the_next_run() {
    if skipped("what_was_committed_is_moved_by_the_next_run") {
        return;
    }
    let prefix = Prefix::new();
    let proxy = prefix.behind(|seen| {
        if seen.method == "PUT" && seen.path.contains("/demo/charges/") {
            Reaction::Refuse(403)
        } else {
            Reaction::Pass
        }
    });
    let destination = open_at(&prefix, &proxy.endpoint, Access::Write, options())
        .await
        .unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let writes = [(&charges, vec![row(1, "a")])];
    let error = store(&destination, &writes, &commit(vec![plan("charges")]))
        .await
        .expect_err("no reader sees it");
    assert!(error.message().contains("cannot be moved"), "{error:?}");
    assert_eq!(listed(&prefix, "charges"), [""; 0]);
    drop(destination);
    open(&prefix).await.unwrap();
    assert_eq!(listed(&prefix, "charges").len(), 1);
}

#[tokio::test]
async fn refused_credentials_are_explained_and_not_shown() {
    if skipped("refused_credentials_are_explained_and_not_shown") {
        return;
    }
    let prefix = Prefix::new();
    for (id, secret) in [
        ("suite", "a-wrong-secret"),
        ("nobody", "suite-secret-of-nobody"),
    ] {
        let mut storage = storage(&prefix.endpoint);
        storage.access_key_id = Some(id.to_owned().into());
        storage.secret_access_key = Some(secret.to_owned().into());
        let target = destination_files::FileTarget {
            path: prefix.url().into(),
            storage: Some(storage),
        };
        let format = destination_parquet::Parquet::new(destination_parquet::Compression::Zstd);
        let error =
            destination_files::FileDestination::open_for(Access::Write, target, format, options())
                .await
                .expect_err("the keys are wrong");
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains(secret) && error.help().is_some(), "{shown}");
    }
}

#[tokio::test]
async fn left_overs_are_removed_when_they_are_old() {
    if skipped("left_overs_are_removed_when_they_are_old") {
        return;
    }
    let prefix = Prefix::new();
    let left_over = "_staging/0123456789abcdef0123456789abcdef.tmp";
    let others = ["_staging/notes.txt", "demo/charges/notes.txt"];
    for name in [left_over].iter().chain(&others) {
        prefix.write(name, b"left over");
    }
    drop(open(&prefix).await.unwrap());
    assert!(
        prefix.objects("").contains(&left_over.to_owned()),
        "it may be a living writer's"
    );
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let hasty = destination_files::Options {
        idle: Duration::from_secs(1),
        ..options()
    };
    let destination = open_at(&prefix, &prefix.endpoint, Access::Write, hasty)
        .await
        .unwrap();
    assert_eq!(prefix.objects(""), {
        let mut others = others;
        others.sort_unstable();
        others
    });
    // A writer that was stopped for so long that its files are gone commits nothing.
    let charges = table("charges", &["id"], Generation::Current);
    store(&destination, &[], &commit(vec![plan("charges")]))
        .await
        .unwrap();
    let proxied = prefix.clone();
    let proxy = prefix.behind(move |seen| {
        if seen.method == "GET" && seen.query.contains("_staging") {
            for name in proxied.objects("_staging") {
                proxied.remove(&name);
            }
        }
        Reaction::Pass
    });
    let stopped = open_at(&prefix, &proxy.endpoint, Access::Write, options())
        .await
        .unwrap();
    let error = store(
        &stopped,
        &[(&charges, vec![row(1, "a")])],
        &commit(vec![advance("charges", 0)]),
    )
    .await
    .expect_err("its files are gone");
    assert!(error.message().contains("any more"), "{error:?}");
    let state = destination.load(&endpoint("charges")).await.unwrap();
    assert_eq!(state.slices[&0].position, Position::Start);
}
