//! The rule's steps one by one: how fast, how long, and from when on.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use super::*;

mod questions;
mod refusals;
mod windows;

fn at(second: f64) -> Duration {
    Duration::from_secs_f64(second)
}

/// Holds a limit of so many a second, measured at the second 100.
fn holding(limit: f64, part: f64) -> AdaptiveRate {
    let mut control = AdaptiveRate::new(f64::INFINITY, part);
    control.resume(at(100.0), Some(limit), None);
    control
}

fn stalled(since: f64, refused: f64, until: Option<f64>) -> AdaptiveRate {
    let stall = Stall {
        since: at(since),
        refused: (at(refused).saturating_sub(at(0.2)), at(refused)),
        asking: false,
        until: until.map(at),
    };
    AdaptiveRate {
        state: State::Stalled(stall),
        ..holding(100.0, 1.0)
    }
}

fn close(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() < 1e-6 * wanted.abs().max(1.0),
        "{found} instead of {wanted}"
    );
}

#[test]
fn a_pulse_is_that_of_this_second_and_of_the_last() {
    let mut pulse = Pulse::default();
    for time in [10.1, 10.5, 10.9, 11.5, 11.6] {
        pulse.beat(at(time));
    }
    assert_eq!((pulse.rate(), pulse.rate_at(at(11.9))), (3.0, 3.0));
    assert_eq!(
        (pulse.rate_at(at(12.5)), pulse.rate_at(at(13.0))),
        (2.0, 0.0)
    );
    pulse.beat(at(12.0));
    assert_eq!(pulse.rate(), 2.0);
    pulse.beat(at(14.0));
    assert_eq!(pulse.rate(), 1.0, "nothing in the second before");
}

#[test]
fn what_was_learned_sets_the_pace() {
    let learned = |cap, rate, window: Option<f64>| {
        let mut control = AdaptiveRate::new(cap, 1.0);
        control.resume(
            at(100.0),
            rate,
            window.map(|permits| LimitWindow::known(permits, at(60.0), at(100.0))),
        );
        (
            control.limit,
            control.measured(),
            control.window().map(LimitWindow::permits),
        )
    };
    assert_eq!(learned(f64::INFINITY, None, None), (4.0, None, None));
    assert_eq!(
        learned(f64::INFINITY, Some(50.0), None),
        (50.0, Some(50.0), None)
    );
    assert_eq!(
        learned(f64::INFINITY, None, Some(600.0)),
        (40.0, None, Some(600.0)),
        "a window is used up in a quarter of it"
    );
    assert_eq!(
        learned(f64::INFINITY, Some(50.0), Some(600.0)),
        (40.0, None, Some(600.0)),
        "in a window the rate is not the limit"
    );
    assert_eq!(learned(20.0, None, Some(600.0)), (20.0, None, Some(600.0)));
    assert_eq!(
        learned(f64::INFINITY, None, Some(15.0)),
        (4.0, None, Some(15.0))
    );
}

#[test]
fn cycles_hold_more_requests_and_fewer_seconds_the_faster_the_limit_is() {
    for (limit, seconds) in [
        (1_000.0, 16.0),
        (100.0, 16.0),
        (10.0, 14.0 * 10_f64.powf(0.6)),
        (1.0, 14.0 * 100_f64.powf(0.6)),
    ] {
        close(holding(limit, 1.0).full_cycle(), seconds);
    }
}

/// A cycle begins below the limit and ends above it.
#[test]
fn a_cycle_goes_from_a_gap_over_the_limit_to_a_question() {
    // A first cycle of 4 s goes 3 % beyond the limit of 100: twice as far as a full one of 16 s.
    for (accepted, rate) in [
        (0.0, 82.0),
        (99.0, 82.0),
        (100.0, 98.5),
        (200.0, 100.0),
        (300.0, 101.5),
        (400.0, 103.0),
        (800.0, 100.0 + 3.0 * 1.2_f64.exp()),
        (900.0, 100.0 + 3.0 * 1.5_f64.exp()),
        (9_000.0, 100.0 + 3.0 * 1.5_f64.exp()),
    ] {
        let control = AdaptiveRate {
            accepted,
            ..holding(100.0, 1.0)
        };
        close(control.rate(), rate);
        close(
            AdaptiveRate {
                cap: 90.0,
                ..control
            }
            .rate(),
            rate.min(90.0),
        );
    }
    close(
        AdaptiveRate {
            cycle: 16.0,
            accepted: 1_600.0,
            ..holding(100.0, 1.0)
        }
        .rate(),
        101.5,
    );
    close(
        AdaptiveRate {
            cycle: 99.0,
            accepted: 1_600.0,
            ..holding(100.0, 1.0)
        }
        .rate(),
        101.5,
    );
    close(
        AdaptiveRate {
            cycle: 99.0,
            accepted: 0.0,
            ..holding(100.0, 1.0)
        }
        .rate(),
        91.0,
    );
    // Of a slow limit a first cycle goes no further than a tenth.
    close(
        AdaptiveRate {
            accepted: 4.0,
            ..holding(1.0, 1.0)
        }
        .rate(),
        1.1,
    );
    close(
        AdaptiveRate {
            accepted: 0.0,
            ..holding(1.0, 1.0)
        }
        .rate(),
        0.5,
    );
    // By what is accepted at the pace of the moment.
    close(
        AdaptiveRate {
            accepted: 100.0,
            scale: 0.5,
            ..holding(100.0, 1.0)
        }
        .rate(),
        50.0,
    );
}

#[test]
fn a_part_of_a_limit_is_used_once_it_was_met() {
    let control = |part, scale, is_met| AdaptiveRate {
        scale,
        is_met,
        accepted: 200.0,
        ..holding(100.0, part)
    };
    close(control(0.5, 1.0, true).rate(), 50.0);
    close(control(0.5, 0.8, true).rate(), 40.0);
    close(control(0.5, 1.0, false).rate(), 100.0);
    close(control(1.0, 1.0, true).rate(), 100.0);
    close(
        AdaptiveRate {
            state: State::Growing,
            limit: 30.0,
            scale: 0.5,
            ..control(0.5, 1.0, true)
        }
        .rate(),
        15.0,
    );
    close(
        AdaptiveRate {
            limit: 30.0,
            scale: 0.5,
            ..stalled(100.0, 110.0, None)
        }
        .rate(),
        15.0,
    );
}

#[test]
fn what_is_accepted_is_counted_and_grown_by() {
    let mut control = AdaptiveRate::new(f64::INFINITY, 1.0);
    control.run = 3;
    for n in 0..5 {
        control.accepted(at(110.0 + 0.1 * f64::from(n)), at(109.0));
    }
    assert_eq!(
        (
            control.run,
            control.accepted,
            control.since_stall,
            control.recent.len()
        ),
        (0, 5.0, 5.0, 5)
    );
    close(control.limit, 4.0 + 3.0 * 1.6_f64.ln());
    control.recent = (0..RECENT)
        .map(|n| at(f64::from(u16::try_from(n).unwrap())))
        .collect();
    control.accepted(at(5_000.0), at(4_999.0));
    assert_eq!(
        (
            control.recent.len(),
            control.recent[0],
            control.recent.back()
        ),
        (RECENT, at(1.0), Some(&at(5_000.0)))
    );
}

#[test]
fn the_part_of_a_limit_that_is_used_recovers() {
    let accepted = |part, scale, is_met| {
        let mut control = AdaptiveRate {
            scale,
            is_met,
            ..holding(100.0, part)
        };
        control.accepted(at(101.0), at(100.5));
        control.scale
    };
    close(accepted(0.5, 0.5, true), 0.5002);
    close(accepted(0.5, 0.9999, true), 1.0);
    close(accepted(1.0, 0.5, true), 0.5);
    close(accepted(0.5, 0.5, false), 0.5);
}
