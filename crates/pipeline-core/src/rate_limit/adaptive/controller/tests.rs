//! The rule's steps one by one: how fast, how long, and from when on.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use super::*;

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
            window.map(|permits| Window::known(permits, at(60.0), at(100.0))),
        );
        (
            control.limit,
            control.measured(),
            control.window().map(Window::permits),
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
fn a_window_is_used_without_haste_until_it_is_known() {
    let guess = Window::guess(
        VecDeque::new(),
        600.0,
        at(60.0),
        (at(99.0), at(100.0)),
        at(100.0),
    );
    let growing = |limit, window| {
        AdaptiveRate {
            state: State::Growing,
            limit,
            window: Some(window),
            ..holding(100.0, 1.0)
        }
        .rate()
    };
    close(growing(100.0, guess.clone()), 40.0);
    close(growing(30.0, guess), 30.0);
    close(
        growing(100.0, Window::known(600.0, at(60.0), at(100.0))),
        100.0,
    );
}

#[test]
fn far_below_is_said_of_a_steady_limit_only() {
    let far = |control: &AdaptiveRate, time: f64| control.is_far_below(at(time), 0.5);
    let with = |beats: u32, mut control: AdaptiveRate| {
        (0..beats).for_each(|_| control.pulse.beat(at(110.0)));
        control
    };
    let fixed = || AdaptiveRate::new(100.0, 1.0);
    assert!(
        far(&fixed(), 110.0) && far(&with(49, fixed()), 110.0) && !far(&with(50, fixed()), 110.0)
    );
    assert!(
        !far(
            &with(
                49,
                AdaptiveRate {
                    is_met: true,
                    ..fixed()
                }
            ),
            110.0
        ),
        "it was met, and grows again"
    );
    assert!(
        !far(
            &with(
                49,
                AdaptiveRate {
                    limit: 99.0,
                    ..fixed()
                }
            ),
            110.0
        ),
        "it grows"
    );
    assert!(!far(&AdaptiveRate::new(f64::INFINITY, 1.0), 110.0));
    let measured = || holding(100.0, 1.0);
    assert!(!far(&measured(), 104.0), "a cycle has only begun");
    assert!(
        far(&measured(), 104.1)
            && far(&with(49, measured()), 110.0)
            && !far(&with(50, measured()), 110.0)
    );
    assert!(!far(
        &AdaptiveRate {
            is_measured: false,
            ..measured()
        },
        110.0
    ));
    assert!(!far(
        &AdaptiveRate {
            window: Some(Window::known(600.0, at(60.0), at(100.0))),
            ..measured()
        },
        110.0
    ));
    assert!(!far(
        &AdaptiveRate {
            cap: 100.0,
            is_met: false,
            ..stalled(100.0, 110.0, None)
        },
        110.0
    ));
}

#[test]
fn a_limit_is_raised_when_more_was_accepted_than_it_explains() {
    let raised = |limit, sample, accepted| {
        AdaptiveRate {
            sample,
            accepted,
            ..holding(limit, 1.0)
        }
        .is_raised(at(105.0))
    };
    // Of 500 in 5 s, as exactly as 20 requests tell.
    assert_eq!(
        [525.0, 526.0].map(|accepted| raised(100.0, 20.0, accepted)),
        [false, true]
    );
    assert_eq!(
        [515.0, 516.0].map(|accepted| raised(100.0, 1_000.0, accepted)),
        [false, true]
    );
    assert_eq!(
        [56.0, 57.0].map(|accepted| raised(10.0, 1_000.0, accepted)),
        [false, true]
    );
    let heeded = |heeded| {
        AdaptiveRate {
            sample: 1_000.0,
            accepted: 600.0,
            heeded: at(heeded),
            ..holding(100.0, 1.0)
        }
        .is_raised(at(105.0))
    };
    assert_eq!([101.0, 100.9].map(heeded), [false, true]);
    let scaled = |accepted| {
        AdaptiveRate {
            sample: 1_000.0,
            scale: 0.5,
            accepted,
            ..holding(100.0, 1.0)
        }
        .is_raised(at(105.0))
    };
    assert_eq!([257.0, 258.0].map(scaled), [false, true]);
}

#[test]
fn questions_in_a_stall_become_rarer() {
    let next = |since, until| match stalled(since, 200.0, until).gate(at(200.0)) {
        Gate::At(time) => time.as_secs_f64() - 200.0,
        gate => panic!("{gate:?}"),
    };
    assert_eq!(
        [198.0, 190.0, 186.0, 180.0, 88.0, 40.0].map(|since| next(since, None)),
        [1.0, 5.0, 7.0, 7.0, 7.0, 10.0]
    );
    assert_eq!(
        [205.0, 260.0].map(|until| next(180.0, Some(until))),
        [5.0, 60.0],
        "the vendor says when it is over"
    );
    assert_eq!(
        [200.0, 190.0].map(|until| next(180.0, Some(until))),
        [7.0, 7.0],
        "it said so, and was wrong"
    );
    let stall = stalled(180.0, 200.0, None);
    assert_eq!(
        (stall.gate(at(206.9)), stall.gate(at(207.0))),
        (Gate::At(at(207.0)), Gate::Open)
    );
}

#[test]
fn in_a_known_window_nobody_asks_before_a_permit_comes_back() {
    let gate = |since, window: Window| {
        AdaptiveRate {
            window: Some(window),
            ..stalled(since, 200.0, None)
        }
        .gate(at(200.0))
    };
    let mut known = Window::known(1.0, at(60.0), at(100.0));
    assert!(known.accepted(at(170.0), at(169.0)));
    assert_eq!(gate(198.0, known.clone()), Gate::At(at(230.0)));
    assert_eq!(
        gate(198.5, known.clone()),
        Gate::At(at(200.75)),
        "no pause of a window yet"
    );
    let guess = Window::guess(
        [at(170.0)].into(),
        1.0,
        at(60.0),
        (at(99.0), at(100.0)),
        at(100.0),
    );
    assert_eq!(gate(198.0, guess), Gate::At(at(201.0)));
}

#[test]
fn a_question_is_what_was_sent_in_the_stall() {
    let mut control = stalled(190.0, 200.0, None);
    control.granted(at(189.9));
    assert_eq!(control.gate(at(300.0)), Gate::Open);
    control.granted(at(205.0));
    assert_eq!(control.gate(at(300.0)), Gate::Answer);
    control.unanswered(at(206.0), at(189.9));
    assert_eq!(
        control.gate(at(300.0)),
        Gate::Answer,
        "that was not the question"
    );
    control.unanswered(at(206.0), at(205.0));
    assert_eq!(control.gate(at(300.0)), Gate::Open);
    control.granted(at(205.0));
    control.refused(at(207.0), at(189.9), None);
    assert_eq!(control.gate(at(300.0)), Gate::Answer);
    control.refused(at(207.0), at(190.0), Some(at(40.0)));
    assert_eq!(control.gate(at(207.0)), Gate::At(at(247.0)));
    control.refused(at(208.0), at(189.9), Some(at(10.0)));
    assert_eq!(
        control.gate(at(208.0)),
        Gate::At(at(247.0)),
        "the later end"
    );
}

#[test]
fn it_grows_with_what_is_accepted_and_no_further_than_twice_of_that() {
    let grown = |limit, beats: u32, is_met, cap| {
        let mut control = AdaptiveRate {
            cap,
            limit,
            is_met,
            ..AdaptiveRate::new(f64::INFINITY, 1.0)
        };
        (0..beats).for_each(|_| control.pulse.beat(at(110.0)));
        control.grow();
        control.limit
    };
    close(grown(3.0, 0, false, f64::INFINITY), 3.0 + 1.6_f64.ln());
    close(grown(4.0, 2, false, f64::INFINITY), 4.0);
    close(grown(4.0, 3, false, f64::INFINITY), 4.0 + 1.6_f64.ln());
    close(grown(6.0, 3, false, f64::INFINITY), 6.0);
    close(grown(10.0, 30, true, f64::INFINITY), 10.0 + 0.12 + 0.15);
    close(grown(10.0, 30, true, 10.2), 10.2);
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

#[test]
fn a_raised_limit_is_looked_for_anew() {
    let mut control = AdaptiveRate {
        accepted: 599.0,
        cycle: 16.0,
        sample: 1_000.0,
        ..holding(100.0, 1.0)
    };
    control.accepted(at(105.0), at(104.0));
    assert_eq!(
        (
            control.state,
            control.is_measured,
            control.scale,
            control.cycle
        ),
        (State::Growing, false, 1.0, 8.0)
    );
    close(control.limit, 99.625);
    let mut short = AdaptiveRate {
        accepted: 599.0,
        cycle: 4.0,
        sample: 1_000.0,
        ..holding(100.0, 1.0)
    };
    short.accepted(at(105.0), at(104.0));
    assert_eq!(short.cycle, 4.0);
}

/// What becomes of a limit of 100 that was measured, and is refused after these seconds.
fn heeded(seconds: f64, accepted: f64, refused: f64, control: AdaptiveRate) -> AdaptiveRate {
    let mut control = AdaptiveRate {
        accepted,
        refused,
        ..control
    };
    control.heed(at(100.0 + seconds));
    control
}

#[test]
fn a_refusal_measures_what_was_accepted_since_the_last() {
    let measured = |seconds, accepted| heeded(seconds, accepted, 1.0, holding(100.0, 1.0)).limit;
    close(measured(4.0, 420.0), 105.0);
    close(measured(4.0, 100.0), 25.0);
    close(measured(1.0, 110.0), 110.0);
    close(measured(0.9, 110.0), 100.0);
    close(measured(1.0, 20.0), 20.0);
    close(measured(1.0, 19.0), 100.0);
    close(measured(10.0, 5.0), 0.5);
    close(measured(10.0, 4.0), 100.0);
    close(measured(9.9, 5.0), 100.0);
    let cycle = |seconds, accepted, cycle, is_measured| {
        let control = heeded(
            seconds,
            accepted,
            1.0,
            AdaptiveRate {
                is_measured,
                cycle,
                ..holding(100.0, 1.0)
            },
        );
        assert_eq!(
            (
                control.mark,
                control.accepted,
                control.refused,
                control.scale
            ),
            (at(100.0 + seconds), 0.0, 0.0, 1.0)
        );
        assert_eq!(
            (control.sample, control.is_measured, control.is_met),
            (accepted, true, true)
        );
        control.cycle
    };
    close(cycle(4.0, 400.0, 4.0, true), 8.0);
    close(cycle(4.0, 400.0, 12.0, true), 16.0);
    close(cycle(4.0, 320.0, 8.0, true), 16.0);
    close(cycle(4.0, 319.0, 8.0, true), 4.0);
    close(cycle(4.0, 319.0, 8.0, false), 16.0);
}

#[test]
fn a_refusal_that_cannot_be_measured_cuts_what_is_not_known() {
    let scale = |accepted, refused, is_measured| {
        heeded(
            0.5,
            accepted,
            refused,
            AdaptiveRate {
                is_measured,
                ..holding(100.0, 1.0)
            },
        )
        .scale
    };
    close(scale(10.0, 1.0, true), 1.0);
    close(scale(10.0, 1.0, false), 0.85);
    close(scale(10.0, 3.0, true), 0.85);
    close(scale(10.0, 2.0, true), 1.0);
    close(scale(30.0, 3.0, true), 1.0);
    close(scale(29.0, 3.0, true), 0.85);
    let again = heeded(
        0.5,
        10.0,
        1.0,
        AdaptiveRate {
            scale: 0.85,
            is_measured: false,
            ..holding(100.0, 1.0)
        },
    );
    close(again.scale, 0.85 * 0.85);
    let growing = heeded(
        5.0,
        500.0,
        1.0,
        AdaptiveRate {
            state: State::Growing,
            ..holding(100.0, 1.0)
        },
    );
    assert_eq!(
        (growing.state, growing.limit, growing.scale, growing.mark),
        (State::Holding, 100.0, 0.85, at(105.0))
    );
    let part = |part, scale, is_met| {
        heeded(
            5.0,
            500.0,
            1.0,
            AdaptiveRate {
                scale,
                is_met,
                ..holding(100.0, part)
            },
        )
    };
    close(part(0.5, 0.5, true).scale, 0.425);
    close(part(0.5, 0.055, true).scale, 0.05);
    assert_eq!(
        part(0.5, 0.5, true).mark,
        at(100.0),
        "the others' part cannot be measured"
    );
    assert_eq!(
        (part(1.0, 0.5, true).mark, part(0.5, 0.5, false).mark),
        (at(105.0), at(105.0))
    );
}

#[test]
fn four_refusals_in_a_row_or_one_that_says_for_how_long_are_a_stall() {
    let is_stalled = |control: &AdaptiveRate| matches!(control.state, State::Stalled(_));
    let mut control = holding(100.0, 1.0);
    for n in 1..=4 {
        assert!(!is_stalled(&control));
        control.refused(at(101.0), at(100.5), None);
        assert_eq!((control.run, control.refused), (n, f64::from(n)));
    }
    assert!(is_stalled(&control));
    let mut told = holding(100.0, 1.0);
    told.refused(at(101.0), at(100.5), Some(at(30.0)));
    assert_eq!(told.gate(at(101.0)), Gate::At(at(131.0)));
    // Sent before the last refusal was known: it says the same thing again.
    let mut late = AdaptiveRate {
        heeded: at(100.5),
        ..AdaptiveRate::new(f64::INFINITY, 1.0)
    };
    late.refused(at(101.0), at(100.4), None);
    assert_eq!((late.state, late.heeded), (State::Growing, at(100.5)));
    late.refused(at(101.0), at(100.5), None);
    assert_eq!((late.state, late.heeded), (State::Holding, at(101.0)));
}

#[test]
fn a_window_is_used_as_fast_as_it_was_found_out() {
    let grown = |window| {
        let mut control = AdaptiveRate {
            state: State::Growing,
            limit: 10.0,
            window,
            ..holding(100.0, 1.0)
        };
        for n in 0..30 {
            control.accepted(at(110.0 + 0.01 * f64::from(n)), at(109.0));
        }
        control.limit
    };
    assert!(grown(None) > 10.0);
    assert_eq!(grown(Some(Window::known(600.0, at(60.0), at(100.0)))), 10.0);
}

/// A stall since the second 200, whose question was sent and answered with yes; 25 were accepted
/// since the last.
fn ended(sent: f64, control: AdaptiveRate) -> AdaptiveRate {
    let mut control = AdaptiveRate {
        since_stall: 25.0,
        recent: [at(150.0), at(160.0)].into(),
        heeded: at(0.0),
        ..control
    };
    control.accepted(at(sent + 0.2), at(sent));
    control
}

fn refused_until(refused: f64, until: Option<f64>, control: AdaptiveRate) -> AdaptiveRate {
    AdaptiveRate {
        state: stalled(200.0, refused, until).state,
        ..control
    }
}

#[test]
fn a_short_stall_changes_nothing_and_an_outage_is_followed_by_the_same_limit() {
    let short = ended(
        201.9,
        refused_until(
            200.5,
            None,
            AdaptiveRate {
                scale: 0.85,
                ..holding(100.0, 1.0)
            },
        ),
    );
    assert_eq!(
        (
            short.state,
            short.heeded,
            short.since_stall,
            short.last_stall
        ),
        (State::Holding, at(202.1), 26.0, None)
    );
    assert_eq!(
        (short.limit, short.scale, short.mark, short.recent.len()),
        (100.0, 0.85, at(100.0), 3)
    );
    let outage = ended(
        202.0,
        refused_until(
            200.5,
            None,
            AdaptiveRate {
                scale: 0.85,
                ..holding(100.0, 1.0)
            },
        ),
    );
    assert_eq!(
        (
            outage.state,
            outage.heeded,
            outage.since_stall,
            outage.last_stall
        ),
        (State::Holding, at(202.2), 1.0, Some(at(202.0)))
    );
    assert_eq!(
        (outage.limit, outage.scale, outage.mark, outage.recent.len()),
        (100.0, 1.0, at(202.2), 0)
    );
    let before = ended(199.9, refused_until(200.5, None, holding(100.0, 1.0)));
    assert!(
        matches!(before.state, State::Stalled(_)),
        "sent before the stall"
    );
}

#[test]
fn a_pause_before_the_limit_is_met_or_that_comes_again_is_a_window() {
    let window = |sent, permits: f64, is_met, last_stall: Option<f64>| {
        let control = AdaptiveRate {
            since_stall: permits,
            is_met,
            last_stall: last_stall.map(at),
            ..holding(100.0, 1.0)
        };
        let mut control = refused_until(sent - 0.1, None, control);
        control.accepted(at(sent + 0.2), at(sent));
        assert_eq!(
            control.state,
            if control.window.is_some() {
                State::Growing
            } else {
                State::Holding
            }
        );
        control.window.is_some()
    };
    assert!(window(210.0, 20.0, false, None));
    assert!(!window(210.0, 19.0, false, None), "too few to tell");
    assert!(!window(201.9, 20.0, false, None), "too short");
    assert!(!window(210.0, 20.0, true, None), "an outage");
    assert!(
        window(210.0, 20.0, true, Some(110.0)),
        "a tenth of the time was refused"
    );
    assert!(!window(210.0, 20.0, true, Some(109.0)), "an outage again");
}

#[test]
fn a_window_is_guessed_from_its_first_request_to_the_end_of_its_pause() {
    let guessed = |refused, until, sent| {
        let control = ended(
            sent,
            refused_until(
                refused,
                until,
                AdaptiveRate {
                    is_met: false,
                    scale: 0.85,
                    ..holding(100.0, 1.0)
                },
            ),
        );
        let window = control.window.as_ref().unwrap();
        assert!(!window.is_known() && control.recent.is_empty());
        assert_eq!(
            (control.limit, control.mark, control.scale),
            (85.0, at(sent + 0.2), 1.0)
        );
        (window.permits(), window.length().as_secs_f64())
    };
    assert_eq!(
        guessed(209.9, None, 210.3),
        (25.0, 60.0),
        "between the last refusal and the answer"
    );
    assert_eq!(
        guessed(206.2, None, 208.0),
        (25.0, 58.0),
        "none that is usual fits: the longest"
    );
    assert_eq!(
        guessed(200.2, None, 272.0),
        (25.0, 60.0),
        "of 60 and 120 the one in the middle of what is possible"
    );
    assert_eq!(
        guessed(206.2, Some(210.5), 215.0),
        (25.0, 60.0),
        "the vendor told the second in which it ended"
    );
    assert_eq!(guessed(206.2, Some(208.5), 215.0), (25.0, 58.5));
    assert_eq!(
        guessed(209.9, Some(211.0), 210.3),
        (25.0, 60.0),
        "it ended sooner than was told"
    );
    let brief = AdaptiveRate {
        recent: [at(209.5)].into(),
        is_met: false,
        since_stall: 25.0,
        ..holding(100.0, 1.0)
    };
    let mut brief = refused_until(209.9, None, brief);
    brief.accepted(at(210.5), at(210.3));
    assert_eq!(
        brief.window.unwrap().length(),
        at(2.0),
        "no window is shorter than what makes a pause"
    );
}

#[test]
fn a_pause_of_a_window_that_is_too_short_for_it_was_asked_too_fast() {
    let after = |limit, sent| {
        let window = Window::guess(
            VecDeque::new(),
            600.0,
            at(60.0),
            (at(139.0), at(140.0)),
            at(140.0),
        );
        ended(
            sent,
            refused_until(
                sent - 0.1,
                None,
                AdaptiveRate {
                    limit,
                    window: Some(window),
                    ..holding(100.0, 1.0)
                },
            ),
        )
    };
    let short = after(100.0, 201.0);
    assert_eq!(
        (short.state, short.limit, short.since_stall),
        (State::Growing, 85.0, 26.0)
    );
    assert!(short.window().is_some(), "it is known");
    close(after(20.0, 201.0).limit, 20.0);
    let long = after(100.0, 205.0);
    assert_eq!(
        (long.state, long.limit, long.since_stall, long.last_stall),
        (State::Growing, 100.0, 1.0, Some(at(205.0)))
    );
    assert!(long.window().is_some(), "a second pause makes it known");
}

#[test]
fn what_was_no_window_is_a_limit_to_begin_with() {
    let window = Some(Window::guess(
        VecDeque::new(),
        600.0,
        at(60.0),
        (at(99.0), at(100.0)),
        at(100.0),
    ));
    let growing = AdaptiveRate {
        window,
        state: State::Growing,
        cycle: 16.0,
        is_measured: false,
        is_met: false,
        ..holding(100.0, 1.0)
    };
    let mut control = AdaptiveRate {
        accepted: 50.0,
        scale: 0.5,
        ..growing
    };
    control.give_up_window(at(130.0));
    assert_eq!(
        (
            control.state,
            control.limit,
            control.cycle,
            control.is_measured,
            control.is_met
        ),
        (State::Holding, 10.0, 4.0, true, true)
    );
    assert_eq!(
        (control.mark, control.accepted, control.scale),
        (at(130.0), 0.0, 1.0)
    );
    let mut again = control.clone();
    again.give_up_window(at(150.0));
    assert_eq!(again.mark, at(130.0), "there is none");
}

#[test]
fn a_guess_that_more_and_more_requests_disprove_is_given_up() {
    let window = Window::guess(
        VecDeque::new(),
        20.0,
        at(60.0),
        (at(99.0), at(100.0)),
        at(100.0),
    );
    let mut control = AdaptiveRate {
        window: Some(window),
        state: State::Growing,
        ..holding(100.0, 1.0)
    };
    let mut accepted = 0;
    while control.window.is_some() && accepted < 1_000 {
        accepted += 1;
        control.accepted(at(101.0), at(100.5));
    }
    // One more than 20, and than the 22, 25, 30 and 39 that there were then.
    assert_eq!((accepted, control.recent.len()), (40, 0));
}
