//! Incremental exports: their walks, their boundaries, and what changes while they are read.

use std::time::Duration;

use pipeline_simulator::{Limits, Simulation, ZendeskWorld};
use serde_json::{Value, json};

use super::{records, walk};
use crate::{Api, ids, sorted};

#[tokio::test]
async fn tickets_and_metrics_in_one_walk() {
    let api = Api::start(Simulation::default()).await;
    let first = "/api/v2/incremental/tickets/cursor?start_time=0&per_page=700&include=metric_sets&support_type_scope=all";
    let pages = walk(&api, first).await;
    assert_eq!(pages.len(), 5);
    let tickets = records(&pages, "tickets");
    assert_eq!(
        sorted(ids(&tickets, "id")),
        api.simulator.truth().ids("tickets")
    );
    let all = tickets.as_array().unwrap();
    let key = |ticket: &Value| {
        (
            ticket["generated_timestamp"].as_i64().unwrap(),
            ticket["id"].as_i64().unwrap(),
        )
    };
    assert!(
        all.is_sorted_by_key(key),
        "ordered by (generated_timestamp, id)"
    );
    assert!(
        all.iter()
            .all(|ticket| ticket["metric_set"].is_null() == (ticket["status"] == "deleted"))
    );
    let metrics: Value = all
        .iter()
        .map(|ticket| ticket["metric_set"].clone())
        .filter(|set| !set.is_null())
        .collect();
    assert_eq!(
        sorted(ids(&metrics, "id")),
        api.simulator.truth().ids("ticket_metrics")
    );
    assert!(metrics[0]["ticket_id"].is_i64());
    let agents = records(
        &walk(&api, "/api/v2/incremental/tickets/cursor.json?start_time=0").await,
        "tickets",
    );
    assert!(
        agents
            .as_array()
            .unwrap()
            .iter()
            .all(|ticket| ticket["support_type"] == "agent" && ticket.get("metric_set").is_none())
    );
    let kept = walk(&api, "/api/v2/incremental/tickets/cursor?start_time=0&exclude_deleted=true&support_type_scope=all").await;
    assert_eq!(
        records(&kept, "tickets").as_array().unwrap().len() as u64,
        api.simulator.truth().count("ticket_metrics")
    );
}

#[tokio::test]
async fn users_with_identities_and_an_idle_cursor() {
    let api = Api::start(Simulation::default()).await;
    let pages = walk(
        &api,
        "/api/v2/incremental/users/cursor?start_time=0&per_page=250&include=identities",
    )
    .await;
    let truth = api.simulator.truth();
    assert_eq!(
        sorted(ids(&records(&pages, "users"), "id")),
        truth.ids("users")
    );
    assert_eq!(
        sorted(ids(&records(&pages, "identities"), "id")),
        truth.ids("user_identities")
    );
    let cursor = pages.last().unwrap()["after_cursor"]
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let idle = api
        .zendesk(&format!("/api/v2/incremental/users/cursor?cursor={cursor}"))
        .await
        .json();
    assert_eq!(
        (&idle["users"], &idle["end_of_stream"]),
        (&json!([]), &json!(true))
    );
    // The same people as Stripe's customers.
    let customers = truth.ids("customers");
    let emails: std::collections::HashSet<Value> = customers
        .iter()
        .map(|id| truth.record("customers", id).unwrap()["email"].clone())
        .collect();
    let users = records(&pages, "users");
    assert_eq!(
        users
            .as_array()
            .unwrap()
            .iter()
            .filter(|user| emails.contains(&user["email"]))
            .count(),
        500
    );
}

#[tokio::test]
async fn organizations_repeat_the_boundary_second() {
    let zendesk = ZendeskWorld {
        organizations: 900,
        burst: 40,
        ..ZendeskWorld::default()
    };
    let api = Api::start(Simulation {
        zendesk,
        ..Simulation::default()
    })
    .await;
    let (mut start, mut seen, mut rows) = (0, std::collections::BTreeSet::new(), 0);
    loop {
        let path = format!("/api/v2/incremental/organizations?start_time={start}&per_page=25");
        let page = api.zendesk(&path).await.json();
        rows += ids(&page["organizations"], "id").len();
        seen.extend(ids(&page["organizations"], "id"));
        if page["end_of_stream"] == true {
            break;
        }
        assert!(page["end_time"].as_i64().unwrap() > start, "progress");
        start = page["end_time"].as_i64().unwrap();
    }
    assert_eq!(
        sorted(seen.into_iter().collect()),
        api.simulator.truth().ids("organizations")
    );
    assert!(rows > 900, "the border's second came twice");
}

#[tokio::test]
async fn exports_have_their_own_budget() {
    let limits = Limits {
        zendesk_export: Some(2),
        zendesk_account: Some(4),
        ..Limits::default()
    };
    let api = Api::start(Simulation {
        limits,
        ..Simulation::default()
    })
    .await;
    for expected in [200, 200, 429] {
        let answer = api
            .zendesk("/api/v2/incremental/users/cursor?start_time=0&per_page=1")
            .await;
        assert_eq!(answer.status, expected);
        if expected == 429 {
            assert_eq!(answer.json()["error"], "APIRateLimitExceeded");
            assert!(
                (50..=60).contains(
                    &answer
                        .header("retry-after")
                        .unwrap()
                        .parse::<u32>()
                        .unwrap()
                )
            );
        }
    }
    assert_eq!(
        api.zendesk("/api/v2/users/me")
            .await
            .header("x-rate-limit-remaining"),
        Some("1")
    );
    assert_eq!(api.zendesk("/api/v2/users/me").await.status, 200);
    let spent = api.zendesk("/api/v2/users/me").await;
    assert_eq!(
        (spent.status.as_u16(), spent.text().as_str()),
        (429, "Number of allowed API requests per minute exceeded")
    );
}

#[tokio::test]
async fn changes_move_records_to_the_end_of_exports() {
    use pipeline_simulator::ZendeskChange::{
        Create, Delete, Redact, Remove, Scrub, Update, UpdateBySystem,
    };
    let api = Api::start(Simulation::default()).await;
    let (account, truth) = (api.simulator.zendesk(), api.simulator.truth());
    let first = "/api/v2/incremental/tickets/cursor?start_time=0&include=metric_sets&support_type_scope=all";
    let before = walk(&api, first).await;
    let cursor = before.last().unwrap()["after_cursor"]
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let changes = [
        (Create, 3),
        (Update, 10),
        (UpdateBySystem, 4),
        (Delete, 5),
        (Redact, 2),
    ];
    assert!(
        changes
            .into_iter()
            .all(|(change, count)| account.change("tickets", change, count) == count)
    );
    assert_eq!(account.change("tickets", Scrub, 1), 1);
    let next = format!("/api/v2/incremental/tickets/cursor?cursor={cursor}&support_type_scope=all");
    assert_eq!(
        records(&walk(&api, &next).await, "tickets"),
        json!([]),
        "the last minute is withheld"
    );
    api.simulator.advance(Duration::from_mins(2));
    let after = records(&walk(&api, &next).await, "tickets");
    let after = after.as_array().unwrap();
    assert!((20..=25).contains(&after.len()), "{}", after.len());
    let scrubbed: Vec<&Value> = after
        .iter()
        .filter(|ticket| ticket["subject"] == "SCRUBBED")
        .collect();
    assert_eq!(
        (scrubbed.len(), &scrubbed[0]["status"]),
        (1, &json!("deleted"))
    );
    assert!(
        scrubbed[0]["updated_at"].as_str().unwrap() < "2026-11-01",
        "scrubbing does not move updated_at"
    );
    assert_eq!(
        truth
            .members("tickets", "subject")
            .values()
            .filter(|subject| *subject == "\"SCRUBBED\"")
            .count(),
        1
    );
    let gone = truth.count("macros");
    assert_eq!(account.change("macros", Remove, 2), 2);
    assert_eq!(truth.count("macros"), gone - 2);
    let events = truth.members("ticket_events", "child_events");
    assert_eq!(
        events
            .values()
            .filter(|children| children.contains("CommentRedactionEvent"))
            .count(),
        2
    );
    assert_eq!(
        truth
            .members("ticket_comments", "body")
            .values()
            .filter(|body| body.contains('\u{2587}'))
            .count(),
        2
    );
}

#[tokio::test]
async fn what_is_erased_is_shown_nowhere() {
    use pipeline_simulator::ZendeskChange::{Delete, Redact, Scrub};
    let zendesk = ZendeskWorld {
        erases: true,
        ..ZendeskWorld::default()
    };
    let api = Api::start(Simulation {
        zendesk,
        ..Simulation::default()
    })
    .await;
    let (account, truth) = (api.simulator.zendesk(), api.simulator.truth());
    let identities = truth.count("user_identities");
    for (table, change, count) in [
        ("tickets", Redact, 2),
        ("tickets", Scrub, 2),
        ("users", Delete, 1),
        ("users", Scrub, 2),
    ] {
        assert_eq!(account.change(table, change, count), count);
    }
    let erased = account.erased();
    assert!(
        erased.len() >= 2 + 2 * 3 + 2 * 2 && erased.iter().all(|text| text.len() > 8),
        "{erased:?}"
    );
    assert_eq!(identities - truth.count("user_identities"), 2);
    let shown = [
        ("ticket_events", "child_events"),
        ("ticket_comments", "body"),
        ("tickets", "subject"),
        ("tickets", "description"),
    ];
    let shown = shown
        .into_iter()
        .chain([("users", "email"), ("user_identities", "value")]);
    for (table, member) in shown {
        for value in truth.members(table, member).into_values() {
            assert!(
                !erased.iter().any(|text| value.contains(text)),
                "{table}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_second_of_more_events_than_a_page_is_whole_or_a_trap() {
    for (cuts_seconds, expected) in [(false, 1500), (true, 1000)] {
        let zendesk = ZendeskWorld {
            organizations: 24_000,
            burst: 1500,
            cuts_seconds,
            ..ZendeskWorld::default()
        };
        let api = Api::start(Simulation {
            zendesk,
            ..Simulation::default()
        })
        .await;
        let second = {
            let mut times = std::collections::BTreeMap::<String, usize>::new();
            let updated = api.simulator.truth().members("organizations", "updated_at");
            for time in updated.into_values() {
                *times.entry(time).or_default() += 1;
            }
            times
                .into_iter()
                .find(|(_, count)| *count == 1500)
                .unwrap()
                .0
        };
        let start = chrono::DateTime::parse_from_rfc3339(second.trim_matches('"'))
            .unwrap()
            .timestamp();
        let page = api
            .zendesk(&format!(
                "/api/v2/incremental/organizations?start_time={start}"
            ))
            .await
            .json();
        assert_eq!(page["organizations"].as_array().unwrap().len(), expected);
        assert_eq!(page["end_time"], start + i64::from(!cuts_seconds));
    }
}
