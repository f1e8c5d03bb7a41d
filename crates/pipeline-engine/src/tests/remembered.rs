//! Overlapping runs, and what is remembered of each.

use super::*;

fn named(run: &str, job: Job) -> Job {
    Job {
        run: run.to_owned(),
        ..job
    }
}

#[tokio::test(start_paused = true)]
async fn d5_the_second_of_two_overlapping_syncs_is_refused_before_it_asks_the_vendor() {
    let (store, account) = (Store::exclusive(), Account::evenly(2_000));
    let first = tokio::spawn(sync(named("first", job(&store, &account))));
    tokio::time::sleep(account::LATENCY * 20).await;
    let other = Account::evenly(2_000);
    let refused = sync(named("second", job(&store, &other)))
        .await
        .expect_err("the first holds the claim");
    assert_eq!(
        (refused.kind(), other.pages_served()),
        (ErrorKind::CheckpointConflict, 0)
    );
    let summary = first.await.unwrap().unwrap();
    assert!(
        matches!(outcome(&summary), Outcome::Done),
        "the first is not hurt: {summary:?}"
    );
    assert_eq!(store.ids("orders"), account.ids());
    assert_eq!(
        store.recorded().len(),
        1,
        "a run that was refused has not begun"
    );
    run(&store, &account).await;
}

#[tokio::test(start_paused = true)]
async fn d5_a_dry_run_claims_and_records_nothing() {
    let (store, account) = (Store::exclusive(), Account::evenly(2_000));
    let first = tokio::spawn(sync(named("first", job(&store, &account))));
    tokio::time::sleep(account::LATENCY * 20).await;
    let mut dry = named("dry", job(&store, &account));
    dry.options.dry_run = true;
    sync(dry).await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(
        store
            .recorded()
            .iter()
            .map(|run| run.run.as_str())
            .collect::<Vec<_>>(),
        ["first"]
    );
}

#[tokio::test(start_paused = true)]
async fn d10_every_run_is_remembered_with_its_end_and_the_last_success() {
    let (store, account) = (Store::new(), Account::evenly(300));
    sync(named("good", job(&store, &account))).await.unwrap();
    account.grow(50);
    account.fault_after(account.pages_served(), Fault::Fails(ErrorKind::Unavailable));
    tokio::time::sleep(Duration::from_mins(1)).await;
    sync(named("failed", job(&store, &account))).await.unwrap();
    account.fault_after(usize::MAX, Fault::Fails(ErrorKind::Unavailable));
    account.hang_after(account.pages_served());
    let killed = tokio::time::timeout(
        Duration::from_hours(1),
        sync(named("killed", job(&store, &account))),
    )
    .await;
    assert!(killed.is_err());
    account.hang_after(usize::MAX);
    let cancelled = named("cancelled", job(&store, &account));
    cancelled.cancel.cancel();
    sync(cancelled).await.unwrap();
    let runs = store.recorded();
    let of_run = |name: &str| runs.iter().find(|run| run.run == name).unwrap();
    let (good, failed, killed, cancelled) = (
        of_run("good"),
        of_run("failed"),
        of_run("killed"),
        of_run("cancelled"),
    );
    assert_eq!(
        (good.rows, &good.failure, &good.sources),
        (600, &None, &vec!["shop".to_owned()])
    );
    assert!(good.took.is_some() && good.commits > 0, "{good:?}");
    let succeeded = good.endpoints[0].succeeded;
    assert_eq!(
        (good.endpoints[0].status.as_str(), succeeded.is_some()),
        ("done", true)
    );
    assert_eq!(failed.failure.as_deref(), Some("unavailable"));
    assert_eq!(
        (
            failed.endpoints[0].status.as_str(),
            failed.endpoints[0].succeeded
        ),
        ("failed", succeeded)
    );
    assert!(failed.endpoints[0].error.is_some(), "{failed:?}");
    assert_eq!(
        (killed.took, killed.endpoints.len()),
        (None, 0),
        "a run that was killed has no end"
    );
    assert_eq!(cancelled.failure.as_deref(), Some("cancelled"));
    assert_eq!(
        cancelled.endpoints[0].succeeded, succeeded,
        "carried over the run that was killed"
    );
}

#[tokio::test(start_paused = true)]
async fn d10_a_run_that_cannot_be_recorded_is_a_notice_and_not_a_failure() {
    let (store, account, said) = (
        Store::new(),
        Account::evenly(300),
        Arc::new(Said::default()),
    );
    store.forget_runs();
    let summary = sync(job(&store, &account).observer(said.clone()))
        .await
        .unwrap();
    assert_eq!(summary.failure(), None);
    let notices = said.0.lock().unwrap().clone();
    assert_eq!(
        notices
            .iter()
            .filter(|notice| notice.contains("could not be recorded"))
            .count(),
        2,
        "{notices:?}"
    );
}

/// What the vendor answers wrongly at the same place in two runs is not announced as temporary;
/// what fails elsewhere, or in a way that passes, is.
#[tokio::test(start_paused = true)]
async fn f10_what_failed_before_at_the_same_place_is_said_to_last() {
    for (kind, lasts) in [(ErrorKind::Decode, true), (ErrorKind::Unavailable, false)] {
        let (store, account) = (Store::new(), Account::evenly(300));
        account.fault_after(1, Fault::Fails(kind));
        let mut told = Vec::new();
        for run in ["first", "second", "third"] {
            let summary = sync(named(run, job(&store, &account))).await.unwrap();
            assert_eq!(summary.failure(), Some(kind));
            let rows: u64 = summary
                .endpoints
                .iter()
                .flat_map(|endpoint| &endpoint.streams)
                .map(|stream| stream.rows)
                .sum();
            told.push((rows > 0, summary.lasts()));
        }
        assert_eq!(
            told,
            [(true, false), (false, lasts), (false, lasts)],
            "{kind}"
        );
        account.fault_after(usize::MAX, Fault::Fails(kind));
        assert_eq!(
            sync(named("last", job(&store, &account)))
                .await
                .unwrap()
                .failure(),
            None
        );
    }
}
