//! How Zendesk's lists are walked, case by case.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;

use super::account::Account;

fn account(zendesk: ZendeskWorld) -> Account {
    Account::new(Simulation {
        zendesk,
        latency: Duration::from_millis(100),
        ..Simulation::default()
    })
}

/// Notes the targets of all requests.
fn noting(account: &mut Account) -> Arc<Mutex<Vec<String>>> {
    let targets = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&targets);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            notes.lock().unwrap().push(request.uri().to_string());
            simulator.answer(request).boxed()
        },
    ));
    targets
}

#[tokio::test(start_paused = true)]
async fn c02_a_link_to_another_host_is_not_followed() {
    let mut account = account(ZendeskWorld {
        tickets: 90,
        groups: 150,
        organizations: 60,
        ..ZendeskWorld::default()
    });
    account.config["export_page_size"] = 30.into();
    let host = account.simulator.url();
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let host = host.clone();
            async move {
                let (parts, body) = simulator.answer(request).await.into_parts();
                let body =
                    String::from_utf8(body.try_collect::<Vec<Bytes>>().await.unwrap().concat())
                        .unwrap();
                reply(
                    parts.status.as_u16(),
                    &[("content-type", "application/json")],
                    body.replace(&host, "https://evil.example"),
                )
            }
            .boxed()
        },
    ));
    // The client refuses to send anything elsewhere, so a followed link would have failed the run.
    account
        .complete(&["tickets", "groups", "organizations"])
        .await;
    for table in ["tickets", "groups", "organizations"] {
        assert_eq!(
            account
                .rows(table, "id", "id")
                .into_keys()
                .collect::<Vec<_>>(),
            account.simulator.truth().ids(table),
            "{table}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c23_c25_only_the_flag_tells_that_there_is_more_and_cursors_are_encoded_once() {
    let mut account = account(ZendeskWorld {
        groups: 250,
        ..ZendeskWorld::default()
    });
    let targets = noting(&mut account);
    account.complete(&["groups"]).await;
    let targets: Vec<String> = targets
        .lock()
        .unwrap()
        .iter()
        .filter(|target| target.contains("/groups"))
        .cloned()
        .collect();
    assert_eq!(
        targets.len(),
        3,
        "the last page has a link to a next one, too: {targets:#?}"
    );
    assert!(
        targets[1].contains("%3D") && !targets[1].contains("%25"),
        "{}",
        targets[1]
    );
    assert_eq!(account.rows("groups", "id", "id").len(), 250);
}

#[tokio::test(start_paused = true)]
async fn c27_a_numbered_list_that_is_cut_off_is_an_error() {
    let counts = [("sla_policies".to_owned(), 10_050)].into();
    let account = account(ZendeskWorld {
        counts,
        ..ZendeskWorld::default()
    });
    let summary = account.sync(&["sla_policies"]).await;
    assert!(summary.failure().is_some(), "{summary:#?}");
}

#[tokio::test(start_paused = true)]
async fn c38_a_stream_selected_later_catches_up_and_its_sibling_stays_whole() {
    let mut account = account(ZendeskWorld {
        tickets: 200,
        ..ZendeskWorld::default()
    });
    account.complete(&["tickets"]).await;
    let tickets = account.rows("tickets", "id", "generated_timestamp");
    // Whoever reads tickets notices nothing, even when the new reading ends half way.
    account.config["export_page_size"] = 60.into();
    let exports = Arc::new(AtomicUsize::new(0));
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let is_export = request.uri().path().contains("/incremental/");
            if is_export && exports.fetch_add(1, Relaxed) >= 2 {
                return async {
                    reply(
                        400,
                        &[("content-type", "application/json")],
                        "{\"error\":\"no\"}",
                    )
                }
                .boxed();
            }
            simulator.answer(request).boxed()
        },
    ));
    let interrupted = account.sync(&["tickets", "ticket_metrics"]).await;
    assert!(interrupted.failure().is_some(), "{interrupted:#?}");
    assert_eq!(
        account.rows("tickets", "id", "generated_timestamp"),
        tickets
    );
    noting(&mut account);
    account.complete(&["tickets", "ticket_metrics"]).await;
    assert_eq!(
        account
            .rows("ticket_metrics", "id", "id")
            .into_keys()
            .collect::<Vec<_>>(),
        account.simulator.truth().ids("ticket_metrics")
    );
    assert_eq!(
        account.rows("tickets", "id", "generated_timestamp"),
        tickets
    );
}

#[tokio::test(start_paused = true)]
async fn c54_tickets_of_ai_agents_are_asked_for_on_every_page() {
    let mut account = account(ZendeskWorld {
        tickets: 90,
        ..ZendeskWorld::default()
    });
    account.config["export_page_size"] = 30.into();
    let targets = noting(&mut account);
    account.complete(&["tickets", "ticket_events"]).await;
    let targets = targets.lock().unwrap().clone();
    let exports: Vec<&String> = targets
        .iter()
        .filter(|target| target.contains("/incremental/ticket"))
        .collect();
    assert!(
        exports.len() > 6
            && exports
                .iter()
                .all(|target| target.contains("support_type_scope=all")),
        "{exports:#?}"
    );
}

/// No page is held that is larger than configured: one that would be is asked for in parts.
#[tokio::test(start_paused = true)]
async fn c53_pages_larger_than_a_body_may_be_are_asked_for_in_parts() {
    let mut account = account(ZendeskWorld {
        tickets: 600,
        ..ZendeskWorld::default()
    });
    account.config["export_page_size"] = 400.into();
    account.max_body = 256 << 10;
    let targets = noting(&mut account);
    account.complete(&["tickets", "ticket_metrics"]).await;
    let truth = account.simulator.truth();
    assert_eq!(
        account
            .rows("tickets", "id", "id")
            .into_keys()
            .collect::<Vec<_>>(),
        truth.ids("tickets")
    );
    assert_eq!(
        account
            .rows("ticket_metrics", "id", "id")
            .into_keys()
            .collect::<Vec<_>>(),
        truth.ids("ticket_metrics")
    );
    let sizes = |size: &str| {
        targets
            .lock()
            .unwrap()
            .iter()
            .filter(|target| {
                target.contains(&format!("per_page={size}&"))
                    || target.ends_with(&format!("per_page={size}"))
            })
            .count()
    };
    assert!(
        sizes("400") == 1 && sizes("200") == 1,
        "each size that is too large is tried once: {:#?}",
        targets.lock().unwrap()
    );
}
