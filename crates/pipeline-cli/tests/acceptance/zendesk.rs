//! The budget of Zendesk's exports: none of it wasted, none of it exceeded.

use std::time::Duration;

use pipeline_simulator::{Limits, Simulation, ZendeskWorld};

use crate::account::{Account, busiest_minute, setting, timed};

/// What the exports feed, and lists that count against the account alone.
const EXPORTED: [&str; 6] = ["tickets", "ticket_metrics", "ticket_events", "ticket_comments", "users", "user_identities"];
const LISTED: [&str; 12] = [
    "groups",
    "group_memberships",
    "organization_memberships",
    "macros",
    "triggers",
    "automations",
    "views",
    "ticket_fields",
    "brands",
    "articles",
    "posts",
    "post_comments",
];

/// `PIPELINE_ZENDESK_TICKETS=100000 PIPELINE_ZENDESK_EVENTS=1000000 PIPELINE_ZENDESK_PAGE=1000` is the large account.
#[tokio::test(start_paused = true)]
async fn exports_use_their_whole_budget_and_no_page_twice() {
    let (tickets, events) = (setting("PIPELINE_ZENDESK_TICKETS", 2_000), setting("PIPELINE_ZENDESK_EVENTS", 3_000));
    let page_size = setting("PIPELINE_ZENDESK_PAGE", 10);
    let zendesk = ZendeskWorld { tickets, events: Some(events), users: tickets / 5, ..ZendeskWorld::default() };
    let limits = Limits { zendesk_account: Some(700), zendesk_export: Some(10), zendesk_endpoints: true, ..Limits::default() };
    let simulation = Simulation { zendesk, limits, latency: Duration::from_millis(1_500), ..Simulation::default() };

    let unlimited = Account::new(Simulation { limits: Limits::default(), latency: Duration::ZERO, ..simulation.clone() });
    let mut exist = 0;
    for path in [
        "tickets/cursor?include=metric_sets&support_type_scope=all",
        "ticket_events?include=comment_events",
        "users/cursor?include=identities",
    ] {
        exist += unlimited.pages(path, page_size).await;
    }

    let mut account = Account::new(simulation);
    account.config["export_page_size"] = page_size.into();
    let streams: Vec<&str> = EXPORTED.into_iter().chain(LISTED).collect();
    let ((), took) = timed(async { drop(account.complete(&streams).await) }).await;
    let is_export = |route: &str| route.starts_with("GET /api/v2/incremental/");
    let (exports, others) = (account.accepted(is_export), account.accepted(|route| !is_export(route)));
    let took_exports = *exports.last().unwrap() - exports[0];
    // The shortest time in which the budget lets so many through: ten at once, and ten more every minute.
    let shortest = Duration::from_mins((exports.len() as u64).div_ceil(10) - 1);
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let (per_page, used) = (exports.len() as f64 / exist as f64, shortest.as_secs_f64() / took_exports.as_secs_f64());
    let meanwhile = others.iter().filter(|time| **time <= exports[exports.len() - 1]).count();
    println!("export pages that exist: {exist}; requests to exports: {} ({per_page:.4} of them)", exports.len());
    println!("they took {took_exports:?}, which the budget allows to do in {shortest:?}: {:.1} % used", 100.0 * used);
    println!("busiest minute: {} exports, {} others; refused: {}", busiest_minute(&exports), busiest_minute(&others), account.refused());
    println!("other requests: {}, {meanwhile} of them while exports remained; the sync took {took:?}", others.len());
    assert!(per_page <= 1.01, "{per_page}");
    assert!(used >= 0.97, "{used}");
    assert!(busiest_minute(&exports) <= 10 && account.refused() == 0);
    assert!(meanwhile >= LISTED.len(), "{meanwhile}");
    for (table, truth) in
        [("tickets", "tickets"), ("ticket_events", "ticket_events"), ("ticket_comments", "ticket_comments"), ("users", "users")]
    {
        assert_eq!(account.rows(table, "id", "id").len() as u64, account.simulator.truth().count(truth), "{table}");
    }
}
