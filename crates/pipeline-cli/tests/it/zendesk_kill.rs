//! A Zendesk account that changes between its syncs and during them, each of which is killed
//! (SIGKILL): the destination is the account.
//!
//! Small by default. `PIPELINE_ZENDESK_TICKETS`, `PIPELINE_ZENDESK_EVENTS` and
//! `PIPELINE_ZENDESK_PAGE` make it larger; `PIPELINE_KILLS` is how often each sync is killed,
//! `PIPELINE_KILL_MILLIS` how late at most, and `PIPELINE_KILL_SEED` chooses other moments.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use pipeline_simulator::ZendeskChange::{
    Create, Delete, Redact, Remove, Scrub, Update, UpdateBySystem,
};
use pipeline_simulator::{Simulation, Simulator, Truth, ZendeskWorld};
use rusqlite::Connection;
use tokio::time::Instant;

use crate::support::{SQLITE, Sandbox, setting};

const STREAMS: [&str; 8] = [
    "tickets",
    "ticket_metrics",
    "ticket_events",
    "ticket_comments",
    "users",
    "user_identities",
    "organizations",
    "macros",
];

/// The end of the simulated data, in 2030, so that the simulated clock is never before the
/// machine's.
const UNTIL: i64 = 1_900_000_000;

/// Columns that are compared, table by table.
const COMPARED: [(&str, &str); 11] = [
    ("tickets", "generated_timestamp"),
    ("tickets", "status"),
    ("tickets", "subject"),
    ("ticket_events", "ticket_id"),
    ("ticket_comments", "body"),
    ("users", "name"),
    ("users", "active"),
    ("user_identities", "user_id"),
    ("organizations", "name"),
    ("organizations", "deleted_at"),
    ("macros", "title"),
];

/// Changes so many thousandths of the account.
fn change(simulator: &Simulator, tickets: u64, per_mille: u64) {
    let (vendor, of) = (simulator.zendesk(), |percent: u64| {
        (tickets * per_mille * percent / 100_000).max(1)
    });
    let changes = [
        ("tickets", Update, of(70)),
        ("tickets", UpdateBySystem, of(10)),
        ("tickets", Create, of(8)),
        ("tickets", Delete, of(5)),
        ("tickets", Scrub, of(2)),
        ("tickets", Redact, of(1)),
        ("users", Update, of(4)),
        ("users", Delete, of(1)),
        ("organizations", Update, of(1)),
        ("organizations", Delete, 1),
        ("macros", Remove, 1),
    ];
    for (table, what, count) in changes {
        vendor.change(table, what, count);
    }
}

fn configure(sandbox: &Sandbox, simulator: &Simulator, zendesk: &ZendeskWorld, page: u64) {
    let (url, email) = (simulator.url(), &zendesk.email);
    // The simulator enforces no limits, and every process may use its budget of exports at once.
    let source = format!(
        "connector = \"zendesk\"\nsubdomain = \"sim\"\nbase_url = \"{url}\"\nemail = \
         \"{email}\"\napi_token = \"${{ZENDESK_API_TOKEN}}\"\nexport_rpm = 30\nexport_page_size = \
         {page}\nstreams = {STREAMS:?}"
    );
    sandbox.write(
        "pipeline.toml",
        &format!(
            "[destination]\n{SQLITE}\n\n[sources.support]\n{source}\n\n[sync]\ncommit_interval = \
             \"100ms\"\n"
        ),
    );
}

/// A member of every row, by id.
fn rows(sandbox: &Sandbox, table: &str, member: &str) -> BTreeMap<String, String> {
    let database = Connection::open(sandbox.path("warehouse.db")).unwrap();
    let value = match member {
        // What the vendor sends as seconds is an instant here, and texts are written with all
        // digits.
        "generated_timestamp" => "strftime('%s', generated_timestamp)",
        "deleted_at" => "replace(deleted_at, '.000000', '')",
        "active" => "CASE active WHEN 1 THEN 'true' WHEN 0 THEN 'false' END",
        other => other,
    };
    let mut select = database
        .prepare(&format!(
            "SELECT CAST(id AS TEXT), CAST({value} AS TEXT) FROM support_{table}"
        ))
        .unwrap();
    let rows = select.query_map([], |row| {
        Ok((
            row.get(0)?,
            row.get::<_, Option<String>>(1)?
                .unwrap_or_else(|| "null".to_owned()),
        ))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Comments that may be removed: those of deleted tickets of which one comment was redacted. The
/// ticket has no list of them any more that would tell which.
fn removable(truth: &Truth) -> BTreeSet<String> {
    let (status, ticket) = (
        truth.members("tickets", "status"),
        truth.members("ticket_events", "ticket_id"),
    );
    let redactions = truth
        .members("ticket_events", "child_events")
        .into_iter()
        .filter(|(_, children)| children.contains("CommentRedaction"));
    let redacted: BTreeSet<&String> = redactions.map(|(event, _)| &ticket[&event]).collect();
    let is_out_of_reach = |event: &String| {
        redacted.contains(&ticket[event])
            && status
                .get(&ticket[event])
                .is_none_or(|status| status == "\"deleted\"")
    };
    let event_of = truth.members("ticket_comments", "audit_id").into_iter();
    event_of
        .filter(|(_, event)| is_out_of_reach(event))
        .map(|(comment, _)| comment)
        .collect()
}

fn assert_equal(sandbox: &Sandbox, simulator: &Simulator, round: u64) {
    let truth = simulator.truth();
    let removable = removable(truth);
    let (subjects, ticket) = (
        truth.members("tickets", "subject").into_iter(),
        truth.members("ticket_events", "ticket_id"),
    );
    let scrubbed: BTreeSet<String> = subjects
        .filter(|(_, subject)| subject == "\"SCRUBBED\"")
        .map(|(id, _)| id)
        .collect();
    for (table, member) in COMPARED {
        let (found, mut expected) = (rows(sandbox, table, member), truth.members(table, member));
        expected.retain(|id, _| {
            found.contains_key(id) || table != "ticket_comments" || !removable.contains(id)
        });
        // What a ticket said that was deleted for good went with it.
        let event = if table == "ticket_comments" {
            truth.members(table, "audit_id")
        } else {
            BTreeMap::new()
        };
        if table == "ticket_events" || table == "ticket_comments" {
            expected.retain(|id, _| !scrubbed.contains(&ticket[event.get(id).unwrap_or(id)]));
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
}

#[tokio::test(flavor = "multi_thread")]
async fn four_syncs_of_a_zendesk_account_that_changes_each_killed_for_real() {
    let (tickets, page) = (
        setting("PIPELINE_ZENDESK_TICKETS", 1_500),
        setting("PIPELINE_ZENDESK_PAGE", 200),
    );
    let events = Some(setting("PIPELINE_ZENDESK_EVENTS", 2_000));
    let zendesk = ZendeskWorld {
        tickets,
        events,
        users: tickets / 5,
        organizations: tickets / 50,
        ..ZendeskWorld::default()
    };
    let latency = Duration::from_millis(40);
    let simulation = Simulation {
        until: UNTIL,
        shown_until: Some(UNTIL),
        zendesk: zendesk.clone(),
        latency,
        ..Simulation::default()
    };
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    configure(&sandbox, &simulator, &zendesk, page);
    let mut random = fastrand::Rng::with_seed(setting("PIPELINE_KILL_SEED", 1));
    let (kills, latest) = (
        setting("PIPELINE_KILLS", 1),
        setting("PIPELINE_KILL_MILLIS", 400),
    );
    let (mut hit, mut hours) = (0, 0);
    for round in 1..=4 {
        let started = Instant::now();
        let mut later = || {
            hours += 1;
            simulator.show_until(UNTIL + hours * 3_600);
        };
        change(&simulator, tickets, 25);
        later();
        for _ in 0..kills {
            let mut command = sandbox.command(&["sync"]);
            let mut child = command
                .env("ZENDESK_API_TOKEN", &zendesk.token)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_millis(random.u64(100..latest));
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            change(&simulator, tickets, (25 / kills).max(1));
            hit += u64::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        later();
        let mut command = sandbox.command(&["sync"]);
        let ended = command
            .env("ZENDESK_API_TOKEN", &zendesk.token)
            .output()
            .unwrap();
        assert!(
            ended.status.success(),
            "round {round}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
        assert_equal(&sandbox, &simulator, round);
        println!(
            "round {round}: {} tickets, {} events, {hit} kills so far, {:.0?}",
            rows(&sandbox, "tickets", "id").len(),
            rows(&sandbox, "ticket_events", "id").len(),
            started.elapsed()
        );
    }
    assert!(
        hit > 0,
        "no kill came before the end: raise PIPELINE_ZENDESK_TICKETS"
    );
}
