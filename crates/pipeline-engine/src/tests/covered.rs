//! Whose records a source has, and from when on: what a sync does when the configuration says
//! something else than before.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::{ErrorKind, Event, Observer, Origin};

use super::account::{Account, NOW};
use super::store::Store;
use super::{Outcome, job, outcome, run, sync};

/// What runs said.
#[derive(Debug, Default)]
struct Notices(Mutex<Vec<String>>);

impl Observer for Notices {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Notice { message, .. } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

impl Notices {
    /// What the runs since the last question said of starts.
    fn of_starts(&self) -> Vec<String> {
        let said = std::mem::take(&mut *self.0.lock().unwrap());
        said.into_iter()
            .filter(|message| message.starts_with("the start was moved"))
            .collect()
    }
}

fn minutes_ago(minutes: i64) -> DateTime<Utc> {
    NOW - TimeDelta::minutes(minutes)
}

async fn told(store: &Arc<Store>, account: &Arc<Account>, notices: &Arc<Notices>) {
    let job = job(store, account).observer(Arc::clone(notices) as _);
    let summary = sync(job).await.unwrap();
    assert!(matches!(outcome(&summary), Outcome::Done), "{summary:?}");
}

/// A destination that keeps every row which is written has each once.
#[tokio::test(start_paused = true)]
async fn a2_a_start_moved_back_reads_what_is_older_exactly_once() {
    let starts = [
        Some(60),
        Some(400),
        Some(100),
        Some(430),
        None,
        None,
        Some(5),
    ];
    let read = [60, 400, 400, 430, 500, 500, 500];
    let (store, account, notices) = (
        Store::appending(),
        Account::evenly(500),
        Arc::new(Notices::default()),
    );
    for (start, minutes) in starts.into_iter().zip(read) {
        account.start_at(start.map(minutes_ago));
        told(&store, &account, &notices).await;
        assert_eq!(
            store.ids("orders"),
            account.ids_since(minutes_ago(minutes)),
            "from {start:?} on"
        );
    }
    insta::assert_snapshot!(notices.of_starts().join("\n"), @r"
    the start was moved back: what is older is read now, beside what is new (orders)
    the start was moved forward: what was read before stays, and reading goes on where it stopped; `pipeline sync shop --full-refresh` leaves out what is older (orders)
    the start was moved back: what is older is read now, beside what is new (orders)
    the start was moved back: what is older is read now, beside what is new (orders)
    the start was moved forward: what was read before stays, and reading goes on where it stopped; `pipeline sync shop --full-refresh` leaves out what is older (orders)
    ");
}

/// The older part is like any other plan: a run that is killed goes on, and what is new meanwhile
/// comes as well.
#[tokio::test(start_paused = true)]
async fn a2_the_older_part_survives_a_kill_after_any_page() {
    for pages in 0..30 {
        let (store, account) = (Store::appending(), Account::evenly(200));
        account.start_at(Some(minutes_ago(50)));
        run(&store, &account).await;
        account.start_at(None);
        account.hang_after(account.pages_served() + pages);
        let killed =
            tokio::time::timeout(std::time::Duration::from_hours(1), run(&store, &account)).await;
        account.hang_after(usize::MAX);
        account.grow(3);
        tokio::time::sleep(std::time::Duration::from_mins(5)).await;
        for _ in 0..2 {
            run(&store, &account).await;
        }
        assert_eq!(
            store.ids("orders"),
            account.ids(),
            "killed after {pages} pages: {}",
            killed.is_err()
        );
    }
}

/// While a refresh is under way the older part is read into it.
#[tokio::test(start_paused = true)]
async fn a2_a_start_moved_back_during_a_refresh_is_part_of_it() {
    let (store, account) = (Store::new(), Account::evenly(300));
    account.start_at(Some(minutes_ago(100)));
    run(&store, &account).await;
    account.hang_after(account.pages_served() + 4);
    let mut refresh = job(&store, &account);
    refresh.options.full_refresh = true;
    assert!(
        tokio::time::timeout(std::time::Duration::from_hours(1), sync(refresh))
            .await
            .is_err()
    );
    account.hang_after(usize::MAX);
    account.start_at(Some(minutes_ago(250)));
    run(&store, &account).await;
    assert_eq!(store.ids("orders"), account.ids_since(minutes_ago(250)));
}

/// States of earlier releases say nothing of where they began: what the configuration wants then is
/// taken for it.
#[tokio::test(start_paused = true)]
async fn a2_a_state_of_an_earlier_release_is_adopted() {
    let (store, account) = (Store::appending(), Account::evenly(100));
    account.start_at(Some(minutes_ago(50)));
    run(&store, &account).await;
    store.change_state("orders", |state| {
        (state.coverage, state.origin) = (None, None);
    });
    for minutes in [50, 80] {
        account.start_at(Some(minutes_ago(minutes)));
        account.belong_to(Origin::of_account("acct_1"));
        run(&store, &account).await;
        assert_eq!(store.ids("orders"), account.ids_since(minutes_ago(minutes)));
    }
    assert_eq!(
        store.state("orders").origin,
        Some(Origin::of_account("acct_1"))
    );
}

/// What a source was read from, and what it is to be read from now: refused or not.
#[tokio::test(start_paused = true)]
async fn a1_another_account_is_refused_before_anything_is_read() {
    let test = || Origin::of_account("acct_TEST").realm("test mode");
    let unknown =
        |realm: &str, url: &str| Origin::default().realm(realm).host(&url.parse().unwrap());
    let (vendor, gateway) = ("https://api.vendor.test", "https://gateway.example");
    let cases = [
        ("the same", test(), test(), true),
        (
            "another account and mode",
            test(),
            Origin::of_account("acct_LIVE").realm("live mode"),
            false,
        ),
        (
            "another account",
            test(),
            Origin::of_account("acct_2").realm("test mode"),
            false,
        ),
        (
            "another mode of it",
            test(),
            Origin::of_account("acct_TEST").realm("live mode"),
            false,
        ),
        (
            "a key that may not tell",
            test(),
            unknown("test mode", vendor),
            true,
        ),
        (
            "a key that may not tell, of another mode",
            test(),
            unknown("live mode", vendor),
            false,
        ),
        ("nothing is known", test(), Origin::default(), true),
        (
            "another host of the same account",
            test().host(&vendor.parse().unwrap()),
            test().host(&gateway.parse().unwrap()),
            true,
        ),
        (
            "another host",
            unknown("live mode", vendor),
            unknown("live mode", gateway),
            false,
        ),
        (
            "another port of this machine",
            unknown("live mode", "http://127.0.0.1:1"),
            unknown("live mode", "http://localhost:2"),
            true,
        ),
    ];
    for (case, before, now, is_read) in cases {
        for full_refresh in [false, true] {
            let (store, account) = (Store::new(), Account::evenly(30));
            account.belong_to(before.clone());
            run(&store, &account).await;
            let (state, pages) = (store.state("orders"), account.pages_served());
            account.belong_to(now.clone());
            account.grow(5);
            tokio::time::sleep(std::time::Duration::from_mins(5)).await;
            let mut again = job(&store, &account);
            again.options.full_refresh = full_refresh;
            let summary = sync(again).await.unwrap();
            if is_read {
                assert_eq!(
                    (summary.failure(), store.len("orders")),
                    (None, 35),
                    "{case}"
                );
                continue;
            }
            assert_eq!(summary.failure(), Some(ErrorKind::ConfigInvalid), "{case}");
            assert_eq!(
                (
                    store.state("orders"),
                    account.pages_served(),
                    store.len("orders")
                ),
                (state, pages, 30),
                "{case}"
            );
        }
    }
}

/// A key that may not tell its account forgets nothing: the one that comes after it is still
/// compared.
#[tokio::test(start_paused = true)]
async fn a1_what_was_known_of_an_account_outlives_a_key_that_may_not_tell() {
    let (store, account) = (Store::new(), Account::evenly(30));
    for (name, is_read) in [
        (Some("acct_1"), true),
        (None, true),
        (Some("acct_2"), false),
        (Some("acct_1"), true),
    ] {
        account.belong_to(name.map_or(Origin::default(), Origin::of_account));
        assert_eq!(
            run(&store, &account).await.failure().is_none(),
            is_read,
            "{name:?}"
        );
    }
}

/// One of the ways out: what was read is forgotten, and the other account takes its place.
#[tokio::test(start_paused = true)]
async fn a1_after_a_reset_the_other_account_replaces_what_is_there() {
    let (store, account) = (Store::new(), Account::evenly(30));
    account.belong_to(Origin::of_account("acct_1"));
    run(&store, &account).await;
    let other = Account::with_gaps(&[60, 60, 60]);
    other.belong_to(Origin::of_account("acct_2"));
    assert_eq!(
        run(&store, &other).await.failure(),
        Some(ErrorKind::ConfigInvalid)
    );
    store.change_state("orders", |state| *state = state.reset());
    assert_eq!(run(&store, &other).await.failure(), None);
    assert_eq!(
        (store.len("orders"), store.state("orders").origin),
        (3, Some(Origin::of_account("acct_2")))
    );
}

#[tokio::test(start_paused = true)]
async fn a1_the_refusal_names_both_accounts_and_the_ways_out() {
    let (store, account) = (Store::new(), Account::evenly(3));
    account.belong_to(Origin::of_account("acct_TEST").realm("test mode"));
    run(&store, &account).await;
    account.belong_to(Origin::of_account("acct_LIVE").realm("live mode"));
    let summary = run(&store, &account).await;
    let Outcome::Failed { error } = outcome(&summary) else {
        panic!("{summary:?}")
    };
    insta::assert_snapshot!(format!("{}\n{}", error.message, error.help.as_deref().unwrap_or_default()), @r"
    source `shop` was read from account acct_TEST (test mode), and now its credentials belong to account acct_LIVE (live mode)
    to keep both, give this one a source name of its own; to replace what is there, run `pipeline state reset shop --yes` and sync again; if the credentials were changed by mistake, put the old ones back
    ");
}

/// Nothing proves that an account which is known only now is the one whose rows are stored. That is
/// told once, with both ways out.
#[tokio::test(start_paused = true)]
async fn f6_an_account_that_is_known_only_later_is_a_notice() {
    let (store, account) = (Store::new(), Account::evenly(3));
    account.belong_to(Origin::default().realm("test mode"));
    run(&store, &account).await;
    account.belong_to(Origin::of_account("acct_B").realm("test mode"));
    for told in [1, 0] {
        let said = Arc::new(Notices::default());
        let summary = sync(job(&store, &account).observer(said.clone()))
            .await
            .unwrap();
        assert_eq!(summary.failure(), None);
        let notices = said.0.lock().unwrap().clone();
        let names = |notice: &&String| {
            [
                "acct_B",
                "state reset shop --yes",
                "a source name of its own",
            ]
            .iter()
            .all(|text| notice.contains(text))
        };
        assert_eq!(notices.iter().filter(names).count(), told, "{notices:?}");
    }
}
