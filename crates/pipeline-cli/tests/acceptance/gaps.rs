//! What a vendor refuses or never delivers costs nothing but itself: everything else is there after
//! one sync, one more heals it all, no kill loses anything, and an outage is not taken for it.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use pipeline_engine::Outcome;
use pipeline_simulator::{
    Faults, MixpanelWorld, Rule, Simulation, Spoil, StripeBook, StripeWorld, Vendor, ZendeskWorld,
};
use pipeline_testkit::acceptance::{UNTIL, setting};
use serde_json::json;

use self::trial::{SimulatedVendor, Trial};

mod trial;

const DAY: i64 = 86_400;

fn stripe(streams: &[&'static str]) -> SimulatedVendor {
    let stripe = StripeWorld {
        book: Some(StripeBook {
            objects: 0,
            ..StripeBook::default()
        }),
        ..StripeWorld::default()
    };
    SimulatedVendor::new(
        Simulation {
            stripe,
            days: 200,
            ..Simulation::default()
        },
        "stripe",
        json!({ "api_key": "sk_test_sim" }),
        streams,
    )
}

/// So many of them, spread evenly.
fn some(count: u64, all: u64) -> Vec<u64> {
    (0..count)
        .map(|number| number * all / count + all / (2 * count))
        .collect()
}

/// `PIPELINE_GAP_CUSTOMERS=1000` is the large account.
#[tokio::test(start_paused = true)]
async fn customers_that_cannot_be_read_cost_nothing_but_themselves() {
    let customers = setting("PIPELINE_GAP_CUSTOMERS", 100);
    let shop = async || {
        let place = stripe(&["customers", "customer_tax_ids", "payment_methods"]);
        let stripe = place.simulator.stripe();
        let start = stripe.now() - 100 * DAY;
        for number in 0..customers {
            let customer = format!("cus_{number:06}");
            let created = start + i64::try_from(number).unwrap();
            stripe
                .make(
                    "",
                    "customers",
                    None,
                    json!({ "id": customer, "created": created }),
                )
                .unwrap();
            for (list, prefix) in [("customer_tax_ids", "txi"), ("payment_methods", "pm")] {
                stripe
                    .make(
                        "",
                        list,
                        Some(&customer),
                        json!({ "id": format!("{prefix}_{number:06}"), "customer": customer }),
                    )
                    .unwrap();
            }
        }
        place
    };
    let poisoned: Vec<String> = some(5, customers)
        .into_iter()
        .map(|number| format!("{number:06}"))
        .collect();
    let ids = |prefixes: &[&str], numbers: &[String]| -> BTreeSet<String> {
        prefixes
            .iter()
            .flat_map(|prefix| {
                numbers
                    .iter()
                    .map(move |number| format!("{prefix}_{number}"))
            })
            .collect()
    };
    let all: Vec<String> = (0..customers)
        .map(|number| format!("{number:06}"))
        .collect();
    let refuse = |number: &String| {
        let list = |list: &str| format!("/v1/customers/cus_{number}/{list}");
        [
            Rule::refuse(list("tax_ids"), 400, "There was a problem."),
            Rule::poison(list("payment_methods"), Spoil::error(500, "An error.")),
        ]
    };
    let right = |place: &SimulatedVendor| -> BTreeSet<String> {
        let columns = ["customers", "customer_tax_ids", "payment_methods"]
            .map(|stream| place.column(stream, "id"));
        columns.into_iter().flatten().collect()
    };
    let trial = Trial {
        what: "customers",
        make: shop,
        poison: poisoned.iter().flat_map(refuse).collect(),
        names: ids(&["cus"], &poisoned).into_iter().collect(),
        right,
        truth: ids(&["cus", "txi", "pm"], &all),
        missing: ids(&["txi", "pm"], &poisoned),
        least: [2 * customers + customers.div_ceil(100), 10],
    };
    trial.run().await;
}

/// `PIPELINE_GAP_CHANGES=10000` is the large account.
#[tokio::test(start_paused = true)]
async fn changes_that_cannot_be_fetched_cost_nothing_but_themselves() {
    let changes = setting("PIPELINE_GAP_CHANGES", 300);
    let account = async || {
        let place = stripe(&["charges"]);
        let start = place.simulator.stripe().now() - 100 * DAY;
        let all: Vec<String> = (0..changes)
            .map(|number| format!("ch_{number:06}"))
            .collect();
        for (charge, created) in all.iter().zip(start..) {
            place
                .simulator
                .stripe()
                .make(
                    "",
                    "charges",
                    None,
                    json!({ "id": charge, "created": created }),
                )
                .unwrap();
        }
        assert!(place.sync().await.failure().is_none());
        let stripe = place.simulator.stripe();
        for charge in &all {
            stripe.change(
                "",
                "charges",
                charge,
                Some(json!({ "metadata": { "revision": "2" } })),
            );
            stripe.tell(
                "",
                "charge.updated",
                json!({ "id": charge, "object": "charge" }),
                0,
            );
        }
        place.simulator.advance(Duration::from_mins(5));
        place
    };
    let poisoned: BTreeSet<String> = some(3, changes)
        .into_iter()
        .map(|number| format!("ch_{number:06}"))
        .collect();
    let right = |place: &SimulatedVendor| -> BTreeSet<String> {
        let rows = place.store.rows("s", "charges").into_iter();
        rows.filter(|row| {
            row.get("metadata")
                .is_some_and(|text| text.contains("revision"))
        })
        .map(|row| row["id"].clone())
        .collect()
    };
    let trial = Trial {
        what: "changes",
        make: account,
        poison: poisoned
            .iter()
            .map(|charge| {
                Rule::refuse(format!("/v1/charges/{charge}"), 400, "There was a problem.")
            })
            .collect(),
        names: poisoned.iter().cloned().collect(),
        right,
        truth: (0..changes)
            .map(|number| format!("ch_{number:06}"))
            .collect(),
        missing: poisoned,
        least: [changes + changes.div_ceil(100), 3],
    };
    trial.run().await;
}

/// `PIPELINE_GAP_EVENTS=2000` (a day) is the large project.
#[tokio::test(start_paused = true)]
async fn days_that_cannot_be_exported_cost_nothing_but_themselves() {
    const DAYS: u32 = 60;
    let events = setting("PIPELINE_GAP_EVENTS", 20);
    let midnight = UNTIL.div_euclid(DAY) * DAY;
    let date = |ago: i64| -> NaiveDate {
        DateTime::from_timestamp(midnight - ago * DAY, 0)
            .unwrap()
            .date_naive()
    };
    let project = async || {
        let mixpanel = MixpanelWorld {
            days: DAYS,
            events_per_day: events,
            ..MixpanelWorld::default()
        };
        let config = json!({
            "project_id": mixpanel.project_id, "username": mixpanel.username, "secret": mixpanel.secret, "rate_share": 1.0,
            "start_date": date(i64::from(DAYS)), "exports_per_hour": 100_000, "export_window_days": 6,
        });
        SimulatedVendor::new(
            Simulation {
                mixpanel,
                ..Simulation::default()
            },
            "mixpanel",
            config,
            &["export"],
        )
    };
    let ago = [9, 32, 51];
    let spoils = [
        Spoil::Line("{\"event\":\"x\"}".to_owned()),
        Spoil::error(500, "unknown error"),
        Spoil::error(400, "Unable to export"),
    ];
    let truth = project().await.simulator.truth().clone();
    let day = |ago: i64| 1000 * (midnight - ago * DAY)..1000 * (midnight - (ago - 1) * DAY);
    let trial = Trial {
        what: "days",
        make: project,
        poison: ago
            .into_iter()
            .zip(spoils)
            .map(|(ago, spoil)| Rule::poison("/api/2.0/export", spoil).day(date(ago)))
            .collect(),
        names: ago.map(|ago| date(ago).to_string()).to_vec(),
        right: |place| place.column("export", "insert_id"),
        truth: truth.ids("export").into_iter().collect(),
        // The other lines of the day with an odd one are there.
        missing: ago[1..]
            .iter()
            .flat_map(|ago| truth.ids_between("export", day(*ago)))
            .collect(),
        least: [u64::from(DAYS / 6), 3],
    };
    trial.run().await;
}

/// A sync of everything, of an account that is refused what most accounts are refused, succeeds and
/// names what it has not.
#[tokio::test(start_paused = true)]
async fn an_ordinary_account_is_read_and_what_it_has_not_is_named() {
    let stripe = StripeWorld {
        live: true,
        charges: 50,
        customers: 20,
        others: 5,
        ..StripeWorld::default()
    };
    let zendesk = ZendeskWorld {
        tickets: 30,
        users: 10,
        organizations: 5,
        others: 3,
        ..ZendeskWorld::default()
    };
    let mixpanel = MixpanelWorld {
        days: 5,
        events_per_day: 20,
        ..MixpanelWorld::default()
    };
    let credentials = [
        (
            Vendor::Stripe,
            "stripe",
            "charges",
            json!({ "api_key": "rk_live_sim" }),
        ),
        (
            Vendor::Zendesk,
            "zendesk",
            "tickets",
            json!({ "subdomain": "sim", "email": zendesk.email, "api_token": zendesk.token }),
        ),
        (
            Vendor::Mixpanel,
            "mixpanel",
            "export",
            json!({ "project_id": mixpanel.project_id, "username": mixpanel.username, "secret": mixpanel.secret }),
        ),
    ];
    for (vendor, connector, stream, config) in credentials {
        let rules = Faults::ordinary_account(vendor);
        let (stripe, zendesk, mixpanel) = (stripe.clone(), zendesk.clone(), mixpanel.clone());
        let place = SimulatedVendor::new(
            Simulation {
                stripe,
                zendesk,
                mixpanel,
                rules,
                ..Simulation::default()
            },
            connector,
            config,
            &[],
        );
        let summary = place.sync().await;
        let outcomes: Vec<_> = summary
            .endpoints
            .iter()
            .map(|endpoint| (&endpoint.id.endpoint, &endpoint.outcome))
            .collect();
        assert!(summary.failure().is_none(), "{connector}: {outcomes:#?}");
        let withheld: Vec<_> = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Unavailable { .. }))
            .collect();
        let is_reasoned = |outcome: &Outcome| matches!(outcome, Outcome::Unavailable { reason, .. } if !reason.is_empty());
        assert!(
            withheld.iter().all(|(_, outcome)| is_reasoned(outcome)),
            "{withheld:#?}"
        );
        println!(
            "{connector}: {} requests, {} endpoints done, {} not available: {}",
            place.requests(),
            outcomes.len() - withheld.len(),
            withheld.len(),
            withheld
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
        assert!(!withheld.is_empty());
        assert_eq!(
            place.store.rows("s", stream).len() as u64,
            place.simulator.truth().count(stream),
            "{stream}"
        );
    }
}
