//! Clocks that are wrong: what happens while one of them is ahead is read all the same once it is
//! right again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use futures::FutureExt;
use pipeline_core::TokioClock;
use pipeline_engine::Outcome;
use pipeline_simulator::{Rule, Simulation, Simulator, StripeBook, ZendeskWorld};
use pipeline_testkit::Pieces;

use crate::account::Account;
use crate::stripe::SimulatedAccount;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Seconds by which clocks are ahead of the true time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// This machine's.
    pub(crate) machine: i64,
    /// The vendor's, as answers tell it. None: it is right.
    pub(crate) date: Option<i64>,
    /// The answers that tell it, by what is in their path; all others are right.
    pub(crate) of: &'static str,
    /// Whether only failures tell it.
    pub(crate) of_failures: bool,
}

impl Clocks {
    /// Seconds by which the vendor's clock is ahead in the answer to a request.
    pub(crate) fn ahead(self, request: &http::Request<Bytes>) -> Option<i64> {
        let is_meant = request.uri().path().contains(self.of);
        self.date.map(|ahead| if is_meant { ahead } else { 0 })
    }

    /// An answer with the time that the clock says.
    pub(crate) fn dated<A>(
        self,
        ahead: Option<i64>,
        now: i64,
        answer: A,
    ) -> impl Future<Output = http::Response<Pieces>> + use<A>
    where
        A: Future<Output = http::Response<Pieces>>,
    {
        answer.map(move |mut answer| {
            let is_meant = !self.of_failures || answer.status().is_server_error();
            let time = |ahead| DateTime::from_timestamp(now + if is_meant { ahead } else { 0 }, 0);
            if let Some(date) = ahead.and_then(time) {
                let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
                answer
                    .headers_mut()
                    .insert(http::header::DATE, date.parse().unwrap());
            }
            answer
        })
    }
}

/// What the clocks say in one sync, by its name. In all others they are right.
fn wrong() -> Vec<(&'static str, Clocks)> {
    let date = |ahead| Clocks {
        date: Some(ahead),
        ..Clocks::default()
    };
    vec![
        ("the vendor's is an hour behind", date(-HOUR)),
        ("the vendor's is ten minutes ahead", date(600)),
        ("the vendor's is an hour ahead", date(HOUR)),
        ("the vendor's is a day ahead", date(DAY)),
        ("the vendor's is forty days ahead", date(40 * DAY)),
        ("the vendor's is in the year 9999", date(250_000_000_000)),
        (
            "the first answer is an hour ahead",
            Clocks {
                of: "/account",
                ..date(HOUR)
            },
        ),
        (
            "the first answer is forty days ahead",
            Clocks {
                of: "/account",
                ..date(40 * DAY)
            },
        ),
        (
            "the feed's answers are a day ahead",
            Clocks {
                of: "/events",
                ..date(DAY)
            },
        ),
        (
            "this machine's is a day ahead",
            Clocks {
                machine: DAY,
                ..date(0)
            },
        ),
        (
            "this machine's is a day behind",
            Clocks {
                machine: -DAY,
                ..date(0)
            },
        ),
        (
            "both are a day ahead",
            Clocks {
                machine: DAY,
                ..date(DAY)
            },
        ),
    ]
}

/// Lists, the feed of changes and deletions of Stripe's: nothing is lost, nothing is stale, and
/// what is gone is gone.
#[tokio::test(start_paused = true)]
async fn a3_c11_nothing_of_stripes_is_lost_to_a_clock_that_was_wrong_once() {
    let streams = [
        "charges",
        "customers",
        "balance_transactions",
        "invoices",
        "coupons",
    ];
    // In a first sync or in a later one.
    for (index, (case, clocks)) in wrong().into_iter().enumerate() {
        let both = case.contains("day ahead");
        for when in [0, 1].into_iter().filter(|when| both || index % 2 == *when) {
            let mut simulated = SimulatedAccount::new(StripeBook {
                objects: 3,
                ..StripeBook::default()
            })
            .only(&streams);
            let right = Clocks {
                date: clocks.date.map(|_| 0),
                ..Clocks::default()
            };
            for round in 0..3 {
                simulated.clocks = if round == when { clocks } else { right };
                simulated.simulator.stripe().happen_everywhere();
                simulated.happen(30);
                simulated.sync().await;
                simulated.pass(Duration::from_mins(17));
            }
            let differences = simulated.differences();
            assert!(
                differences.is_empty(),
                "{case}, in sync {when}: {differences:#?}"
            );
            // And when the time has come that the clock told of.
            let ahead = clocks
                .machine
                .max(clocks.date.unwrap_or_default())
                .clamp(0, 2 * DAY);
            simulated.pass(Duration::from_secs(ahead.unsigned_abs()));
            simulated.happen(30);
            simulated.pass(Duration::from_hours(2));
            simulated.sync().await;
            let differences = simulated.differences();
            assert!(
                differences.is_empty(),
                "{case}, in sync {when}, once its time has come: {differences:#?}"
            );
        }
    }
}

/// The clock is still wrong in the syncs that come after, and right only later.
#[tokio::test(start_paused = true)]
async fn a3_c11_nothing_of_stripes_is_lost_to_a_clock_that_is_wrong_for_long() {
    let streams = ["charges", "customers", "balance_transactions", "coupons"];
    for (case, clocks) in wrong() {
        let mut simulated = SimulatedAccount::new(StripeBook {
            objects: 12,
            ..StripeBook::default()
        })
        .only(&streams);
        for round in 0..7 {
            simulated.clocks = if round < 4 {
                clocks
            } else {
                Clocks {
                    date: clocks.date.map(|_| 0),
                    ..Clocks::default()
                }
            };
            simulated.happen(30);
            simulated.sync().await;
            simulated.pass(Duration::from_mins(17));
        }
        let differences = simulated.differences();
        assert!(differences.is_empty(), "{case}: {differences:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a3_c11_a_difference_of_minutes_is_a_notice() {
    let mut simulated = SimulatedAccount::new(StripeBook {
        objects: 2,
        ..StripeBook::default()
    })
    .only(&["charges"]);
    for (ahead, told) in [
        (0, ""),
        (90, ""),
        (600, "10 min ahead of"),
        (-3 * HOUR, "3 hours behind"),
        (40 * DAY, "40 days ahead of"),
    ] {
        simulated.clocks = Clocks {
            date: Some(ahead),
            ..Clocks::default()
        };
        simulated.sync().await;
        let notices = simulated.notices();
        assert_eq!(
            notices.contains("clock"),
            !told.is_empty(),
            "{ahead}: {notices}"
        );
        assert!(notices.contains(told), "{ahead}: {notices}");
    }
}

/// An answer that a proxy gives in the vendor's place says nothing of the vendor's clock.
#[tokio::test(start_paused = true)]
async fn a3_c11_the_clock_of_a_failure_is_nobodys() {
    let mut simulated = SimulatedAccount::new(StripeBook {
        objects: 2,
        ..StripeBook::default()
    })
    .only(&["charges"]);
    simulated.simulator.set_rules(vec![
        Rule::refuse("/v1/account", 502, "bad gateway").times(2),
    ]);
    simulated.clocks = Clocks {
        date: Some(DAY),
        of_failures: true,
        ..Clocks::default()
    };
    simulated.sync().await;
    assert_eq!(
        (
            simulated.simulator.rule_hits(),
            simulated.notices().contains("clock")
        ),
        (vec![2], false)
    );
}

/// Exports, filtered lists and lists by time of Zendesk's.
#[tokio::test(start_paused = true)]
async fn a3_c11_nothing_of_zendesks_is_lost_to_a_clock_that_was_wrong_once() {
    let streams = [
        "tickets",
        "ticket_events",
        "ticket_comments",
        "ticket_metric_events",
        "users",
        "organizations",
        "satisfaction_ratings",
        "audit_logs",
        "tickets_search",
    ];
    let until = crate::account::UNTIL;
    for (case, clocks) in wrong()
        .into_iter()
        .filter(|(_, clocks)| clocks.of.is_empty())
    {
        let zendesk = ZendeskWorld {
            tickets: 200,
            users: 60,
            organizations: 20,
            groups: 5,
            others: 20,
            ..ZendeskWorld::default()
        };
        let shown = |round: i64| until - (4 - round) * 2 * HOUR;
        let simulation = Simulation {
            zendesk,
            days: 1,
            shown_until: Some(shown(0)),
            ..Simulation::default()
        };
        let mut account = Account::new(simulation);
        for round in 0..=4 {
            account.simulator.show_until(shown(round));
            let now = account.simulator.now();
            let right = Clocks {
                date: clocks.date.map(|_| 0),
                ..Clocks::default()
            };
            let said = if round == 1 { clocks } else { right };
            let start = DateTime::from_timestamp(now + said.machine, 0).unwrap();
            account.set_clock(Arc::new(TokioClock::starting_at(start)));
            account.behind(Arc::new(move |request, simulator: Arc<Simulator>| {
                let now = simulator.now();
                let ahead = said.ahead(&request);
                said.dated(ahead, now, simulator.answer(request)).boxed()
            }));
            let summary = account.complete(&streams).await;
            assert!(
                summary
                    .endpoints
                    .iter()
                    .all(|endpoint| matches!(endpoint.outcome, Outcome::Done)),
                "{case}: {summary:#?}"
            );
        }
        let status = account.simulator.truth().members("tickets", "status");
        let live = status
            .values()
            .filter(|status| *status != "\"deleted\"")
            .count() as u64;
        for table in streams {
            let truth = if table == "tickets_search" {
                live
            } else {
                account.simulator.truth().count(table)
            };
            assert_eq!(
                account.rows(table, "id", "id").len() as u64,
                truth,
                "{case}: {table}"
            );
        }
    }
}
