use std::time::Duration;

use pipeline_simulator::{Faults, Simulation, Throttle, Vendor};
use tokio::time::Instant;

use crate::Api;

const EXPORT: &str = "/api/2.0/export?project_id=2000001&from_date=2026-10-31&to_date=2026-10-31";

async fn api(faults: Faults) -> Api {
    Api::start(Simulation { faults, ..Simulation::default() }).await
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
    let api = api(Faults { error_every: 2, ..Faults::default() }).await;
    assert_eq!(statuses(&api, 4).await, [200, 500, 200, 503]);
    api.simulator.set_faults(Faults { throttle: Throttle { every: 4, length: 2, retry_after: 7 }, ..Faults::default() });
    assert_eq!(statuses(&api, 8).await, [200, 200, 429, 429, 200, 200, 429, 429]);
    api.simulator.set_faults(Faults { only: Some(Vendor::Zendesk), unauthorized: true, ..Faults::default() });
    assert_eq!(statuses(&api, 2).await, [200, 200]);
    assert_eq!(api.zendesk("/api/v2/users/me").await.status, 401);
    api.simulator.set_faults(Faults { unauthorized: true, ..Faults::default() });
    assert_eq!(statuses(&api, 1).await, [401]);
}

#[tokio::test]
async fn bodies_are_cut_short() {
    let api = api(Faults { cut_every: 2, ..Faults::default() }).await;
    assert_eq!(statuses(&api, 1).await, [200]);
    let response = api.get("/v1/charges?limit=50").bearer_auth("sk_test_sim").send().await.unwrap();
    assert!(response.content_length().unwrap() > 100_000);
    assert!(response.bytes().await.is_err());
    assert_eq!(api.mixpanel(EXPORT).await.status, 200);
    let response = api.get(EXPORT).basic_auth("sim.service-account", Some("sim_secret")).send().await.unwrap();
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn portals_slow_answers_and_exports_that_give_up() {
    let api = api(Faults { captive_portal: true, ..Faults::default() }).await;
    let portal = api.stripe("/v1/charges").await;
    assert_eq!((portal.status.as_u16(), portal.header("content-type")), (200, Some("text/html; charset=utf-8")));
    api.simulator.set_faults(Faults { slow_every: 1, slow: Duration::from_millis(120), ..Faults::default() });
    let before = Instant::now();
    api.stripe("/v1/charges?limit=1").await;
    assert!(before.elapsed() >= Duration::from_millis(120));
    api.simulator.set_faults(Faults { export_terminated_every: 2, ..Faults::default() });
    assert_eq!(api.mixpanel(EXPORT).await.text().lines().count(), 500);
    let broken = api.mixpanel(EXPORT).await;
    assert_eq!(broken.status, 200);
    assert_eq!(broken.text().lines().last(), Some("export terminated early"));
    assert_eq!(broken.text().lines().count(), 251);
}

#[tokio::test]
async fn the_same_settings_serve_the_same_bytes() {
    let (one, two) = (api(Faults::default()).await, api(Faults::default()).await);
    assert_eq!(one.stripe("/v1/invoices?limit=50").await.body, two.stripe("/v1/invoices?limit=50").await.body);
    let other = Api::start(Simulation { seed: 2, ..Simulation::default() }).await;
    assert_ne!(one.stripe("/v1/invoices").await.body, other.stripe("/v1/invoices").await.body);
    let url = one.simulator.url();
    one.simulator.stop().await;
    assert!(one.client.get(url).send().await.is_err());
}
