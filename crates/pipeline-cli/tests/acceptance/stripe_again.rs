//! Lists of Stripe's that are read again as a whole, because what was read of them is not what
//! there is.

use std::num::NonZeroU32;
use std::time::Duration;

use connector_stripe::{API_VERSION, StripeConfig};
use pipeline_core::ErrorKind;
use serde_json::json;

use crate::stripe::Town;
use crate::stripe_events::{metadata, town};

const DAY: Duration = Duration::from_hours(24);

impl Town {
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
    let town = town(&["customers", "coupons"]);
    let (kept, lost) = (town.customer(), town.customer());
    town.sync().await;
    town.revise(&kept, 2, false);
    town.remove("customers", &lost);
    town.later().await;
    assert_eq!(
        (
            town.revision(&kept).as_str(),
            town.requests("GET /v1/customers")
        ),
        ("1", 2),
        "nobody told"
    );

    // As an earlier release left it.
    let pinned = "UPDATE _pipeline_state SET state = replace(state, ?, '2025-09-30.clover')";
    assert_eq!(town.database().execute(pinned, [API_VERSION]).unwrap(), 3);
    let events = town.requests("GET /v1/events");
    town.later().await;
    assert_eq!(
        (town.revision(&kept).as_str(), town.row("customers", &lost)),
        ("2", None)
    );
    assert_eq!(
        town.requests("GET /v1/events") - events,
        1,
        "the feed goes on where it was"
    );
    let listed = town.requests("GET /v1/customers");
    town.revise(&kept, 3, false);
    town.later().await;
    assert_eq!(
        (
            town.revision(&kept).as_str(),
            town.requests("GET /v1/customers") - listed
        ),
        ("2", 1),
        "once is enough"
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_tells_of_is_right_again_after_the_days_that_the_configuration_says() {
    let town = town(&["customers", "coupons"]);
    let customer = town.customer();
    let mut config = StripeConfig::new("sk_test_sim");
    config.full_refresh_days = NonZeroU32::new(30);
    config.stream_refresh_days = [("customers".to_owned(), NonZeroU32::new(7).unwrap())].into();
    let mut listed = Vec::new();
    for day in 0..16 {
        town.revise(&customer, day, false);
        town.pass(DAY);
        assert_eq!(town.sync_with(config.clone()).await.failure(), None);
        listed.push(town.revision(&customer));
    }
    assert_eq!(listed.join(" "), "0 0 0 0 0 0 0 7 7 7 7 7 7 7 14 14");
}

#[tokio::test(start_paused = true)]
async fn changes_while_a_permission_was_lost_are_found_when_it_is_back() {
    let town = town(&["customers", "coupons"]);
    let (kept, lost) = (town.customer(), town.customer());
    town.sync().await;
    town.simulator.stripe().forbid(&["customers"]);
    town.revise(&kept, 2, true);
    town.remove("customers", &lost);
    town.tell(
        "customer.updated",
        &json!({ "id": lost, "object": "customer" }),
    );
    for _ in 0..2 {
        town.pass(DAY);
        assert_eq!(
            town.sync_with(StripeConfig::new("sk_test_sim"))
                .await
                .failure(),
            Some(ErrorKind::PermissionDenied)
        );
        assert_eq!(town.revision(&kept), "1", "what there was stays");
    }
    assert!(
        town.notices()
            .contains("changes of `customers` are passed over")
    );
    town.simulator.stripe().forbid(&[]);
    town.later().await;
    assert_eq!(
        (town.revision(&kept).as_str(), town.row("customers", &lost)),
        ("2", None)
    );
    assert!(
        town.notices()
            .contains("the whole list of `customers` was read again")
    );
    town.revise(&kept, 3, false);
    town.later().await;
    assert_eq!(
        (town.revision(&kept).as_str(), town.notices().as_str()),
        ("2", ""),
        "once is enough"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_while_a_stream_was_not_selected_are_found_when_it_is_again() {
    let mut town = town(&["customers", "coupons"]);
    let customer = town.customer();
    town.sync().await;
    town = town.only(&["coupons"]);
    town.revise(&customer, 2, true);
    town.later().await;
    town.pass(DAY);
    town.sync().await;
    town = town.only(&["customers", "coupons"]);
    town.later().await;
    assert_eq!(town.revision(&customer), "2");
}

#[tokio::test(start_paused = true)]
async fn events_that_age_out_while_they_are_read_are_no_silent_gap() {
    let mut town = town(&["customers", "coupons"]);
    let (told, aged) = (town.customer(), town.customer());
    town.sync().await;
    town.revise(&aged, 2, true);
    (0..150).for_each(|_| town.tell("customer.updated", &json!({ "object": "customer" })));
    town.pass(28 * DAY + DAY / 2);
    town.revise(&told, 2, true);
    (0..60).for_each(|_| town.tell("customer.updated", &json!({ "object": "customer" })));
    town.pass(Duration::from_mins(3));
    // The page behind an event that is too old by now is refused.
    town.passes = Some(("starting_after=evt", 2 * DAY));
    town.sync().await;
    assert_eq!(
        (
            town.requests("GET /v1/events"),
            town.revision(&told).as_str()
        ),
        (2, "2"),
        "what was read counts"
    );
    assert!(
        town.notices()
            .contains("events aged out before they could be read")
    );
    town.passes = None;
    town.later().await;
    assert_eq!(town.revision(&aged), "2");
    town.notices();
    town.later().await;
    assert_eq!(town.notices(), "");
}
