//! What happens to units of an account, and what must hold after it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::DateTime;
use connector_mixpanel::MixpanelConfig;
use connector_stripe::StripeConfig;
use connector_zendesk::ZendeskConfig;
use pipeline_core::{BuildContext, ErrorKind, Registry, TokioClock};
use pipeline_engine::{Job, Selection, Source, Summary};
use pipeline_simulator::{Rule, Simulation, Simulator};
use pipeline_testkit::acceptance::{UNTIL, setting};
use pipeline_testkit::{InProcess, MemoryDestination};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

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
pub(super) struct SimulatedVendor {
    pub(super) simulator: Arc<Simulator>,
    pub(super) connector: &'static str,
    pub(super) config: Value,
    /// The streams that are read; all when there are none.
    pub(super) streams: Vec<&'static str>,
    pub(super) store: Arc<MemoryDestination>,
}

impl SimulatedVendor {
    pub(super) fn new(
        simulation: Simulation,
        connector: &'static str,
        config: Value,
        streams: &[&'static str],
    ) -> SimulatedVendor {
        let simulation = Simulation {
            until: UNTIL,
            latency: LATENCY,
            ..simulation
        };
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        let mut place = SimulatedVendor {
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

    pub(super) async fn sync(&self) -> Summary {
        self.run(Happens::Nothing).await.unwrap()
    }

    pub(super) fn requests(&self) -> u64 {
        self.simulator.stats().requests
    }

    pub(super) fn column(&self, stream: &str, column: &str) -> BTreeSet<String> {
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
pub(super) struct Trial<M> {
    pub(super) what: &'static str,
    /// A vendor without trouble, of which this is still to be read.
    pub(super) make: M,
    pub(super) poison: Vec<Rule>,
    /// Ids or days that the names of the gaps hold.
    pub(super) names: Vec<String>,
    /// The rows that are as they should be, and all that there should be.
    pub(super) right: fn(&SimulatedVendor) -> BTreeSet<String>,
    pub(super) truth: BTreeSet<String>,
    /// What of it is poisoned.
    pub(super) missing: BTreeSet<String>,
    /// Requests that a sync needs at least, and one that heals.
    pub(super) least: [u64; 2],
}

impl<M: AsyncFn() -> SimulatedVendor> Trial<M> {
    pub(super) async fn run(&self) {
        self.poisoned_and_healed().await;
        self.killed().await;
        self.outage().await;
    }

    /// Everything but what is poisoned is there, and that has a name and a reason.
    fn assert_passed_over(&self, place: &SimulatedVendor, summary: &Summary) {
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

    fn assert_rows(&self, place: &SimulatedVendor, expected: &BTreeSet<String>) {
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

    fn assert_whole(&self, place: &SimulatedVendor, summary: &Summary) {
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
            "{}: {first} requests of at least {least} in {took:?}, {again} while it lasts, \
             {healed} to heal of at least {to_heal}, {idle} afterwards",
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
            "{}: an outage of ten minutes refused {refused} requests, {syncs} syncs in {:?}, no \
             gap",
            self.what,
            started.elapsed()
        );
    }
}
