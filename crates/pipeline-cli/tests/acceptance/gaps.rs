//! What a vendor refuses or never delivers costs nothing but itself: everything else is there after
//! one sync, one more heals it all, no kill loses anything, and an outage is not taken for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use connector_mixpanel::MixpanelConfig;
use connector_stripe::StripeConfig;
use connector_zendesk::ZendeskConfig;
use pipeline_core::{BuildContext, ErrorKind, Registry, TokioClock};
use pipeline_engine::{Job, Outcome, Selection, Source, Summary};
use pipeline_simulator::{
    Faults, MixpanelWorld, Rule, Simulation, Simulator, Spoil, StripeBook, StripeWorld, Vendor,
    ZendeskWorld,
};
use pipeline_testkit::{InProcess, MemoryDestination};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::account::{UNTIL, setting};

const DAY: i64 = 86_400;

/// Time that passes before each answer.
const LATENCY: Duration = Duration::from_millis(50);

/// Seconds of an outage.
const OUTAGE: i64 = 600;

/// What happens at a request, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Happens {
    Nothing,
    /// The process dies before it is answered.
    Kill(u64),
    /// The vendor is down from then on, for ten minutes.
    Outage(u64),
}

/// A vendor, and what a sync reads of it: nothing but the destination outlives it.
struct Place {
    simulator: Arc<Simulator>,
    connector: &'static str,
    config: Value,
    /// The streams that are read; all when there are none.
    streams: Vec<&'static str>,
    store: Arc<MemoryDestination>,
}

impl Place {
    fn new(
        simulation: Simulation,
        connector: &'static str,
        config: Value,
        streams: &[&'static str],
    ) -> Place {
        let simulation = Simulation {
            until: UNTIL,
            latency: LATENCY,
            ..simulation
        };
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        let mut place = Place {
            simulator,
            connector,
            config,
            streams: streams.to_vec(),
            store: Arc::default(),
        };
        place.config["base_url"] = json!(place.simulator.url());
        place
    }

    /// A sync as a process of its own; none when it was killed.
    async fn run(&self, happens: Happens) -> Option<Summary> {
        let (asked, killed) = (AtomicU64::new(0), Arc::new(Notify::new()));
        let (simulator, last) = (Arc::clone(&self.simulator), Arc::clone(&killed));
        let transport = InProcess::new(move |request| {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            if happens == Happens::Outage(number) {
                simulator.set_rules(vec![Rule::outage(
                    simulator.now()..simulator.now() + OUTAGE,
                )]);
            }
            let (answer, last) = (simulator.answer(request), Arc::clone(&last));
            async move {
                if happens == Happens::Kill(number) {
                    last.notify_one();
                    std::future::pending::<()>().await;
                }
                answer.await
            }
        });
        let clock = Arc::new(TokioClock::starting_at(
            DateTime::from_timestamp(self.simulator.now(), 0).unwrap(),
        ));
        let context = BuildContext::new("s")
            .transport(Arc::new(transport))
            .clock(clock.clone())
            .seed(7);
        let mut registry = Registry::default();
        registry
            .add::<StripeConfig>()
            .add::<ZendeskConfig>()
            .add::<MixpanelConfig>();
        let connector = registry
            .build(self.connector, self.config.clone(), context)
            .unwrap();
        let named = self
            .streams
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        let streams = if named.is_empty() {
            Selection::All
        } else {
            Selection::Named(named)
        };
        let source = Source {
            name: "s".to_owned(),
            connector,
            streams,
        };
        let job = Job::new("run", self.store.clone(), vec![source]).clock(clock);
        tokio::select! {
            biased;
            () = killed.notified() => None,
            summary = pipeline_engine::sync(job) => Some(summary.unwrap()),
        }
    }

    async fn sync(&self) -> Summary {
        self.run(Happens::Nothing).await.unwrap()
    }

    fn requests(&self) -> u64 {
        self.simulator.stats().requests
    }

    fn column(&self, stream: &str, column: &str) -> BTreeSet<String> {
        let values = self.store.column("s", stream, column);
        let count = values.len();
        let set: BTreeSet<String> = values.into_iter().collect();
        assert_eq!(set.len(), count, "{stream} holds a row twice");
        set
    }
}

/// The names of what is missing.
fn gaps(summary: &Summary) -> BTreeSet<String> {
    summary
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.gaps)
        .map(|gap| gap.name.clone())
        .collect()
}

/// Something that is read although parts of it are poisoned.
struct Trial<M> {
    what: &'static str,
    /// A vendor without trouble, of which this is still to be read.
    make: M,
    poison: Vec<Rule>,
    /// Ids or days that the names of the gaps hold.
    names: Vec<String>,
    /// The rows that are as they should be, and all that there should be.
    right: fn(&Place) -> BTreeSet<String>,
    truth: BTreeSet<String>,
    /// What of it is poisoned.
    missing: BTreeSet<String>,
    /// Requests that a sync needs at least, and one that heals.
    least: [u64; 2],
}

impl<M: AsyncFn() -> Place> Trial<M> {
    async fn run(&self) {
        self.poisoned_and_healed().await;
        self.killed().await;
        self.outage().await;
    }

    /// Everything but what is poisoned is there, and that has a name and a reason.
    fn assert_passed_over(&self, place: &Place, summary: &Summary) {
        assert_eq!(
            summary.failure(),
            Some(ErrorKind::Unavailable),
            "{summary:#?}"
        );
        let found = gaps(summary);
        for name in &self.names {
            assert!(
                found.iter().any(|gap| gap.contains(name)),
                "{name} is not among {found:?}"
            );
        }
        for gap in &found {
            assert!(
                self.names.iter().any(|name| gap.contains(name)),
                "{gap} was not poisoned: {summary:#?}"
            );
        }
        let is_reasoned = summary
            .endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.gaps)
            .all(|gap| !gap.reason.is_empty());
        assert!(is_reasoned, "{summary:#?}");
        // What was poisoned may have come by another way: another list holds it too.
        let found = (self.right)(place);
        let lost: Vec<_> = self
            .truth
            .difference(&found)
            .filter(|id| !self.missing.contains(*id))
            .take(5)
            .collect();
        let strange: Vec<_> = found.difference(&self.truth).take(5).collect();
        assert!(
            lost.is_empty() && strange.is_empty(),
            "{}: without {lost:?}, with {strange:?}",
            self.what
        );
    }

    fn assert_rows(&self, place: &Place, expected: &BTreeSet<String>) {
        let found = (self.right)(place);
        let lost: Vec<_> = expected.difference(&found).take(5).collect();
        let strange: Vec<_> = found.difference(expected).take(5).collect();
        assert!(
            found == *expected,
            "{}: {} rows of {}, without {lost:?}, with {strange:?}",
            self.what,
            found.len(),
            expected.len()
        );
    }

    fn assert_whole(&self, place: &Place, summary: &Summary) {
        assert!(
            summary.failure().is_none() && gaps(summary).is_empty(),
            "{summary:#?}"
        );
        self.assert_rows(place, &self.truth);
    }

    async fn poisoned_and_healed(&self) {
        let place = (self.make)().await;
        let mut requests = vec![place.requests()];
        let mut count = || {
            requests.push(place.requests());
            requests[requests.len() - 1] - requests[requests.len() - 2]
        };
        place.simulator.set_rules(self.poison.clone());
        let started = Instant::now();
        let first = place.sync().await;
        let took = started.elapsed();
        self.assert_passed_over(&place, &first);
        let expected: BTreeSet<String> = self.truth.difference(&self.missing).cloned().collect();
        self.assert_rows(&place, &expected);
        let first = count();
        place.simulator.advance(Duration::from_mins(10));
        let again = place.sync().await;
        self.assert_passed_over(&place, &again);
        let again = count();
        place.simulator.set_rules(Vec::new());
        place.simulator.advance(Duration::from_mins(10));
        let healed = place.sync().await;
        self.assert_whole(&place, &healed);
        let healed = count();
        place.simulator.advance(Duration::from_mins(10));
        self.assert_whole(&place, &place.sync().await);
        let idle = count();
        let [least, to_heal] = self.least;
        println!(
            "{}: {first} requests of at least {least} in {took:?}, {again} while it lasts, {healed} to heal of at least {to_heal}, \
             {idle} afterwards",
            self.what
        );
    }

    /// Killed twenty times, half of them while something is missing and half while it is filled.
    async fn killed(&self) {
        let place = (self.make)().await;
        let before = place.requests();
        place.simulator.set_rules(self.poison.clone());
        let mut random = fastrand::Rng::with_seed(setting("PIPELINE_KILL_SEED", 1));
        let mut kills = 0;
        for _ in 0..10 {
            let kill_at = random.u64(1..=self.least[0]);
            kills += u32::from(place.run(Happens::Kill(kill_at)).await.is_none());
        }
        self.assert_passed_over(&place, &place.sync().await);
        place.simulator.set_rules(Vec::new());
        for _ in 0..10 {
            // What was asked for that often in vain is asked for once a day.
            place.simulator.advance(Duration::from_hours(25));
            let kill_at = random.u64(1..=self.least[1]);
            kills += u32::from(place.run(Happens::Kill(kill_at)).await.is_none());
        }
        place.simulator.advance(Duration::from_hours(25));
        self.assert_whole(&place, &place.sync().await);
        println!(
            "{}: killed {kills} times, {} requests",
            self.what,
            place.requests() - before
        );
    }

    /// The vendor is down for ten minutes in the middle: nothing is missing when a run ends.
    async fn outage(&self) {
        let place = (self.make)().await;
        let started = Instant::now();
        let mut syncs = 1;
        let mut summary = place.run(Happens::Outage(self.least[0] / 2)).await.unwrap();
        while summary.failure().is_some() {
            assert!(
                gaps(&summary).is_empty(),
                "an outage is taken for something that cannot be read: {summary:#?}"
            );
            assert!(syncs < 10, "{summary:#?}");
            tokio::time::sleep(Duration::from_mins(5)).await;
            summary = place.sync().await;
            syncs += 1;
        }
        let refused: u64 = place.simulator.rule_hits().iter().sum();
        assert!(refused > 0, "the outage did not hit");
        self.assert_whole(&place, &summary);
        println!(
            "{}: an outage of ten minutes refused {refused} requests, {syncs} syncs in {:?}, no gap",
            self.what,
            started.elapsed()
        );
    }
}

fn stripe(streams: &[&'static str]) -> Place {
    let stripe = StripeWorld {
        book: Some(StripeBook {
            objects: 0,
            ..StripeBook::default()
        }),
        ..StripeWorld::default()
    };
    Place::new(
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
    let right = |place: &Place| -> BTreeSet<String> {
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
    let right = |place: &Place| -> BTreeSet<String> {
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
        Place::new(
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
        let place = Place::new(
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
