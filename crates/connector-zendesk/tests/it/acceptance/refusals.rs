//! What Zendesk refuses is unavailable, and no defect of this program; what it cuts short deletes
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_core::ErrorKind;
use pipeline_engine::Outcome;
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;
use serde_json::json;

use super::account::Account;

fn account() -> Account {
    let zendesk = ZendeskWorld {
        tickets: 20,
        users: 10,
        organizations: 5,
        others: 4,
        ..ZendeskWorld::default()
    };
    Account::new(Simulation {
        zendesk,
        latency: Duration::from_millis(10),
        ..Simulation::default()
    })
}

/// Answers the requests to a path instead of the simulator.
fn answering(
    account: &mut Account,
    path: &'static str,
    answer: impl Fn(&str) -> (u16, &'static str, String) + Send + Sync + 'static,
) {
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            if !request.uri().path().starts_with(path) {
                return simulator.answer(request).boxed();
            }
            let (status, kind, body) = answer(request.uri().query().unwrap_or_default());
            async move {
                reply(
                    status,
                    &[
                        ("content-type", kind),
                        ("location", "https://sim.zendesk.com/auth/v2/login/signin"),
                    ],
                    body,
                )
            }
            .boxed()
        },
    ));
}

const JSON: &str = "application/json";

#[tokio::test(start_paused = true)]
async fn a_refused_feature_is_unavailable_with_the_vendors_words() {
    for status in [400, 402, 403, 422, 423, 451] {
        let mut account = account();
        let words =
            r#"{"error":"UnprocessableEntity","description":"omnichannel routing is not enabled"}"#;
        answering(&mut account, "/api/v2/queues", move |_| {
            (status, JSON, words.to_owned())
        });
        let summary = account.sync(&[]).await;
        let queues = summary
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id.endpoint == "queues")
            .unwrap();
        let Outcome::Unavailable { reason, .. } = &queues.outcome else {
            panic!("{status}: {queues:#?}")
        };
        assert!(
            reason.contains("omnichannel routing is not enabled"),
            "{status}: {reason}"
        );
        let summary = account.sync(&["queues"]).await;
        let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
            panic!("{status}: {summary:#?}")
        };
        assert!(
            error.kind != ErrorKind::Unexpected && error.message.contains("omnichannel routing"),
            "{status}: {error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_the_vendor_does_not_know_is_a_defect() {
    for words in [
        r#"{"error":"InvalidPaginationParameter"}"#,
        r#"{"error":"InvalidValue","description":"per_page is not supported"}"#,
    ] {
        let mut account = account();
        answering(&mut account, "/api/v2/slas/policies", move |_| {
            (400, JSON, words.to_owned())
        });
        let summary = account.sync(&["sla_policies"]).await;
        let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
            panic!("{summary:#?}")
        };
        assert_eq!(error.kind, ErrorKind::Unexpected, "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_help_center_behind_a_login_page_is_unavailable_and_support_is_read() {
    for (status, kind, body) in [
        (302, "text/html", "<html>"),
        (200, "text/html", "<html>Sign in"),
        (404, "text/html", "<html>not here"),
    ] {
        let mut account = account();
        answering(&mut account, "/api/v2/help_center/", move |_| {
            (status, kind, body.to_owned())
        });
        let summary = account.sync(&[]).await;
        for endpoint in &summary.endpoints {
            let is_refused = matches!(endpoint.outcome, Outcome::Unavailable { .. });
            assert!(
                is_refused || matches!(endpoint.outcome, Outcome::Done),
                "{status}: {endpoint:#?}"
            );
            assert!(
                !is_refused || endpoint.id.endpoint != "tickets",
                "{status}: {endpoint:#?}"
            );
        }
        assert_eq!(
            account.rows("tickets", "id", "id").len() as u64,
            account.simulator.truth().count("tickets")
        );
    }
}

/// A list that ends before as many records came as it counts is read anew once, and then fails:
/// what is there stays.
#[tokio::test(start_paused = true)]
async fn a_numbered_list_that_ends_short_of_its_count_deletes_nothing() {
    let mut account = account();
    let sync = Arc::new(AtomicUsize::new(1));
    let (number, asked) = (Arc::clone(&sync), Arc::new(AtomicUsize::new(0)));
    let requests = Arc::clone(&asked);
    let policy = |id: u64| json!({ "id": id, "title": "a", "created_at": "2026-01-01T00:00:00Z" });
    answering(&mut account, "/api/v2/slas/policies", move |query| {
        let asked = requests.fetch_add(1, Ordering::Relaxed);
        let is_second = query.contains("page=2");
        let (policies, next): (Vec<_>, _) = match number.load(Ordering::Relaxed) {
            // Two whole pages, then a list that ends with the first of them for ever, and one that
            // does so once.
            1 if is_second => (vec![policy(2)], None),
            1 => (
                vec![policy(1)],
                Some("https://sim.zendesk.com/api/v2/slas/policies?page=2"),
            ),
            2 => (vec![policy(1)], None),
            4 if asked == 0 => (vec![policy(1)], None),
            _ if is_second => (vec![policy(3)], None),
            _ => (
                vec![policy(1)],
                Some("https://sim.zendesk.com/api/v2/slas/policies?page=2"),
            ),
        };
        (200, JSON, json!({ "sla_policies": policies, "count": 2, "next_page": next, "previous_page": null }).to_string())
    });
    account.complete(&["sla_policies"]).await;
    let ids = |account: &Account| {
        account
            .rows("sla_policies", "id", "id")
            .into_keys()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(&account), asked.swap(0, Ordering::Relaxed)),
        (vec!["1".to_owned(), "2".to_owned()], 2)
    );

    sync.store(2, Ordering::Relaxed);
    let summary = account.sync(&["sla_policies"]).await;
    let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
        panic!("{summary:#?}")
    };
    assert!(error.message.contains("records: 1, total: 2"), "{error:?}");
    assert_eq!(
        (ids(&account), asked.swap(0, Ordering::Relaxed)),
        (vec!["1".to_owned(), "2".to_owned()], 2)
    );

    for (number, requests) in [(3, 2), (4, 3)] {
        sync.store(number, Ordering::Relaxed);
        account.complete(&["sla_policies"]).await;
        assert_eq!(
            (ids(&account), asked.swap(0, Ordering::Relaxed)),
            (vec!["1".to_owned(), "3".to_owned()], requests)
        );
    }
}

/// The account has more Help Centers than its host shows, and their hosts do not follow from a
/// gateway's.
#[tokio::test(start_paused = true)]
async fn a_help_center_that_is_not_read_is_named() {
    let mut account = account();
    answering(&mut account, "/api/v2/brands", |_| {
        let brand = |id: u64, name: &str, has: bool| json!({ "id": id, "name": name, "subdomain": name, "has_help_center": has, "help_center_state": "enabled", "active": true });
        let brands = [
            brand(1, "sim", true),
            brand(2, "sim-pro", true),
            brand(3, "sim-none", false),
        ];
        (
            200,
            JSON,
            json!({ "brands": brands, "meta": { "has_more": false }, "links": {} }).to_string(),
        )
    });
    account.complete(&["sections", "user_segments"]).await;
    let notices = account.notices().join("\n");
    assert!(
        notices.contains("sim-pro")
            && notices.contains("brand_urls")
            && !notices.contains("sim-none"),
        "{notices}"
    );
    assert!(
        account
            .rows("sections", "id", "brand_id")
            .values()
            .all(|brand| brand == "1")
    );
    account.complete(&["tickets"]).await;
    assert!(
        !account.notices().join("\n").contains("Help Center"),
        "who reads no Help Center is told nothing of them"
    );
}

/// One ticket whose audits Zendesk refuses holds up no other. It is named, tried again at every
/// sync, and filled once it can be read.
#[tokio::test(start_paused = true)]
async fn one_poisoned_ticket_is_passed_over_and_filled_later() {
    for (status, body) in [
        (422, r#"{"error":"this cannot be computed"}"#),
        (403, ""),
        (500, "down"),
    ] {
        let mut account = account();
        let poisoned = account
            .simulator
            .truth()
            .members("ticket_audits", "ticket_id")[&account.audits_of_live_tickets()[0]]
            .clone();
        let path: &'static str = format!("/api/v2/tickets/{poisoned}/audits").leak();
        let heals = Arc::new(AtomicUsize::new(0));
        let healthy = Arc::clone(&heals);
        account.behind(Arc::new(
            move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
                if request.uri().path() != path || healthy.load(Ordering::Relaxed) > 0 {
                    return simulator.answer(request).boxed();
                }
                async move { reply(status, &[("content-type", JSON)], body) }.boxed()
            },
        ));
        let of = |account: &Account| account.rows("ticket_audits", "id", "ticket_id");
        for sync in 1..=2 {
            let summary = account.sync(&["ticket_audits"]).await;
            let audits = &summary.endpoints[0];
            assert!(
                matches!(audits.outcome, Outcome::Incomplete),
                "{status}: {audits:#?}"
            );
            assert_eq!(
                (audits.gaps.len(), audits.gaps[0].attempts),
                (1, sync),
                "{status}"
            );
            assert!(
                audits.gaps[0].name.contains(poisoned.as_str()),
                "{status}: {audits:#?}"
            );
            let found = of(&account);
            assert!(found.values().all(|ticket| *ticket != poisoned));
            let others = account.audits_of_live_tickets().into_iter().filter(|id| {
                account
                    .simulator
                    .truth()
                    .members("ticket_audits", "ticket_id")[id]
                    != poisoned
            });
            assert!(
                found.into_keys().eq(others),
                "{status}: all others are there"
            );
        }
        heals.store(1, Ordering::Relaxed);
        let summary = account.complete(&["ticket_audits"]).await;
        assert!(summary.endpoints[0].gaps.is_empty());
        assert!(
            of(&account)
                .into_keys()
                .eq(account.audits_of_live_tickets()),
            "{status}: it is filled"
        );
    }
}
