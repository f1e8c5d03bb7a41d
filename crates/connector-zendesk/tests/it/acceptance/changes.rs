//! Zendesk's exports from one sync to the next, case by case: changes, deletions, ties, and places
//! to go on from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_engine::Outcome;
use pipeline_simulator::ZendeskChange::{Create, Delete, Remove, Scrub, Update, UpdateBySystem};
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::{UNTIL, reply};
use tokio::sync::Notify;

use super::account::{Account, Gate, NOW};

/// Until what has just changed is no longer withheld.
const WITHHELD: Duration = Duration::from_secs(90);

fn account(zendesk: ZendeskWorld) -> Account {
    Account::new(Simulation {
        zendesk,
        latency: Duration::from_millis(200),
        ..Simulation::default()
    })
}

fn small() -> ZendeskWorld {
    ZendeskWorld {
        tickets: 300,
        users: 60,
        organizations: 20,
        groups: 15,
        others: 6,
        ..ZendeskWorld::default()
    }
}

/// Compares a member of every row with what the account holds.
#[track_caller]
fn assert_equal(account: &Account, table: &str, member: &str) {
    let (found, truth) = (
        account.rows(table, "id", member),
        account.simulator.truth().members(table, member),
    );
    let truth = truth
        .into_iter()
        .map(|(id, value)| (id, value.trim_matches('"').to_owned()));
    assert!(found.into_iter().eq(truth), "{table}.{member}");
}

/// The queries of the requests to a path, as they were sent.
type Queries = Arc<Mutex<Vec<String>>>;

/// Notes the queries of the requests to a path, and may answer the nth of them, counted from 1.
fn watching(
    path: &'static str,
    queries: &Queries,
    answer: impl Fn(usize, &str) -> Option<http::Response<pipeline_testkit::Pieces>>
    + Send
    + Sync
    + 'static,
) -> Arc<Gate> {
    let queries = Arc::clone(queries);
    Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            if request.uri().path() == path {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let number = {
                    let mut queries = queries.lock().unwrap();
                    queries.push(query.clone());
                    queries.len()
                };
                if let Some(answer) = answer(number, &query) {
                    return async move { answer }.boxed();
                }
            }
            simulator.answer(request).boxed()
        },
    )
}

#[tokio::test(start_paused = true)]
async fn c13_a_ticket_that_only_the_system_changed_is_read_again() {
    let account = account(small());
    account.complete(&["tickets"]).await;
    assert_eq!(
        account
            .simulator
            .zendesk()
            .change("tickets", UpdateBySystem, 5),
        5
    );
    tokio::time::sleep(WITHHELD).await;
    let summary = account.complete(&["tickets"]).await;
    assert_eq!(
        summary.endpoints[0].streams[0].rows, 5,
        "an export ordered by `updated_at` would have missed them"
    );
    assert_equal(&account, "tickets", "generated_timestamp");
}

#[tokio::test(start_paused = true)]
async fn c14_deleted_tickets_are_rows_without_metrics() {
    let account = account(small());
    account.complete(&["tickets", "ticket_metrics"]).await;
    assert_equal(&account, "tickets", "status");
    assert!(
        account
            .rows("tickets", "id", "status")
            .values()
            .any(|status| status == "deleted")
    );
    assert_equal(&account, "ticket_metrics", "ticket_id");
    account.simulator.zendesk().change("tickets", Delete, 7);
    tokio::time::sleep(WITHHELD).await;
    let summary = account.complete(&["tickets", "ticket_metrics"]).await;
    assert_equal(&account, "tickets", "status");
    let rows: Vec<u64> = summary.endpoints[0]
        .streams
        .iter()
        .map(|stream| stream.rows)
        .collect();
    assert_eq!(rows, [7, 0]);
}

#[tokio::test(start_paused = true)]
async fn c15_a_ticket_deleted_for_good_loses_what_it_said() {
    let account = account(small());
    account.complete(&["tickets"]).await;
    let before = account.rows("tickets", "id", "updated_at");
    assert_eq!(account.simulator.zendesk().change("tickets", Scrub, 2), 2);
    tokio::time::sleep(WITHHELD).await;
    account.complete(&["tickets"]).await;
    assert_equal(&account, "tickets", "subject");
    assert_eq!(
        account
            .rows("tickets", "id", "subject")
            .values()
            .filter(|subject| *subject == "SCRUBBED")
            .count(),
        2
    );
    assert_eq!(
        account.rows("tickets", "id", "updated_at"),
        before,
        "which does not move `updated_at`"
    );
}

#[tokio::test(start_paused = true)]
async fn c16_a_refused_cursor_gives_way_to_its_second_and_loses_nothing() {
    let mut account = account(small());
    account.complete(&["tickets"]).await;
    account.simulator.zendesk().change("tickets", Update, 20);
    tokio::time::sleep(WITHHELD).await;
    let queries = Queries::default();
    account.behind(watching(
        "/api/v2/incremental/tickets/cursor",
        &queries,
        |number, _| {
            let body =
                r#"{"error":"InvalidPaginationParameter","description":"cursor is not valid"}"#;
            (number == 1).then(|| reply(400, &[("content-type", "application/json")], body))
        },
    ));
    account.complete(&["tickets"]).await;
    let queries = queries.lock().unwrap().clone();
    assert!(
        queries[0].contains("cursor=") && queries[1].contains("start_time=18"),
        "{queries:?}"
    );
    assert_equal(&account, "tickets", "generated_timestamp");
}

#[tokio::test(start_paused = true)]
async fn c17_the_second_at_the_border_of_pages_is_written_once() {
    let mut account = account(ZendeskWorld {
        organizations: 900,
        burst: 40,
        ..small()
    });
    account.config["export_page_size"] = 25.into();
    let summary = account.complete(&["organizations"]).await;
    let stream = &summary.endpoints[0].streams[0];
    assert_eq!(
        (stream.rows, stream.records > 900),
        (900, true),
        "{stream:?}"
    );
    assert_equal(&account, "organizations", "name");
    // The next sync begins with that second, too.
    let summary = account.complete(&["organizations"]).await;
    assert_eq!(summary.endpoints[0].streams[0].rows, 0);
}

#[tokio::test(start_paused = true)]
async fn c18_a_second_that_no_page_holds_ends_the_stream_and_is_named() {
    // A page of 1,000 holds this second, one of 100 does not: it is asked for again, larger.
    let mut account = account(ZendeskWorld {
        organizations: 9_600,
        burst: 600,
        cuts_seconds: true,
        ..small()
    });
    account.config["export_page_size"] = 100.into();
    account.complete(&["organizations"]).await;
    assert_equal(&account, "organizations", "name");
    // No page holds this one.
    let mut account = self::account(ZendeskWorld {
        organizations: 24_000,
        burst: 1_500,
        cuts_seconds: true,
        ..small()
    });
    account.config["export_page_size"] = 1_000.into();
    let summary = account.sync(&["organizations"]).await;
    let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
        panic!("{summary:#?}")
    };
    assert!(
        error.message.contains("second: 18") || error.message.contains("position: "),
        "{error:?}"
    );
    let found = account.rows("organizations", "id", "id").len();
    assert!(found < 24_000 && summary.failure().is_some(), "{found}");
}

/// Ties of more than a page do no harm to an export by cursor.
#[tokio::test(start_paused = true)]
async fn more_tickets_than_a_page_in_one_second() {
    let mut account = account(ZendeskWorld {
        tickets: 2_400,
        burst: 150,
        ..small()
    });
    account.config["export_page_size"] = 50.into();
    account.complete(&["tickets", "ticket_metrics"]).await;
    assert_equal(&account, "tickets", "generated_timestamp");
    assert_equal(&account, "ticket_metrics", "ticket_id");
}

/// Tickets that change while their pages are on the way appear again at the end, or in the next
/// sync.
#[tokio::test(start_paused = true)]
async fn tickets_that_change_while_they_are_exported() {
    let mut account = account(ZendeskWorld {
        changes_per_page: 4,
        ..small()
    });
    account.config["export_page_size"] = 30.into();
    account.complete(&["tickets"]).await;
    tokio::time::sleep(WITHHELD).await;
    account.complete(&["tickets"]).await;
    let (found, truth) = (
        account.rows("tickets", "id", "generated_timestamp"),
        account
            .simulator
            .truth()
            .members("tickets", "generated_timestamp"),
    );
    let behind = truth
        .iter()
        .filter(|(id, time)| found.get(*id) != Some(time))
        .count();
    assert_eq!(found.len(), truth.len());
    // What changed while the last page was on its way.
    assert!(behind <= 8, "{behind}");
    assert!(
        truth
            .values()
            .filter(|time| time.parse::<i64>().unwrap() >= UNTIL)
            .count()
            >= 40
    );
}

#[tokio::test(start_paused = true)]
async fn c22_an_export_is_never_asked_for_the_last_minute() {
    let mut account = account(small());
    let now = chrono::DateTime::from_timestamp(NOW - 1, 0).unwrap();
    account.config["start_date"] = now.to_rfc3339().into();
    let queries = Queries::default();
    account.behind(watching(
        "/api/v2/incremental/tickets/cursor",
        &queries,
        |_, _| None,
    ));
    account.complete(&["tickets"]).await;
    let start = format!("start_time={}", NOW - 61);
    assert!(
        queries.lock().unwrap()[0].contains(&start),
        "{:?}",
        queries.lock().unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn c39_after_a_crash_at_page_six_of_nine_at_most_one_page_is_read_again() {
    let zendesk = ZendeskWorld {
        tickets: 270,
        ..small()
    };
    let mut account = Account::new(Simulation {
        zendesk,
        latency: Duration::from_secs(2),
        ..Simulation::default()
    });
    account.config["custom_field_columns"] = false.into();
    account.config["export_page_size"] = 30.into();
    let (queries, dead) = (Queries::default(), Arc::new(Notify::new()));
    let (seen, kill, count) = (Arc::clone(&queries), Arc::clone(&dead), AtomicUsize::new(0));
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            seen.lock().unwrap().push(request.uri().to_string());
            if count.fetch_add(1, Ordering::Relaxed) == 5 {
                kill.notify_one();
                return std::future::pending().boxed();
            }
            simulator.answer(request).boxed()
        },
    ));
    tokio::select! {
        summary = account.sync(&["tickets"]) => panic!("{summary:#?}"),
        () = dead.notified() => {}
    }
    account.complete(&["tickets"]).await;
    let queries = queries.lock().unwrap().clone();
    let again = queries[6..]
        .iter()
        .filter(|query| queries[..5].contains(query))
        .count();
    assert!(again <= 1 && queries.len() <= 6 + 5, "{queries:#?}");
    assert_equal(&account, "tickets", "generated_timestamp");
}

#[tokio::test(start_paused = true)]
async fn c45_deleted_groups_are_asked_for_and_marked() {
    let mut account = account(small());
    assert_eq!(account.simulator.zendesk().change("groups", Delete, 3), 3);
    let queries = Queries::default();
    account.behind(watching("/api/v2/groups", &queries, |_, _| None));
    account.complete(&["groups"]).await;
    assert!(
        queries
            .lock()
            .unwrap()
            .iter()
            .all(|query| query.contains("exclude_deleted=false"))
    );
    assert_eq!(
        account
            .rows("groups", "id", "deleted")
            .values()
            .filter(|deleted| *deleted == "1")
            .count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn c47_what_is_missing_from_a_complete_list_is_gone_and_from_no_other() {
    let mut account = account(ZendeskWorld {
        groups: 250,
        ..small()
    });
    account.complete(&["groups"]).await;
    assert_eq!(account.simulator.zendesk().change("groups", Remove, 4), 4);
    // The second page fails for good: nothing may be concluded from the first.
    let queries = Queries::default();
    account.behind(watching("/api/v2/groups", &queries, |number, _| {
        (number == 2).then(|| reply(403, &[], "{}"))
    }));
    assert!(account.sync(&["groups"]).await.failure().is_some());
    assert_eq!(account.rows("groups", "id", "id").len(), 250);
    account.complete(&["groups"]).await;
    assert_equal(&account, "groups", "name");
    assert_eq!(account.rows("groups", "id", "id").len(), 246);
}

#[tokio::test(start_paused = true)]
async fn deleted_and_merged_users_turn_inactive_and_organizations_are_stamped() {
    let account = account(small());
    account.complete(&["users", "organizations"]).await;
    let vendor = account.simulator.zendesk();
    assert_eq!(
        vendor.change("users", Delete, 4) + vendor.change("users", Scrub, 2),
        6
    );
    assert_eq!(
        vendor.change("organizations", Delete, 3) + vendor.change("organizations", Create, 2),
        5
    );
    tokio::time::sleep(WITHHELD).await;
    account.complete(&["users", "organizations"]).await;
    assert_equal(&account, "users", "name");
    let active = account.rows("users", "id", "active");
    let truth = account.simulator.truth().members("users", "active");
    assert!(
        active
            .into_iter()
            .map(|(id, active)| (id, (active == "1").to_string()))
            .eq(truth)
    );
    let stamped = account
        .rows("organizations", "id", "deleted_at")
        .into_values()
        .filter(|time| time != "null")
        .count();
    assert_eq!(
        (stamped, account.rows("organizations", "id", "id").len()),
        (3, 22)
    );
}
