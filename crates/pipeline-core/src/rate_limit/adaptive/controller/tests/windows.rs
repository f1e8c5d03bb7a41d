//! Windows, which are recognised by the pauses that they make, and stalls, which are not.

use super::*;

#[test]
fn a_window_is_used_without_haste_until_it_is_known() {
    let guess = LimitWindow::guess(
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
        growing(100.0, LimitWindow::known(600.0, at(60.0), at(100.0))),
        100.0,
    );
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
    assert_eq!(
        grown(Some(LimitWindow::known(600.0, at(60.0), at(100.0)))),
        10.0
    );
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
        let window = LimitWindow::guess(
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
    let window = Some(LimitWindow::guess(
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
    let window = LimitWindow::guess(
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
