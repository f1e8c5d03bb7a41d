//! How a limit is asked whether it has risen.

use super::*;

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
    let gate = |since, window: LimitWindow| {
        AdaptiveRate {
            window: Some(window),
            ..stalled(since, 200.0, None)
        }
        .gate(at(200.0))
    };
    let mut known = LimitWindow::known(1.0, at(60.0), at(100.0));
    assert!(known.accepted(at(170.0), at(169.0)));
    assert_eq!(gate(198.0, known.clone()), Gate::At(at(230.0)));
    assert_eq!(
        gate(198.5, known.clone()),
        Gate::At(at(200.75)),
        "no pause of a window yet"
    );
    let guess = LimitWindow::guess(
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
