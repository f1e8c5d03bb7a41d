//! Lists of Stripe's that are read again as a whole, because what was read of them is not what
//! there is.

use std::num::NonZeroU32;
use std::time::Duration;

use connector_stripe::{API_VERSION, StripeConfig};
use pipeline_core::ErrorKind;
use serde_json::json;

use super::account::SimulatedAccount;
use super::events::{empty_account, metadata};

const DAY: Duration = Duration::from_hours(24);

impl SimulatedAccount {
    /// Changes a customer, and tells of it unless that is to be a secret.
    fn revise(&self, customer: &str, revision: u32, told: bool) {
        self.change(
            "customers",
            customer,
            json!({ "metadata": { "revision": revision.to_string() } }),
        );
        if told {
            self.tell(
                "customer.updated",
                &json!({ "id": customer, "object": "customer" }),
            );
        }
    }

    fn revision(&self, customer: &str) -> String {
        metadata(self.row("customers", customer))["revision"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn customer(&self) -> String {
        let id = self.old("customers", None, json!({}));
        self.revise(&id, 1, false);
        id
    }
}

#[tokio::test(start_paused = true)]
async fn c47_a_new_pin_reads_the_lists_again_and_keeps_the_state() {
    let simulated = empty_account(&["customers", "coupons"]);
    let (kept, lost) = (simulated.customer(), simulated.customer());
    simulated.sync().await;
    simulated.revise(&kept, 2, false);
    simulated.remove("customers", &lost);
    simulated.later().await;
    assert_eq!(
        (
            simulated.revision(&kept).as_str(),
            simulated.requests("GET /v1/customers")
        ),
        ("1", 2),
        "nobody told"
    );

    // As an earlier release left it.
    let pinned = "UPDATE _pipeline_state SET state = replace(state, ?, '2025-09-30.clover')";
    assert_eq!(
        simulated.database().execute(pinned, [API_VERSION]).unwrap(),
        3
    );
    let events = simulated.requests("GET /v1/events");
    simulated.later().await;
    assert_eq!(
        (
            simulated.revision(&kept).as_str(),
            simulated.row("customers", &lost)
        ),
        ("2", None)
    );
    assert_eq!(
        simulated.requests("GET /v1/events") - events,
        1,
        "the feed goes on where it was"
    );
    let listed = simulated.requests("GET /v1/customers");
    simulated.revise(&kept, 3, false);
    simulated.later().await;
    assert_eq!(
        (
            simulated.revision(&kept).as_str(),
            simulated.requests("GET /v1/customers") - listed
        ),
        ("2", 1),
        "once is enough"
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_tells_of_is_right_again_after_the_days_that_the_configuration_says() {
    let simulated = empty_account(&["customers", "coupons"]);
    let customer = simulated.customer();
    let mut config = StripeConfig::new("sk_test_sim");
    config.full_refresh_days = NonZeroU32::new(30);
    config.stream_refresh_days = [("customers".to_owned(), NonZeroU32::new(7).unwrap())].into();
    let mut listed = Vec::new();
    for day in 0..16 {
        simulated.revise(&customer, day, false);
        simulated.pass(DAY);
        assert_eq!(simulated.sync_with(config.clone()).await.failure(), None);
        listed.push(simulated.revision(&customer));
    }
    assert_eq!(listed.join(" "), "0 0 0 0 0 0 0 7 7 7 7 7 7 7 14 14");
}

#[tokio::test(start_paused = true)]
async fn changes_while_a_permission_was_lost_are_found_when_it_is_back() {
    let simulated = empty_account(&["customers", "coupons"]);
    let (kept, lost) = (simulated.customer(), simulated.customer());
    simulated.sync().await;
    simulated.simulator.stripe().forbid(&["customers"]);
    simulated.revise(&kept, 2, true);
    simulated.remove("customers", &lost);
    simulated.tell(
        "customer.updated",
        &json!({ "id": lost, "object": "customer" }),
    );
    for _ in 0..2 {
        simulated.pass(DAY);
        assert_eq!(
            simulated
                .sync_with(StripeConfig::new("sk_test_sim"))
                .await
                .failure(),
            Some(ErrorKind::PermissionDenied)
        );
        assert_eq!(simulated.revision(&kept), "1", "what there was stays");
    }
    assert!(
        simulated
            .notices()
            .contains("changes of `customers` are passed over")
    );
    simulated.simulator.stripe().forbid(&[]);
    simulated.later().await;
    assert_eq!(
        (
            simulated.revision(&kept).as_str(),
            simulated.row("customers", &lost)
        ),
        ("2", None)
    );
    assert!(
        simulated
            .notices()
            .contains("the whole list of `customers` was read again")
    );
    simulated.revise(&kept, 3, false);
    simulated.later().await;
    assert_eq!(
        (
            simulated.revision(&kept).as_str(),
            simulated.notices().as_str()
        ),
        ("2", ""),
        "once is enough"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_while_a_stream_was_not_selected_are_found_when_it_is_again() {
    let mut simulated = empty_account(&["customers", "coupons"]);
    let customer = simulated.customer();
    simulated.sync().await;
    simulated = simulated.only(&["coupons"]);
    simulated.revise(&customer, 2, true);
    simulated.later().await;
    simulated.pass(DAY);
    simulated.sync().await;
    simulated = simulated.only(&["customers", "coupons"]);
    simulated.later().await;
    assert_eq!(simulated.revision(&customer), "2");
}

#[tokio::test(start_paused = true)]
async fn events_that_age_out_while_they_are_read_are_no_silent_gap() {
    let mut simulated = empty_account(&["customers", "coupons"]);
    let (told, aged) = (simulated.customer(), simulated.customer());
    simulated.sync().await;
    simulated.revise(&aged, 2, true);
    (0..150).for_each(|_| simulated.tell("customer.updated", &json!({ "object": "customer" })));
    simulated.pass(28 * DAY + DAY / 2);
    simulated.revise(&told, 2, true);
    (0..60).for_each(|_| simulated.tell("customer.updated", &json!({ "object": "customer" })));
    simulated.pass(Duration::from_mins(3));
    // The page behind an event that is too old by now is refused.
    simulated.passes = Some(("starting_after=evt", 2 * DAY));
    simulated.sync().await;
    assert_eq!(
        (
            simulated.requests("GET /v1/events"),
            simulated.revision(&told).as_str()
        ),
        (2, "2"),
        "what was read counts"
    );
    assert!(
        simulated
            .notices()
            .contains("events aged out before they could be read")
    );
    simulated.passes = None;
    simulated.later().await;
    assert_eq!(simulated.revision(&aged), "2");
    simulated.notices();
    simulated.later().await;
    assert_eq!(simulated.notices(), "");
}
