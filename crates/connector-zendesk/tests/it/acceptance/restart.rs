//! An account that changes between syncs and during them, and syncs that are killed: the
//! destination is the account.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_simulator::ZendeskChange::{
    Create, Delete, Redact, Remove, Restore, Scrub, Update, UpdateBySystem,
};
use pipeline_simulator::{Limits, Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::setting;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::account::Account;

const STREAMS: [&str; 9] = [
    "tickets",
    "ticket_metrics",
    "ticket_events",
    "ticket_comments",
    "users",
    "user_identities",
    "organizations",
    "groups",
    "macros",
];

/// Changes a part of the account, in thousandths of its tickets.
fn change(simulator: &Simulator, tickets: u64, per_mille: u64) {
    let vendor = simulator.zendesk();
    let part = |of: u64| (tickets * per_mille * of / 100_000).max(1);
    vendor.change("tickets", Update, part(70));
    vendor.change("tickets", UpdateBySystem, part(10));
    vendor.change("tickets", Create, part(5));
    vendor.change("tickets", Delete, part(5));
    vendor.change("tickets", Scrub, part(2));
    vendor.change("tickets", Restore, part(1));
    vendor.change("tickets", Redact, part(1));
    vendor.change("users", Update, part(4));
    vendor.change("users", Delete, part(1));
    vendor.change("users", Scrub, 1);
    vendor.change("organizations", Update, part(1));
    vendor.change("organizations", Delete, 1);
    vendor.change("macros", Remove, 1);
}

/// Compares what is in the destination with the account.
fn assert_equal(account: &Account, round: u64) {
    let truth = account.simulator.truth();
    let columns = [
        ("tickets", "generated_timestamp"),
        ("tickets", "status"),
        ("tickets", "subject"),
        ("users", "name"),
        ("user_identities", "user_id"),
        ("organizations", "name"),
        ("groups", "name"),
        ("macros", "title"),
        ("ticket_events", "ticket_id"),
        ("ticket_comments", "body"),
    ];
    let forgotten = |table: &str, member: &str, value: &str| -> BTreeSet<String> {
        truth
            .members(table, member)
            .into_iter()
            .filter(|(_, known)| known == value)
            .map(|(id, _)| id)
            .collect()
    };
    let forgotten_tickets = forgotten("tickets", "subject", "\"SCRUBBED\"");
    let forgotten_users = forgotten("users", "permanently_deleted", "true");
    for (table, member) in columns {
        let (found, mut expected) = (
            account.rows(table, "id", member),
            truth.members(table, member),
        );
        // What belonged to somebody or something that was deleted for good went with it.
        let tickets = || truth.members("ticket_events", "ticket_id");
        match table {
            "user_identities" => {
                let user = truth.members(table, "user_id");
                expected.retain(|id, _| !forgotten_users.contains(&user[id]));
            }
            "ticket_events" => {
                let ticket = tickets();
                expected.retain(|id, _| !forgotten_tickets.contains(&ticket[id]));
            }
            "ticket_comments" => {
                let (ticket, event) = (tickets(), truth.members(table, "audit_id"));
                expected.retain(|id, _| !forgotten_tickets.contains(&ticket[&event[id]]));
            }
            _ => {}
        }
        assert_eq!(
            found.len(),
            expected.len(),
            "round {round}: rows of {table}"
        );
        let expected = expected
            .into_iter()
            .map(|(id, value)| (id, value.trim_matches('"').to_owned()));
        let wrong: Vec<_> = found
            .into_iter()
            .zip(expected)
            .filter(|(found, expected)| found != expected)
            .take(3)
            .collect();
        assert!(
            wrong.is_empty(),
            "round {round}: {table}.{member} of {wrong:?}"
        );
    }
    // A ticket that was deleted sends no metrics, and its last ones stay.
    let (found, expected) = (
        account.rows("ticket_metrics", "id", "replies"),
        truth.members("ticket_metrics", "replies"),
    );
    assert!(
        expected
            .iter()
            .all(|(id, replies)| found.get(id) == Some(replies)),
        "round {round}: ticket_metrics"
    );
}

/// `PIPELINE_ZENDESK_TICKETS=100000 PIPELINE_ZENDESK_EVENTS=1000000 PIPELINE_ZENDESK_PAGE=1000` is
/// the large account. The limits are the vendor's; the clock is paused, so that the hours they cost
/// pass at once. A kill drops everything that a process has, without telling it.
#[tokio::test(start_paused = true)]
async fn four_syncs_of_a_changing_account_each_killed_once() {
    let (tickets, page) = (
        setting("PIPELINE_ZENDESK_TICKETS", 1_500),
        setting("PIPELINE_ZENDESK_PAGE", 60),
    );
    let zendesk = ZendeskWorld {
        tickets,
        events: Some(setting("PIPELINE_ZENDESK_EVENTS", 6_000)),
        users: tickets / 5,
        organizations: tickets / 50,
        ..ZendeskWorld::default()
    };
    let limits = Limits {
        zendesk_account: Some(700),
        zendesk_export: Some(10),
        zendesk_endpoints: true,
        ..Limits::default()
    };
    let mut account = Account::new(Simulation {
        zendesk,
        limits,
        latency: Duration::from_millis(1_200),
        ..Simulation::default()
    });
    account.config["export_page_size"] = page.into();
    let requests = Arc::new(AtomicUsize::new(0));
    for round in 1..=4 {
        let started = Instant::now();
        let before = requests.load(Ordering::Relaxed);
        // Between two syncs, 2.5 % change.
        change(&account.simulator, tickets, 25);
        tokio::time::sleep(Duration::from_hours(1)).await;
        // During this one, another 2.5 %, until it is killed.
        let kill_at = if round == 1 { tickets / page / 2 } else { 3 };
        let (dead, asked) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (kill, count, all) = (Arc::clone(&dead), Arc::clone(&asked), Arc::clone(&requests));
        account.behind(Arc::new(
            move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
                all.fetch_add(1, Ordering::Relaxed);
                if request.uri().path().starts_with("/api/v2/incremental/") {
                    let asked = count.fetch_add(1, Ordering::Relaxed) as u64;
                    if asked == kill_at {
                        kill.notify_one();
                    }
                    if asked >= kill_at {
                        return std::future::pending().boxed();
                    }
                    let tickets_each = tickets * 25 / 1_000 / kill_at;
                    simulator
                        .zendesk()
                        .change("tickets", Update, tickets_each.max(1));
                }
                simulator.answer(request).boxed()
            },
        ));
        tokio::select! {
            summary = account.sync(&STREAMS) => panic!("it ended before it was killed: \
                                                        {summary:#?}"),
            () = dead.notified() => {}
        }
        let committed = account.rows("tickets", "id", "id").len();
        // What changed last is withheld for a minute.
        tokio::time::sleep(Duration::from_secs(62)).await;
        let all = Arc::clone(&requests);
        account.behind(Arc::new(
            move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
                all.fetch_add(1, Ordering::Relaxed);
                simulator.answer(request).boxed()
            },
        ));
        account.complete(&STREAMS).await;
        assert_equal(&account, round);
        println!(
            "round {round}: killed at export {kill_at} with {committed} tickets committed, then \
             completed; {} tickets, {} requests, {:?} simulated",
            account.rows("tickets", "id", "id").len(),
            requests.load(Ordering::Relaxed) - before,
            started.elapsed(),
        );
    }
}
