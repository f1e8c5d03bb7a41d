//! The engine against a destination in memory and an account that lives in a vector.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod account;
mod accounts;
mod budget;
mod contract;
mod covered;
mod fake;
mod gaps;
mod lost;
pub(super) mod memory;
mod quality;
mod remembered;
mod shared;
mod staged;
mod store;
mod twice;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_core::state::{EndpointId, Position};
use pipeline_core::{ErrorKind, Event, Observer, TokioClock};
use proptest::prelude::*;
use tokio::time::Instant;

use self::account::{Account, Fault};
use self::store::Store;
use super::{CancellationToken, Job, Outcome, Selection, Source, Summary, sync};

fn job(store: &Arc<Store>, account: &Arc<Account>) -> Job {
    let source = Source {
        name: "shop".to_owned(),
        connector: account.clone(),
        streams: Selection::All,
    };
    let mut job = Job::new("run", store.clone(), vec![source]);
    job.clock = Arc::new(TokioClock::starting_at(account::NOW));
    job.options.commit_bytes = 2_000;
    job.options.batch_bytes = 500;
    job
}

async fn run(store: &Arc<Store>, account: &Arc<Account>) -> Summary {
    sync(job(store, account)).await.unwrap()
}

fn outcome(summary: &Summary) -> &Outcome {
    &summary.endpoints[0].outcome
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_once() {
    let (store, account) = (Store::new(), Account::evenly(1_000));
    let summary = run(&store, &account).await;
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
    assert_eq!(store.ids("orders"), account.ids());
    assert_eq!(summary.endpoints[0].streams[0].rows, 1_000);
    assert!(summary.commits > 10, "{} commits", summary.commits);
    assert_eq!(
        store.state("orders").slices.len(),
        0,
        "finished windows are dropped"
    );
}

#[derive(Debug, Default)]
struct Splits(AtomicUsize);

impl Observer for Splits {
    fn observe(&self, event: &Event<'_>) {
        if matches!(event, Event::SliceSplit { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn running_slices_are_split_until_all_workers_are_busy() {
    for account in [Account::evenly(4_000), Account::skewed(4_000)] {
        let store = Store::new();
        let splits = Arc::new(Splits::default());
        let job = job(&store, &account).observer(splits.clone());
        let started = Instant::now();
        sync(job).await.unwrap();
        assert_eq!(store.ids("orders"), account.ids());
        let serial = account::LATENCY * 4_000 / u32::try_from(account::PAGE).unwrap();
        let ratio = serial.as_secs_f64() / started.elapsed().as_secs_f64();
        assert!(
            ratio > 6.0,
            "{ratio:.1} times as fast as one page after the other"
        );
        let pages = account.pages_served();
        assert!(
            pages <= 4_000 / account::PAGE + 2 * splits.0.load(Ordering::Relaxed) + 2,
            "{pages} pages"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_second_with_many_records_is_read_page_by_page() {
    let (store, account) = (Store::new(), Account::one_second(95));
    run(&store, &account).await;
    assert_eq!(store.ids("orders"), account.ids());
}

/// Stops the run for good after each page in turn, as a kill would, and runs again.
#[tokio::test(start_paused = true)]
async fn a_run_killed_after_any_page_is_resumed_without_loss_or_repetition() {
    for pages in 0..40 {
        let (store, account) = (Store::appending(), Account::evenly(200));
        account.hang_after(pages);
        let killed = tokio::time::timeout(Duration::from_hours(1), run(&store, &account)).await;
        account.hang_after(usize::MAX);
        let summary = run(&store, &account).await;
        assert!(matches!(outcome(&summary), Outcome::Done));
        assert_eq!(
            store.ids("orders"),
            account.ids(),
            "killed after {pages} pages: {}",
            killed.is_err()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_at_any_commit_loses_and_repeats_nothing() {
    for commit in 1..12 {
        let (store, account) = (Store::appending(), Account::evenly(200));
        store.fail_at_commit(commit);
        let failed = sync(job(&store, &account)).await;
        if let Ok(summary) = &failed {
            assert!(
                matches!(summary.failure(), None | Some(ErrorKind::Destination)),
                "{summary:?}"
            );
            assert!(
                summary.failure().is_some() || store.ids("orders") == account.ids(),
                "commit {commit} failed: {summary:?}"
            );
        }
        store.fail_at_commit(usize::MAX);
        run(&store, &account).await;
        assert_eq!(
            store.ids("orders"),
            account.ids(),
            "failed at commit {commit}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_commits_what_was_read_and_the_next_run_goes_on() {
    let (store, account) = (Store::appending(), Account::evenly(2_000));
    let cancelled = job(&store, &account).cancel(CancellationToken::new());
    let token = cancelled.cancel.clone();
    let running = tokio::spawn(sync(cancelled));
    tokio::time::sleep(account::LATENCY * 20).await;
    token.cancel();
    let summary = running.await.unwrap().unwrap();
    assert_eq!(summary.failure(), Some(ErrorKind::Cancelled));
    let kept = store.ids("orders").len();
    assert!(kept > 0 && kept < 2_000, "{kept} rows");
    assert!(summary.endpoints[0].unfinished > 0);
    let before = account.pages_served();
    run(&store, &account).await;
    assert_eq!(store.ids("orders"), account.ids());
    assert!(
        account.pages_served() - before <= (2_000 - kept) / account::PAGE + 60,
        "finished pages are not read again"
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_sync_reads_what_is_new_and_writes_what_is_new_or_changed() {
    let (store, account) = (Store::appending(), Account::evenly(300));
    run(&store, &account).await;
    account.grow(25);
    account.touch_newest(3);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let summary = run(&store, &account).await;
    let orders = &summary.endpoints[0].streams[0];
    assert_eq!((orders.rows, orders.records > 28), (28, true), "{orders:?}");
    assert_eq!(
        orders.unchanged,
        orders.records - 28,
        "what the lookback reads again is recognised"
    );
    let again = run(&store, &account).await;
    assert_eq!(again.endpoints[0].streams[0].rows, 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_changes_back_is_written_again() {
    let (store, account) = (Store::new(), Account::evenly(300));
    run(&store, &account).await;
    for value in [1, 0] {
        account.set_newest(value);
        run(&store, &account).await;
        assert_eq!(
            store.value_of("orders", account.ids().last().unwrap()),
            value
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_refresh_replaces_the_table_in_one_step() {
    let (store, account) = (Store::appending(), Account::evenly(300));
    run(&store, &account).await;
    account.remove_oldest(100);
    account.hang_after(account.pages_served() + 10);
    let mut refresh = job(&store, &account);
    refresh.options.full_refresh = true;
    assert!(
        tokio::time::timeout(Duration::from_hours(1), sync(refresh))
            .await
            .is_err()
    );
    assert_eq!(
        store.ids("orders").len(),
        300,
        "an unfinished refresh is invisible"
    );
    account.hang_after(usize::MAX);
    run(&store, &account).await;
    assert_eq!(
        store.ids("orders"),
        account.ids(),
        "the next run finishes the refresh"
    );
    assert!(!store.state("orders").refreshing);
}

#[tokio::test(start_paused = true)]
async fn a_stream_selected_later_is_complete() {
    let (store, account) = (Store::new(), Account::evenly(100));
    let select = |names: &[&str]| {
        let mut job = job(&store, &account);
        job.sources[0].streams = Selection::Named(names.iter().map(ToString::to_string).collect());
        job
    };
    sync(select(&["orders"])).await.unwrap();
    assert!(store.ids("lines").is_empty());
    sync(select(&["orders", "lines"])).await.unwrap();
    assert_eq!(
        (store.ids("lines").len(), store.ids("orders").len()),
        (100, 100)
    );
    let unknown = sync(select(&["order"])).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::ConfigInvalid);
    insta::assert_snapshot!(format!("{unknown}\n{}", unknown.help().unwrap()), @r"
    unknown stream `order` (source: shop, field: streams)
    known streams: lines, orders
    ");
}

#[tokio::test(start_paused = true)]
async fn failures_reach_as_far_as_they_must() {
    let cases = [
        (
            Fault::Fails(ErrorKind::PermissionDenied),
            Selection::All,
            "unavailable",
        ),
        (
            Fault::Fails(ErrorKind::PermissionDenied),
            Selection::Named(vec!["orders".to_owned()]),
            "permission_denied",
        ),
        (Fault::Fails(ErrorKind::Refused), Selection::All, "refused"),
        (
            Fault::Fails(ErrorKind::Unavailable),
            Selection::All,
            "unavailable_error",
        ),
        (
            Fault::Fails(ErrorKind::Unauthenticated),
            Selection::All,
            "unauthenticated",
        ),
    ];
    for (fault, streams, expected) in cases {
        let (store, account) = (Store::new(), Account::evenly(300));
        account.fault_after(5, fault);
        let mut job = job(&store, &account);
        job.sources[0].streams = streams;
        let summary = sync(job).await.unwrap();
        let found = match outcome(&summary) {
            Outcome::Unavailable { .. } => "unavailable".to_owned(),
            Outcome::Failed { error } if error.kind == ErrorKind::Unavailable => {
                "unavailable_error".to_owned()
            }
            Outcome::Failed { error } => error.kind.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected);
        assert!(
            !store.ids("orders").is_empty(),
            "the pages before the failure are committed"
        );
        account.fault_after(usize::MAX, fault);
        run(&store, &account).await;
        assert_eq!(store.ids("orders"), account.ids());
    }
}

#[derive(Debug, Default)]
struct Said(Mutex<Vec<String>>);

impl Observer for Said {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Notice {
            source,
            message: text,
            ..
        } = event
        {
            self.0.lock().unwrap().push(format!("{source}: {text}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_nothing_can_be_learned_of_is_not_read() {
    let (store, account) = (Store::new(), Account::evenly(300));
    run(&store, &account).await;
    let (state, said) = (store.state("orders"), Arc::new(Said::default()));
    account.grow(10);
    account.close(Some(ErrorKind::Unauthenticated));
    let summary = sync(job(&store, &account).observer(said.clone()))
        .await
        .unwrap();
    assert!(
        matches!(outcome(&summary), Outcome::Failed { error } if error.kind == ErrorKind::Unauthenticated),
        "{summary:?}"
    );
    assert_eq!(
        store.state("orders"),
        state,
        "nothing is planned for it either"
    );
    account.close(Some(ErrorKind::Unsupported));
    assert_eq!(
        run(&store, &account).await.endpoints.len(),
        0,
        "it is left out"
    );
    let mut named = job(&store, &account);
    named.sources[0].streams = Selection::Named(vec!["orders".to_owned()]);
    let summary = sync(named).await.unwrap();
    assert!(
        matches!(outcome(&summary), Outcome::Failed { error } if error.kind == ErrorKind::Unsupported),
        "{summary:?}"
    );
    assert_eq!(store.state("orders"), state);
    account.close(None);
    sync(job(&store, &account).observer(said.clone()))
        .await
        .unwrap();
    assert_eq!(store.ids("orders"), account.ids());
    assert_eq!(*said.0.lock().unwrap(), ["shop: reads orders"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_restarts_the_rest_of_the_slice() {
    let (store, account) = (Store::new(), Account::evenly(300));
    account.fault_after(7, Fault::PositionLostOnce);
    let summary = run(&store, &account).await;
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
    assert_eq!(store.ids("orders"), account.ids());
    assert!(
        account.pages_served() < 300 / account::PAGE + 60,
        "only the rest was read again"
    );
}

#[tokio::test(start_paused = true)]
async fn two_writers_cannot_both_commit() {
    let (store, account) = (Store::appending(), Account::evenly(300));
    let (first, second) = tokio::join!(sync(job(&store, &account)), sync(job(&store, &account)));
    let failures: Vec<_> = [first, second]
        .into_iter()
        .map(|result| result.map_or_else(|e| Some(e.kind()), |s| s.failure()))
        .collect();
    assert!(
        failures.contains(&Some(ErrorKind::CheckpointConflict)),
        "{failures:?}"
    );
    run(&store, &account).await;
    assert_eq!(store.ids("orders"), account.ids());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_row_is_kept_with_the_reason() {
    let (store, account) = (Store::new(), Account::evenly(50));
    account.add_without_key();
    let summary = run(&store, &account).await;
    assert_eq!(summary.endpoints[0].streams[0].rejected, 1);
    assert_eq!(store.ids("orders").len(), 50);
    assert_eq!(
        store.len("_rejected"),
        2,
        "one for each stream that it was meant for"
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_of_several_pages_is_committed_whole_or_not_at_all() {
    let (store, account) = (Store::appending(), Account::evenly(0));
    account.stream_of_parts(10, Some(6));
    let summary = run(&store, &account).await;
    assert!(
        matches!(outcome(&summary), Outcome::Failed { .. }),
        "{summary:?}"
    );
    assert!(
        store.ids("orders").is_empty(),
        "a part of a response must not be visible"
    );
    account.stream_of_parts(10, None);
    run(&store, &account).await;
    assert_eq!(store.ids("orders").len(), 10);
    assert_eq!(store.state("orders").unfinished().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_plans_and_writes_nothing() {
    let (store, account) = (Store::new(), Account::evenly(50));
    let mut dry = job(&store, &account);
    dry.options.dry_run = true;
    let summary = sync(dry).await.unwrap();
    assert_eq!(
        (
            summary.endpoints[0].unfinished,
            account.pages_served(),
            store.commits()
        ),
        (1, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_commit_log_hash_does_not_depend_on_the_order_of_pages() {
    let total = |store: &Store| {
        let hashes = store
            .log()
            .into_iter()
            .map(|commit| u128::from_str_radix(&commit.content_hash, 16).unwrap());
        hashes.fold(0, u128::wrapping_add)
    };
    let (one, other, account) = (Store::new(), Store::new(), Account::evenly(500));
    run(&one, &account).await;
    let mut serial = job(&other, &account);
    serial.options.max_slices = 1;
    sync(serial).await.unwrap();
    assert_eq!(total(&one), total(&other));
    assert!(
        one.state_at(&EndpointId::new("shop", "orders"))
            .slices
            .values()
            .all(|slice| slice.position == Position::End)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the account looks like and wherever it is killed, the rows are the account's.
    #[test]
    fn any_account_killed_anywhere_ends_complete(gaps in proptest::collection::vec(0_i64..5_000, 0..400), kills in proptest::collection::vec(1_usize..30, 0..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (store, account) = (Store::appending(), Account::with_gaps(&gaps));
            for pages in kills {
                account.hang_after(account.pages_served() + pages);
                let _ = tokio::time::timeout(Duration::from_hours(1), run(&store, &account)).await;
            }
            account.hang_after(usize::MAX);
            run(&store, &account).await;
            prop_assert_eq!(store.ids("orders"), account.ids());
            Ok(())
        })?;
    }
}
