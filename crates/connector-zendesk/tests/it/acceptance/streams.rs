//! Which requests Zendesk's streams cost, what is refused, and what polls add up to, case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_engine::Outcome;
use pipeline_simulator::ZendeskChange::{Create, Delete, Redact, Update};
use pipeline_simulator::{Simulation, Simulator, ZendeskPlan, ZendeskWorld};
use pipeline_testkit::acceptance::reply;

use super::account::Account;

/// Until what has just changed is no longer withheld.
const WITHHELD: Duration = Duration::from_secs(90);

fn small() -> ZendeskWorld {
    ZendeskWorld {
        tickets: 120,
        users: 30,
        organizations: 10,
        others: 6,
        ..ZendeskWorld::default()
    }
}

fn account(zendesk: ZendeskWorld) -> Account {
    Account::new(Simulation {
        zendesk,
        latency: Duration::from_millis(100),
        ..Simulation::default()
    })
}

/// Notes the paths of all requests.
fn noting(account: &mut Account) -> Arc<Mutex<Vec<String>>> {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&paths);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            notes.lock().unwrap().push(request.uri().path().to_owned());
            simulator.answer(request).boxed()
        },
    ));
    paths
}

fn count(paths: &Mutex<Vec<String>>, wanted: impl Fn(&str) -> bool) -> usize {
    paths
        .lock()
        .unwrap()
        .iter()
        .filter(|path| wanted(path))
        .count()
}

fn ids(account: &Account, table: &str) -> Vec<String> {
    account.rows(table, "id", "id").into_keys().collect()
}

#[tokio::test(start_paused = true)]
async fn c14_no_list_of_a_deleted_ticket_is_asked_for() {
    let mut account = account(small());
    account.simulator.zendesk().change("tickets", Delete, 20);
    tokio::time::sleep(WITHHELD).await;
    let paths = noting(&mut account);
    account.complete(&["tickets", "side_conversations"]).await;
    let deleted: Vec<String> = account
        .rows("tickets", "id", "status")
        .into_iter()
        .filter(|(_, status)| status == "deleted")
        .map(|(id, _)| id)
        .collect();
    assert!(deleted.len() >= 20);
    assert_eq!(
        count(&paths, |path| deleted
            .iter()
            .any(|id| path.starts_with(&format!("/api/v2/tickets/{id}/")))),
        0
    );
    assert_eq!(
        ids(&account, "side_conversations"),
        account.simulator.truth().ids("side_conversations")
    );
}

#[tokio::test(start_paused = true)]
async fn c34_events_and_comments_are_one_read() {
    let mut account = account(small());
    let paths = noting(&mut account);
    account
        .complete(&["ticket_events", "ticket_comments"])
        .await;
    assert_eq!(
        count(&paths, |path| path.ends_with("/incremental/ticket_events")),
        1
    );
    let truth = account.simulator.truth();
    assert_eq!(ids(&account, "ticket_events"), truth.ids("ticket_events"));
    assert_eq!(
        ids(&account, "ticket_comments"),
        truth.ids("ticket_comments")
    );
    assert!(truth.count("ticket_comments") < truth.count("ticket_events"));
    let tickets = account.rows("ticket_comments", "id", "ticket_id");
    assert!(
        tickets
            .values()
            .all(|ticket| truth.ids("tickets").contains(ticket)),
        "every comment says whose it is"
    );
}

#[tokio::test(start_paused = true)]
async fn c36_a_blackened_comment_replaces_the_one_that_was_read() {
    let mut account = account(small());
    account.complete(&["ticket_comments"]).await;
    assert_eq!(account.simulator.zendesk().change("tickets", Redact, 3), 3);
    tokio::time::sleep(WITHHELD).await;
    let paths = noting(&mut account);
    account.complete(&["ticket_comments"]).await;
    let bodies = account.simulator.truth().members("ticket_comments", "body");
    assert!(
        account
            .rows("ticket_comments", "id", "body")
            .into_iter()
            .eq(bodies
                .into_iter()
                .map(|(id, body)| (id, body.trim_matches('"').to_owned())))
    );
    let asked = count(&paths, |path| path.ends_with("/comments"));
    assert!(
        (1..=3).contains(&asked),
        "one request for each ticket: {asked}"
    );
}

#[tokio::test(start_paused = true)]
async fn c36_a_blackened_comment_goes_when_its_ticket_was_deleted_before_it_could_be_read() {
    let account = account(small());
    account.complete(&["ticket_comments"]).await;
    let (before, ticket) = (
        account.rows("ticket_comments", "id", "body"),
        account.rows("ticket_comments", "id", "ticket_id"),
    );
    let vendor = account.simulator.zendesk();
    assert_eq!(vendor.change("tickets", Redact, 3), 3);
    assert!(vendor.change("tickets", Delete, 120) > 100);
    tokio::time::sleep(WITHHELD).await;
    account.complete(&["ticket_comments"]).await;

    let body = account.simulator.truth().members("ticket_comments", "body");
    let is_black = |id: &String| body[id].trim_matches('"') != before[id];
    let blackened: BTreeSet<&String> = before
        .keys()
        .filter(|id| is_black(id))
        .map(|id| &ticket[id])
        .collect();
    assert!((1..=3).contains(&blackened.len()));
    let kept: BTreeMap<_, _> = before
        .clone()
        .into_iter()
        .filter(|(id, _)| !blackened.contains(&ticket[id]))
        .collect();
    assert_eq!(account.rows("ticket_comments", "id", "body"), kept);
}

#[tokio::test(start_paused = true)]
async fn c37_the_export_of_tickets_is_read_once_for_all_that_need_it() {
    let mut account = account(small());
    account.config["export_page_size"] = 40.into();
    let paths = noting(&mut account);
    account
        .complete(&["tickets", "ticket_metrics", "side_conversations"])
        .await;
    assert_eq!(
        count(&paths, |path| path.ends_with("/incremental/tickets/cursor")),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn c42_streams_that_the_account_lacks_are_unavailable_and_the_others_complete() {
    let account = account(ZendeskWorld {
        plan: ZendeskPlan::Team,
        help_center: false,
        ..small()
    });
    let summary = account.sync(&[]).await;
    let outcome = |name: &str| {
        &summary
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id.endpoint == name)
            .unwrap()
            .outcome
    };
    for name in ["audit_logs", "posts", "articles", "sla_policies"] {
        assert!(
            matches!(outcome(name), Outcome::Unavailable { .. }),
            "{name}: {:?}",
            outcome(name)
        );
    }
    for name in [
        "tickets",
        "users",
        "organizations",
        "macros",
        "groups",
        "ticket_events",
    ] {
        assert!(
            matches!(outcome(name), Outcome::Done),
            "{name}: {:?}",
            outcome(name)
        );
    }
    let failed: Vec<_> = summary
        .endpoints
        .iter()
        .filter(|endpoint| matches!(endpoint.outcome, Outcome::Failed { .. }))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(start_paused = true)]
async fn c43_a_run_of_which_nothing_may_be_read_fails() {
    let mut account = account(small());
    account.behind(Arc::new(|_, _| {
        async { reply(403, &[("content-type", "text/html")], "") }.boxed()
    }));
    let summary = account.sync(&["tickets", "users", "macros"]).await;
    assert!(summary.failure().is_some(), "{summary:#?}");
}

#[tokio::test(start_paused = true)]
async fn c57_polls_add_up_to_a_full_read() {
    const STREAMS: [&str; 4] = [
        "ticket_events",
        "ticket_metric_events",
        "ticket_skips",
        "ticket_activities",
    ];
    let account = account(small());
    for _ in 0..5 {
        account.complete(&STREAMS).await;
        let vendor = account.simulator.zendesk();
        vendor.change("tickets", Update, 9);
        for table in &STREAMS[1..] {
            assert_eq!(vendor.change(table, Create, 4), 4, "{table}");
        }
        tokio::time::sleep(WITHHELD).await;
    }
    account.complete(&STREAMS).await;
    for table in STREAMS {
        assert_eq!(
            ids(&account, table),
            account.simulator.truth().ids(table),
            "{table}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c58_articles_that_are_sent_again_are_written_once_for_each_change() {
    let account = account(small());
    account.complete(&["articles"]).await;
    for _ in 0..3 {
        assert_eq!(account.simulator.zendesk().change("articles", Update, 1), 1);
        tokio::time::sleep(WITHHELD).await;
        let summary = account.complete(&["articles"]).await;
        assert_eq!(summary.endpoints[0].streams[0].rows, 1, "{summary:#?}");
    }
    assert_eq!(
        ids(&account, "articles"),
        account.simulator.truth().ids("articles")
    );
}

/// What the README says about the cost of a sync of everything: requests by the budget that pays
/// for them.
#[tokio::test(start_paused = true)]
async fn a_quiet_sync_of_everything_costs_what_the_readme_says() {
    let mut account = account(ZendeskWorld {
        others: 0,
        ..small()
    });
    let paths = noting(&mut account);
    let cost = || {
        let paths = std::mem::take(&mut *paths.lock().unwrap());
        let is_help_center =
            |path: &&String| path.contains("/help_center/") || path.contains("/community/");
        let exports = paths
            .iter()
            .filter(|path| path.starts_with("/api/v2/incremental/"))
            .count();
        let help_center = paths.iter().filter(is_help_center).count();
        format!(
            "{exports} exports, {} others of Support, {help_center} of the Help Center",
            paths.len() - exports - help_center
        )
    };
    account.sync(&[]).await;
    let first = cost();
    tokio::time::sleep(Duration::from_hours(1)).await;
    account.sync(&[]).await;
    insta::assert_snapshot!(format!("first: {first}\nquiet: {}", cost()), @"
    first: 5 exports, 54 others of Support, 9 of the Help Center
    quiet: 5 exports, 54 others of Support, 9 of the Help Center
    ");
}
