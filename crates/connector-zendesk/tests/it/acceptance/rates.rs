//! The budget of Zendesk's exports: none of it wasted, none of it exceeded.

use std::time::Duration;

use pipeline_simulator::{Limits, Simulation, ZendeskWorld};
use pipeline_testkit::acceptance::{busiest_minute, setting, timed};

use super::account::Account;

/// What the exports feed, lists that count against the account alone, and lists of which every
/// ticket has one.
const EXPORTED: [&str; 7] = [
    "tickets",
    "ticket_metrics",
    "ticket_events",
    "ticket_comments",
    "users",
    "user_identities",
    "organizations",
];
const LISTED: [&str; 15] = [
    "groups",
    "group_memberships",
    "organization_memberships",
    "macros",
    "triggers",
    "automations",
    "views",
    "ticket_fields",
    "brands",
    "tags",
    "satisfaction_ratings",
    "satisfaction_reasons",
    "articles",
    "posts",
    "post_comments",
];
const OF_TICKETS: [&str; 2] = ["ticket_audits", "side_conversations"];

/// What the account may be asked in a minute, and the part of it that is used.
const ACCOUNT_RPM: u32 = 700;
const SHARE: f64 = 0.8;

/// `PIPELINE_ZENDESK_TICKETS=100000 PIPELINE_ZENDESK_EVENTS=1000000 PIPELINE_ZENDESK_PAGE=1000` is
/// the large account.
#[tokio::test(start_paused = true)]
async fn exports_use_their_whole_budget_and_no_page_twice_while_the_account_is_used_up_as_well() {
    let (tickets, events) = (
        setting("PIPELINE_ZENDESK_TICKETS", 2_000),
        setting("PIPELINE_ZENDESK_EVENTS", 16_000),
    );
    let page_size = setting("PIPELINE_ZENDESK_PAGE", 80);
    let zendesk = ZendeskWorld {
        tickets,
        events: Some(events),
        users: tickets / 5,
        organizations: tickets / 50,
        ..ZendeskWorld::default()
    };
    let limits = Limits {
        zendesk_account: Some(ACCOUNT_RPM),
        zendesk_export: Some(10),
        zendesk_endpoints: true,
        ..Limits::default()
    };
    let simulation = Simulation {
        zendesk,
        limits,
        latency: Duration::from_secs(1),
        ..Simulation::default()
    };

    let unlimited = Account::new(Simulation {
        limits: Limits::default(),
        latency: Duration::ZERO,
        ..simulation.clone()
    });
    let mut exist = 0;
    for path in [
        "tickets/cursor?include=metric_sets&support_type_scope=all",
        "ticket_events?include=comment_events",
        "users/cursor?include=identities",
        "organizations?",
    ] {
        exist += unlimited.pages(path, page_size).await;
    }

    let mut account = Account::new(simulation);
    account.config["export_page_size"] = page_size.into();
    let streams: Vec<&str> = EXPORTED
        .into_iter()
        .chain(LISTED)
        .chain(OF_TICKETS)
        .collect();
    let ((), took) = timed(async { drop(account.complete(&streams).await) }).await;
    assert_exports(&account, exist);
    assert_account(&account, tickets);
    println!("the sync took {took:?}; refused: {}", account.refused());
    assert_eq!(account.refused(), 0);
    for table in [
        "tickets",
        "ticket_events",
        "ticket_comments",
        "users",
        "organizations",
        "side_conversations",
    ] {
        assert_eq!(
            account.rows(table, "id", "id").len() as u64,
            account.simulator.truth().count(table),
            "{table}"
        );
    }
    assert_eq!(
        account.rows("ticket_audits", "id", "id").len(),
        account.audits_of_live_tickets().len()
    );
}

fn is_export(route: &str) -> bool {
    // The export of articles is the Help Center's.
    route.starts_with("GET /api/v2/incremental/")
}

/// No page of an export is asked for twice, and their budget is used up as long as there are any.
#[expect(clippy::cast_precision_loss, reason = "ratios")]
fn assert_exports(account: &Account, exist: usize) {
    let exports = account.accepted(is_export);
    let took = *exports.last().unwrap() - exports[0];
    // The shortest time in which the budget lets so many through: ten at once, and ten more every
    // minute.
    let shortest = Duration::from_mins((exports.len() as u64).div_ceil(10) - 1);
    let (per_page, used) = (
        exports.len() as f64 / exist as f64,
        shortest.as_secs_f64() / took.as_secs_f64(),
    );
    println!(
        "export pages that exist: {exist}; requests to exports: {} ({per_page:.4} of them)",
        exports.len()
    );
    println!(
        "they took {took:?}, which the budget allows to do in {shortest:?}: {:.1} % used",
        100.0 * used
    );
    println!("busiest minute: {} exports", busiest_minute(&exports));
    assert!(per_page <= 1.01, "{per_page}");
    assert!(used >= 0.97, "{used}");
    assert!(busiest_minute(&exports) <= 10);
}

/// The account's own limit is used meanwhile, as long as it is what the lists of tickets wait for.
#[expect(clippy::cast_precision_loss, reason = "ratios")]
fn assert_account(account: &Account, tickets: u64) {
    let is_help_center =
        |route: &str| route.contains("/help_center/") || route.contains("/community/");
    let all = account.accepted(|route| !is_help_center(route));
    let of_tickets = account.accepted(|route| route.starts_with("GET /api/v2/tickets/{id}/"));
    let last_export = *account.accepted(is_export).last().unwrap();
    // From when the lists of tickets are under way until they are done.
    let (start, end) = (
        of_tickets[0] + Duration::from_mins(1),
        *of_tickets.last().unwrap(),
    );
    let within = all
        .iter()
        .filter(|time| (start..end).contains(time))
        .count();
    let allowed = f64::from(ACCOUNT_RPM) * SHARE * (end - start).as_secs_f64() / 60.0;
    let used = within as f64 / allowed;
    let meanwhile = all.iter().filter(|time| **time < last_export).count();
    println!(
        "requests of the account: {}, {meanwhile} of them while exports remained, {} of single \
         tickets",
        all.len(),
        of_tickets.len()
    );
    println!(
        "of what it may be asked, {:.1} % was used from {start:?} to {end:?}; busiest minute: {}",
        100.0 * used,
        busiest_minute(&all)
    );
    assert!(
        of_tickets.len() as u64 > tickets,
        "both lists of every ticket: {}",
        of_tickets.len()
    );
    // Small pages of tickets end often, and the next one waits for the budget of exports.
    assert!(used >= 0.8, "{used}");
    assert!(busiest_minute(&all) <= ACCOUNT_RPM as usize);
}
