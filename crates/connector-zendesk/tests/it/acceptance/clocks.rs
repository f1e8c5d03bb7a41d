//! Clocks that are wrong: what happens while one of them is ahead is read all the same once it is
//! right again.

use std::sync::Arc;

use chrono::DateTime;
use futures::FutureExt;
use pipeline_core::TokioClock;
use pipeline_engine::Outcome;
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::{Clocks, UNTIL};

use super::account::Account;

const HOUR: i64 = 3_600;

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
    let until = UNTIL;
    for (case, clocks) in Clocks::wrong() {
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
