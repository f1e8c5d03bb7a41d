use std::time::Duration;

use pipeline_simulator::{Faults, Rule, Simulation, Spoil, Throttle, Vendor};
use tokio::time::Instant;

use crate::Api;

const EXPORT: &str = "/api/2.0/export?project_id=2000001&from_date=2026-10-31&to_date=2026-10-31";

async fn api(faults: Faults) -> Api {
    Api::start(Simulation {
        faults,
        ..Simulation::default()
    })
    .await
}

async fn statuses(api: &Api, count: usize) -> Vec<u16> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(api.stripe("/v1/charges?limit=1").await.status.as_u16());
    }
    all
}

#[tokio::test]
async fn errors_and_bursts_come_on_schedule_and_can_be_lifted() {
    let api = api(Faults {
        error_every: 2,
        ..Faults::default()
    })
    .await;
    assert_eq!(statuses(&api, 4).await, [200, 500, 200, 503]);
    api.simulator.set_faults(Faults {
        throttle: Throttle {
            every: 4,
            length: 2,
            retry_after: 7,
        },
        ..Faults::default()
    });
    assert_eq!(
        statuses(&api, 8).await,
        [200, 200, 429, 429, 200, 200, 429, 429]
    );
    api.simulator.set_faults(Faults {
        only: Some(Vendor::Zendesk),
        unauthorized: true,
        ..Faults::default()
    });
    assert_eq!(statuses(&api, 2).await, [200, 200]);
    assert_eq!(api.zendesk("/api/v2/users/me").await.status, 401);
    api.simulator.set_faults(Faults {
        unauthorized: true,
        ..Faults::default()
    });
    assert_eq!(statuses(&api, 1).await, [401]);
}

#[tokio::test]
async fn bodies_are_cut_short() {
    let api = api(Faults {
        cut_every: 2,
        ..Faults::default()
    })
    .await;
    assert_eq!(statuses(&api, 1).await, [200]);
    let response = api
        .get("/v1/charges?limit=50")
        .bearer_auth("sk_test_sim")
        .send()
        .await
        .unwrap();
    assert!(response.content_length().unwrap() > 100_000);
    assert!(response.bytes().await.is_err());
    assert_eq!(api.mixpanel(EXPORT).await.status, 200);
    let response = api
        .get(EXPORT)
        .basic_auth("sim.service-account", Some("sim_secret"))
        .send()
        .await
        .unwrap();
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn portals_slow_answers_and_exports_that_give_up() {
    let api = api(Faults {
        captive_portal: true,
        ..Faults::default()
    })
    .await;
    let portal = api.stripe("/v1/charges").await;
    assert_eq!(
        (portal.status.as_u16(), portal.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    api.simulator.set_faults(Faults {
        slow_every: 1,
        slow: Duration::from_millis(120),
        ..Faults::default()
    });
    let before = Instant::now();
    api.stripe("/v1/charges?limit=1").await;
    assert!(before.elapsed() >= Duration::from_millis(120));
    api.simulator.set_faults(Faults {
        export_terminated_every: 2,
        ..Faults::default()
    });
    assert_eq!(api.mixpanel(EXPORT).await.text().lines().count(), 500);
    let broken = api.mixpanel(EXPORT).await;
    assert_eq!(broken.status, 200);
    assert_eq!(
        broken.text().lines().last(),
        Some("export terminated early")
    );
    assert_eq!(broken.text().lines().count(), 251);
}

#[tokio::test]
async fn the_same_settings_serve_the_same_bytes() {
    let (one, two) = (api(Faults::default()).await, api(Faults::default()).await);
    assert_eq!(
        one.stripe("/v1/invoices?limit=50").await.body,
        two.stripe("/v1/invoices?limit=50").await.body
    );
    let other = Api::start(Simulation {
        seed: 2,
        ..Simulation::default()
    })
    .await;
    assert_ne!(
        one.stripe("/v1/invoices").await.body,
        other.stripe("/v1/invoices").await.body
    );
    let url = one.simulator.url();
    one.simulator.stop().await;
    assert!(one.client.get(url).send().await.is_err());
}

#[tokio::test]
async fn rules_spoil_what_they_name_and_nothing_else() {
    let cases = [
        (Spoil::error(400, "odd"), 400, "\"message\": \"odd\""),
        (Spoil::error(200, "odd"), 200, "\"error\": {"),
        (Spoil::Redirect, 302, "Sign in"),
        (Spoil::Page(404), 404, "<!DOCTYPE html>"),
        (Spoil::Line("oops".to_owned()), 200, "\noops\n"),
        (Spoil::Short(1), 200, "\"has_more\":false"),
    ];
    let api = api(Faults::default()).await;
    for (spoil, status, text) in cases {
        api.simulator
            .set_rules(vec![Rule::poison("/v1/refunds", spoil.clone()).times(1)]);
        assert_eq!(api.stripe("/v1/charges?limit=2").await.status, 200);
        let spoiled = api.stripe("/v1/refunds?limit=2").await;
        assert_eq!(
            (spoiled.status.as_u16(), spoiled.text().contains(text)),
            (status, true),
            "{spoil:?}: {}",
            spoiled.text()
        );
        assert!(
            api.stripe("/v1/refunds?limit=2").await.json()["has_more"] == true,
            "{spoil:?} lasts"
        );
        assert_eq!(api.simulator.rule_hits(), [1]);
    }
    for spoil in [Spoil::Cut, Spoil::Silence] {
        api.simulator
            .set_rules(vec![Rule::poison("/v1/refunds", spoil.clone())]);
        let response = api
            .get("/v1/refunds?limit=2")
            .bearer_auth("sk_test_sim")
            .send()
            .await;
        assert!(
            response.is_err() || response.unwrap().bytes().await.is_err(),
            "{spoil:?}"
        );
    }
    api.simulator
        .set_rules(vec![Rule::refuse("/v1/**", 400, "odd")]);
    assert_eq!(
        crate::send(api.get("/v1/charges").bearer_auth("sk_test_other"))
            .await
            .status,
        401,
        "the key comes first"
    );
}

#[tokio::test]
async fn rules_know_days_bodies_and_the_time() {
    let api = api(Faults::default()).await;
    let day = "2026-10-31".parse().unwrap();
    api.simulator.set_rules(vec![
        Rule::poison(
            "/api/2.0/export",
            Spoil::Line("{\"event\":\"x\"}".to_owned()),
        )
        .day(day),
        Rule::refuse("/api/query/engage", 400, "odd").with("\"id\":2"),
    ]);
    let export = api.mixpanel(EXPORT).await.text();
    assert_eq!(
        (
            export.lines().count(),
            export
                .lines()
                .filter(|line| *line == "{\"event\":\"x\"}")
                .count()
        ),
        (501, 1)
    );
    assert_eq!(
        api.mixpanel(&EXPORT.replace("10-31", "10-30"))
            .await
            .text()
            .lines()
            .count(),
        500
    );
    let members = |cohort: u64| {
        let body = format!("filter_by_cohort=%7B%22id%22%3A{cohort}%7D");
        api.post("/api/query/engage?project_id=2000001")
            .basic_auth("sim.service-account", Some("sim_secret"))
            .body(body)
    };
    assert_eq!(crate::send(members(1)).await.status, 200);
    assert_eq!(crate::send(members(2)).await.status, 400);
    let now = api.simulator.now();
    api.simulator
        .set_rules(vec![Rule::outage(now + 600..now + 1200)]);
    assert_eq!(api.stripe("/v1/charges?limit=1").await.status, 200);
    api.simulator.advance(Duration::from_mins(11));
    assert_eq!(api.stripe("/v1/charges?limit=1").await.status, 503);
    api.simulator.advance(Duration::from_mins(10));
    assert_eq!(api.stripe("/v1/charges?limit=1").await.status, 200);
}

#[tokio::test]
async fn an_ordinary_account_is_refused_what_it_has_not_paid_for() {
    let rules = [Vendor::Stripe, Vendor::Zendesk, Vendor::Mixpanel]
        .into_iter()
        .flat_map(Faults::ordinary_account)
        .collect();
    let api = Api::start(Simulation {
        rules,
        ..Simulation::default()
    })
    .await;
    let credit = api.stripe("/v1/billing/credit_balance_transactions").await;
    assert_eq!(
        (credit.status.as_u16(), &credit.json()["error"]["code"]),
        (400, &"parameter_missing".into())
    );
    let of_customer = api
        .stripe("/v1/billing/credit_balance_transactions?customer=cus_1")
        .await;
    assert!(
        of_customer.json()["error"]["code"] != "parameter_missing",
        "{}",
        of_customer.text()
    );
    assert_eq!(api.stripe("/v1/charges?limit=1").await.status, 200);
    assert_eq!(
        api.zendesk("/api/v2/queues").await.json()["description"],
        "omnichannel routing is not enabled"
    );
    assert_eq!(api.zendesk("/api/v2/ticket_fields").await.status, 200);
    assert_eq!(
        api.mixpanel("/api/query/funnels/list?project_id=2000001")
            .await
            .status,
        402
    );
    assert_eq!(api.mixpanel(EXPORT).await.status, 200);
}
