//! What a refusal measures, and how far it cuts the rate.

use super::*;

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
            window: Some(LimitWindow::known(600.0, at(60.0), at(100.0))),
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

/// What becomes of a limit of 100 that was measured, and is refused after these seconds.
pub(super) fn heeded(
    seconds: f64,
    accepted: f64,
    refused: f64,
    control: AdaptiveRate,
) -> AdaptiveRate {
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
