//! Clocks that are wrong: what happens while one of them is ahead is read all the same once it is
//! right again.

use std::time::Duration;

use pipeline_simulator::{Rule, StripeBook};
use pipeline_testkit::acceptance::Clocks;

use super::account::SimulatedAccount;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// What the clocks say in one sync, by its name. In all others they are right.
fn wrong() -> Vec<(&'static str, Clocks)> {
    let date = |ahead| Clocks {
        date: Some(ahead),
        ..Clocks::default()
    };
    let some_answers = [
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
    ];
    Clocks::wrong().into_iter().chain(some_answers).collect()
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
