//! Small versions of the cases: what the bench tells in medians of five holds here in the same
//! ones.

#![allow(clippy::expect_used)]

use super::cases::all;
use super::run::{Limiter, run};

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

fn check(names: &[&str]) {
    for name in names {
        let case = all()
            .into_iter()
            .find(|case| case.name == *name)
            .expect("a case of this name");
        let runs = SEEDS.map(|seed| run(&case.scene, Limiter::Ours, seed).expect("a run"));
        for target in &case.targets {
            let mut figures: Vec<f64> = runs.iter().map(target.figure).collect();
            figures.sort_by(f64::total_cmp);
            let figure = figures[SEEDS.len() / 2];
            assert!(
                target.bound.holds(figure),
                "{name}: {} is {figure}, {:?}",
                target.what,
                target.bound
            );
        }
    }
}

#[test]
fn unknown_limits_are_found_and_held() {
    check(&["unknown 10/s", "unknown 100/s"]);
}

#[test]
fn windows_that_nobody_announces_are_recognised() {
    check(&[
        "window 700/min, not announced",
        "Retry-After in seconds only, 700/min",
        "Retry-After as a date only, 700/min",
    ]);
    check(&[
        "Retry-After in seconds only, an hour",
        "any window of 700/min, not announced",
    ]);
}

#[test]
fn announced_windows_are_used_up_without_a_refusal() {
    check(&[
        "GitHub headers, 5,000/h",
        "Zendesk headers, 700/min",
        "IETF headers, 700/min",
    ]);
}

#[test]
fn what_others_use_is_left_to_them() {
    check(&[
        "Zendesk headers, others use 0 to 40 %",
        "IETF headers, others use 0 to 40 %",
    ]);
}

#[test]
fn a_limit_that_changes_is_followed_both_ways() {
    check(&["100, 40, 100/s"]);
}

#[test]
fn a_storm_is_waited_out_with_few_questions() {
    check(&["all refused from 100 to 220 s"]);
}

#[test]
fn requests_at_once_far_below_the_rate_are_fewer_and_no_slower() {
    check(&["4 at once, quota of 100/s known"]);
}

#[test]
fn a_quota_of_an_hour_is_spent_and_none_of_it_wasted() {
    check(&["quota of 60/h"]);
    let case = all()
        .into_iter()
        .find(|case| case.name == "quota of 60/h")
        .expect("the case");
    let plan = run(&case.scene, Limiter::Ours, 1).expect("a run").plan;
    assert_eq!(
        plan.as_deref(),
        Some("150 requests planned (read: 60 requests/h), the last of them after 2 h")
    );
}

#[test]
fn clients_that_know_nothing_of_each_other_share() {
    check(&["8 clients on 100/s"]);
}
