//! A destination that has lost something, refuses rows, or is held by another process.

use super::*;
use crate::destination::{Damage, TableId};

/// Damage of a table of a source, or of everything.
fn damage(table: Option<(&str, &str)>) -> Damage {
    let table = table.map(|(source, stream)| TableId {
        source: source.to_owned(),
        stream: stream.to_owned(),
    });
    Damage {
        table,
        what: "rows are missing".to_owned(),
        help: "run `pipeline sync --full-refresh`".to_owned(),
    }
}

/// A run of two sources that are the same account.
fn of_two(store: &Arc<Store>, account: &Arc<Account>) -> Job {
    let mut job = job(store, account);
    job.sources.push(Source {
        name: "depot".to_owned(),
        ..job.sources[0].clone()
    });
    job
}

#[tokio::test(start_paused = true)]
async fn a13_damage_of_a_table_fails_its_endpoints_and_others_go_on() {
    let (store, account) = (Store::appending(), Account::evenly(200));
    sync(of_two(&store, &account)).await.unwrap();
    account.grow(20);
    store.damage(vec![damage(Some(("shop", "lines")))]);
    let before = store.state("orders");
    let summary = sync(of_two(&store, &account)).await.unwrap();
    let [shop, depot] = &summary.endpoints[..] else {
        panic!("{summary:?}")
    };
    let Outcome::Failed { error } = &shop.outcome else {
        panic!("{shop:?}")
    };
    assert_eq!(
        (error.kind, error.help.as_deref()),
        (
            ErrorKind::Destination,
            Some("run `pipeline sync --full-refresh`")
        )
    );
    assert!(
        error.message.contains("rows are missing") && error.message.contains("lines"),
        "{error:?}"
    );
    assert!(matches!(depot.outcome, Outcome::Done), "{depot:?}");
    assert_eq!(
        (summary.failure(), store.state("orders")),
        (Some(ErrorKind::Destination), before)
    );
    let mut refresh = job(&store, &account);
    refresh.options.full_refresh = true;
    let summary = sync(refresh).await.unwrap();
    assert!(
        matches!(outcome(&summary), Outcome::Done),
        "a full refresh is the way out: {summary:?}"
    );
    assert_eq!(store.ids("orders"), account.ids());
}

#[tokio::test(start_paused = true)]
async fn a13_a_damaged_refresh_begins_again_instead_of_going_on() {
    let (store, account) = (Store::appending(), Account::evenly(200));
    run(&store, &account).await;
    let refresh = || {
        let mut refresh = job(&store, &account);
        refresh.options.full_refresh = true;
        refresh
    };
    account.hang_after(account.pages_served() + 10);
    assert!(
        tokio::time::timeout(Duration::from_hours(1), sync(refresh()))
            .await
            .is_err()
    );
    account.hang_after(usize::MAX);
    let (before, plan) = (account.pages_served(), store.state("orders").plan);
    store.damage(vec![damage(Some(("shop", "orders")))]);
    let refused = run(&store, &account).await;
    assert_eq!(
        (refused.failure(), account.pages_served()),
        (Some(ErrorKind::Destination), before)
    );
    sync(refresh()).await.unwrap();
    assert!(
        account.pages_served() - before >= 200 / account::PAGE && store.state("orders").plan > plan
    );
    assert_eq!(store.ids("orders"), account.ids());
}

#[tokio::test(start_paused = true)]
async fn a13_damage_of_everything_ends_the_run_before_the_vendor_is_asked() {
    let (store, account) = (Store::appending(), Account::evenly(200));
    store.damage(vec![damage(None)]);
    let error = sync(job(&store, &account)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.help(), account.pages_served()),
        (
            ErrorKind::Destination,
            Some("run `pipeline sync --full-refresh`"),
            0
        )
    );
    assert_eq!(store.recorded()[0].failure.as_deref(), Some("destination"));
    let said = Arc::new(Said::default());
    let mut refresh = job(&store, &account).observer(said.clone());
    refresh.options.full_refresh = true;
    assert_eq!(sync(refresh).await.unwrap().failure(), None);
    assert!(
        said.0
            .lock()
            .unwrap()
            .iter()
            .any(|notice| notice.contains("rows are missing")),
        "{said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn b8_what_was_reset_is_read_again_into_the_place_of_what_is_there() {
    let (store, account) = (Store::appending(), Account::evenly(300));
    run(&store, &account).await;
    account.remove_oldest(100);
    account.grow(10);
    store.reset("orders");
    let summary = run(&store, &account).await;
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
    assert_eq!(
        store.ids("orders"),
        account.ids(),
        "nothing twice, and nothing that is deleted"
    );
    let again = run(&store, &account).await;
    assert_eq!(
        again.endpoints[0].streams[0].rows, 0,
        "it is not read again and again"
    );
}

#[tokio::test(start_paused = true)]
async fn b8_a_reset_that_is_interrupted_goes_on() {
    let (store, account) = (Store::appending(), Account::evenly(300));
    run(&store, &account).await;
    store.reset("orders");
    account.hang_after(account.pages_served() + 10);
    assert!(
        tokio::time::timeout(Duration::from_hours(1), run(&store, &account))
            .await
            .is_err()
    );
    account.hang_after(usize::MAX);
    assert_eq!(store.ids("orders").len(), 300);
    run(&store, &account).await;
    assert_eq!(store.ids("orders"), account.ids());
}

#[tokio::test(start_paused = true)]
async fn g02_a_destination_that_another_process_holds_is_waited_for() {
    let (store, account, said) = (
        Store::new(),
        Account::evenly(100),
        Arc::new(Said::default()),
    );
    store.be_busy(20);
    let summary = sync(job(&store, &account).observer(said.clone()))
        .await
        .unwrap();
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
    assert_eq!(store.ids("orders"), account.ids());
    let notices = said
        .0
        .lock()
        .unwrap()
        .iter()
        .filter(|notice| notice.contains("another process"))
        .cloned()
        .collect::<Vec<_>>();
    assert_eq!(
        notices,
        ["shop: the store is used by another process: waiting for it, for at most 60 s"]
    );
}

#[tokio::test(start_paused = true)]
async fn g02_waiting_for_another_process_has_an_end() {
    let (store, account) = (Store::new(), Account::evenly(100));
    store.be_busy(usize::MAX);
    let started = Instant::now();
    let error = sync(job(&store, &account)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_temporary()),
        (ErrorKind::Destination, false)
    );
    assert!(
        (60..70).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
    let cancelled = job(&store, &account);
    cancelled.cancel.cancel();
    let started = Instant::now();
    let summary = sync(cancelled).await.unwrap();
    assert_eq!(summary.failure(), Some(ErrorKind::Cancelled));
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn g03_a_row_that_the_destination_refuses_is_kept_with_the_reason() {
    let (store, account) = (Store::new(), Account::evenly(100));
    let bad = account.ids()[40].clone();
    store.refuse(&bad);
    let summary = run(&store, &account).await;
    let orders = summary.endpoints[0]
        .streams
        .iter()
        .find(|stream| stream.name == "orders")
        .unwrap();
    assert_eq!((orders.rows, orders.rejected), (99, 1), "{orders:?}");
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
    let expected: Vec<String> = account.ids().into_iter().filter(|id| *id != bad).collect();
    assert_eq!(store.ids("orders"), expected, "the rest is committed");
    assert!(store.len("_rejected") >= 1);
    let logged: u64 = store
        .log()
        .iter()
        .flat_map(|commit| &commit.rows)
        .filter(|(id, _)| id.stream == "orders")
        .map(|(_, rows)| rows)
        .sum();
    assert_eq!(logged, 99, "the log has the rows that are there");
}

#[tokio::test(start_paused = true)]
async fn g03_rows_that_are_refused_count_against_the_error_budget() {
    let (store, account) = (Store::new(), Account::evenly(100));
    account
        .ids()
        .iter()
        .take(20)
        .for_each(|id| store.refuse(id));
    let summary = run(&store, &account).await;
    let Outcome::Failed { error } = outcome(&summary) else {
        panic!("{summary:?}")
    };
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(
        error
            .message
            .contains("records of `orders` are refused by the destination: it breaks a rule"),
        "{error:?}"
    );
    account.ids().iter().for_each(|id| store.accept(id));
    let summary = run(&store, &account).await;
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
    assert!(
        store.len("orders") > 90,
        "all but a few of an earlier page are read when the rule is gone"
    );
    let mut whole = job(&store, &account);
    whole.options.full_refresh = true;
    sync(whole).await.unwrap();
    assert_eq!(store.ids("orders"), account.ids());
}

#[tokio::test(start_paused = true)]
async fn d12_a_stream_that_cannot_be_read_has_a_table_too() {
    for refused in [ErrorKind::PermissionDenied, ErrorKind::Unavailable] {
        let (store, account) = (Store::new(), Account::evenly(10));
        account.close(Some(refused));
        sync(job(&store, &account)).await.unwrap();
        assert_eq!(store.prepared(), ["lines", "orders"], "{refused}");
    }
}
