#![allow(clippy::float_cmp)]

use super::*;

fn at(second: f64) -> Duration {
    Duration::from_secs_f64(second)
}

/// So many a minute, known since the second 100; requests were answered at these times.
fn known(permits: f64, spent: &[f64]) -> LimitWindow {
    LimitWindow {
        spent: spent.iter().copied().map(at).collect(),
        ..LimitWindow::known(permits, at(60.0), at(100.0))
    }
}

/// The same, of which one pause was seen.
fn guessed(permits: f64, spent: &[f64]) -> LimitWindow {
    LimitWindow {
        is_known: false,
        ..known(permits, spent)
    }
}

#[test]
fn what_was_answered_and_what_is_under_way_is_used() {
    let window = LimitWindow {
        under_way: 2,
        ..known(10.0, &[100.0, 101.0, 130.0])
    };
    assert_eq!(
        [159.9, 160.0, 161.0, 190.0].map(|now| window.used(at(now))),
        [5.0, 4.0, 3.0, 2.0]
    );
    assert_eq!(
        [159.9, 160.0, 190.0].map(|now| window.next(at(now))),
        [Some(at(160.0)), Some(at(161.0)), None]
    );
    assert_eq!((window.mean(), known(0.5, &[]).mean()), (10.0 / 60.0, 0.01));
}

#[test]
fn a_part_of_a_window_is_used_and_nobody_asks_for_more() {
    let gate = |permits, used: u32, part| {
        LimitWindow {
            under_way: used,
            ..known(permits, &[])
        }
        .gate(at(150.0), part)
    };
    assert_eq!(
        [4, 5].map(|used| gate(10.0, used, 0.5)),
        [Gate::Open, Gate::Answer]
    );
    assert_eq!(
        [0, 1].map(|used| gate(1.0, used, 0.5)),
        [Gate::Open, Gate::Answer],
        "one at least"
    );
    assert_eq!(
        [9, 10].map(|used| gate(10.0, used, 1.0)),
        [Gate::Open, Gate::Answer]
    );
    assert_eq!(
        known(1.0, &[120.0]).gate(at(150.0), 0.5),
        Gate::At(at(180.0))
    );
    let guess = LimitWindow {
        under_way: 8,
        ..guessed(10.0, &[99.0])
    };
    assert_eq!(
        guess.gate(at(150.0), 0.5),
        Gate::Open,
        "a guess is found out first"
    );
}

#[test]
fn one_more_than_the_permits_asks_whether_there_are_more() {
    let window = |spent: &[f64], under_way| LimitWindow {
        ask: (at(150.0), 2.0),
        under_way,
        ..known(2.0, spent)
    };
    assert_eq!(
        window(&[120.0, 121.0], 0).gate(at(149.9), 1.0),
        Gate::At(at(180.0)),
        "it is too soon"
    );
    assert_eq!(window(&[120.0, 121.0], 0).gate(at(150.0), 1.0), Gate::Open);
    assert_eq!(
        window(&[120.0], 1).gate(at(150.0), 1.0),
        Gate::Answer,
        "after the answers that are due"
    );
    assert_eq!(
        window(&[120.0, 121.0, 122.0], 0).gate(at(150.0), 1.0),
        Gate::At(at(180.0)),
        "it was asked"
    );
    assert_eq!(
        window(&[120.0, 121.0], 0).gate(at(150.0), 0.9),
        Gate::At(at(180.0)),
        "others have the rest"
    );
    assert_eq!(
        guessed(2.0, &[99.0, 101.0]).gate(at(150.0), 1.0),
        Gate::At(at(159.0)),
        "one may have been of another window"
    );
    assert_eq!(
        guessed(2.0, &[100.0, 101.0]).gate(at(150.0), 1.0),
        Gate::Open
    );
}

#[test]
fn a_question_is_asked_where_a_fixed_window_would_not_begin_anew() {
    let is_in_one = |now, spent: &[f64]| {
        LimitWindow {
            opened: (at(95.0), at(100.0)),
            ..known(2.0, spent)
        }
        .is_in_one(at(now))
    };
    assert_eq!(
        [100.0, 154.9, 155.0, 159.9].map(|now| is_in_one(now, &[])),
        [true, true, false, false]
    );
    assert_eq!(
        [160.0, 214.9, 215.0].map(|now| is_in_one(now, &[])),
        [true, true, false]
    );
    assert_eq!(
        [&[159.9][..], &[160.0], &[160.0, 170.0]].map(|spent| is_in_one(200.0, spent)),
        [false, true, true]
    );
    assert!(is_in_one(200.0, &[130.0]), "that one counts no more");
}

#[test]
fn what_left_before_the_window_is_not_under_way_in_it() {
    let mut window = known(2.0, &[]);
    window.granted(at(99.9));
    assert_eq!(window.under_way, 0);
    window.granted(at(100.0));
    window.granted(at(100.1));
    window.unanswered(at(101.0), at(99.9));
    assert_eq!(window.under_way, 2);
    window.unanswered(at(101.0), at(100.0));
    assert_eq!(window.under_way, 1);
    window.spent = [at(110.0), at(111.0)].into();
    window.unanswered(at(170.0), at(99.9));
    assert_eq!(
        window.spent,
        [at(111.0)],
        "what counts no more is forgotten"
    );
}

#[test]
fn further_permits_are_looked_for_in_growing_steps() {
    let mut window = known(2.0, &[110.0, 111.0]);
    let mut accept = |now| {
        assert!(window.accepted(at(now), at(now - 0.2)));
        (window.permits, window.step, window.ask.0.as_secs_f64())
    };
    assert_eq!(accept(112.0), (4.0, 2.0, 112.0));
    assert_eq!(accept(113.0), (4.0, 2.0, 112.0));
    assert_eq!(accept(114.0), (7.0, 4.0, 114.0));
    let disproved = |seen, step| {
        LimitWindow {
            seen,
            step,
            ..guessed(1.0, &[110.0])
        }
        .accepted(at(111.0), at(110.8))
    };
    assert_eq!(
        [
            (16.0, 8.0),
            (1.0, 8.0),
            (1.0, 9.0),
            (40.0, 20.0),
            (40.0, 21.0)
        ]
        .map(|(seen, step)| disproved(seen, step)),
        [true, true, false, true, false]
    );
}

#[test]
fn a_refusal_of_one_more_than_the_permits_answers_the_question() {
    let refused = |spent: &[f64], window: LimitWindow| {
        let mut window = LimitWindow {
            spent: spent.iter().copied().map(at).collect(),
            ..window
        };
        let is_answer = window.refused(at(150.2), at(150.0));
        assert!(!window.is_open);
        (is_answer, window.permits, window.seen)
    };
    assert_eq!(
        refused(&[110.0, 120.0, 130.0], known(3.0, &[])),
        (true, 3.0, 3.0)
    );
    assert_eq!(
        refused(&[110.0, 120.0], known(3.0, &[])),
        (true, 2.0, 2.0),
        "there is one fewer"
    );
    assert_eq!(
        refused(&[110.0], known(3.0, &[])),
        (false, 3.0, 1.0),
        "far fewer: something else has changed"
    );
    assert_eq!(
        refused(
            &[110.0],
            LimitWindow {
                step: 2.0,
                ..known(3.0, &[])
            }
        ),
        (true, 1.0, 1.0)
    );
    assert_eq!(refused(&[], known(1.0, &[])), (true, 1.0, 0.0));
    assert_eq!(
        refused(&[90.0, 120.0, 130.0], guessed(3.0, &[])),
        (false, 3.0, 2.0),
        "of a guess, those since the pause"
    );
    assert_eq!(
        refused(&[91.0, 120.0, 130.0], known(3.0, &[])),
        (true, 3.0, 3.0)
    );
    let again = LimitWindow {
        is_open: false,
        seen: 7.0,
        ..known(3.0, &[])
    };
    assert_eq!(
        refused(&[110.0, 120.0, 130.0], again),
        (true, 7.0, 7.0),
        "the first refusal counts"
    );
    let mut asked = LimitWindow {
        ask: (at(150.2), 2.0),
        ..known(1.0, &[120.0])
    };
    asked.refused(at(150.1), at(150.0));
    assert_eq!(asked.ask, (at(150.2), 2.0), "it was not the question");
    asked.refused(at(150.2), at(150.0));
    assert_eq!(
        asked.ask,
        (at(150.2) + at(60.0 * 60.0), 8.0),
        "500 requests to one question, and once an hour at least"
    );
}

#[test]
fn questions_become_rarer_until_it_is_one_an_hour() {
    let asks = |permits, length, mut every| {
        [(); 7].map(|()| {
            let mut window = LimitWindow {
                ask: (at(0.0), every),
                step: 4.0,
                ..LimitWindow::known(permits, at(length), at(100.0))
            };
            window.ask_later(at(100.0));
            assert_eq!(window.step, 1.0);
            every = window.ask.1;
            (window.ask.0.as_secs_f64() - 100.0) / length
        })
    };
    assert_eq!(
        asks(600.0, 60.0, 2.0),
        [2.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    );
    assert_eq!(
        asks(50.0, 60.0, 2.0),
        [10.0, 10.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    );
    assert_eq!(asks(600.0, 7_200.0, 2.0), [1.0; 7]);
    assert_eq!(asks(600.0, 900.0, 8.0)[0], 4.0);
}

#[test]
fn a_second_pause_makes_a_guess_known() {
    let opened = |window: LimitWindow| {
        let mut window = LimitWindow {
            opened: (at(99.0), at(100.0)),
            under_way: 3,
            step: 4.0,
            ..window
        };
        window.opened(at(163.0), (at(159.5), at(160.5)), at(162.8));
        assert_eq!(
            (window.opened, window.since, window.under_way),
            ((at(159.5), at(162.8)), at(163.0), 0)
        );
        window
    };
    let found = opened(LimitWindow {
        seen: 20.0,
        length: at(50.0),
        ..guessed(30.0, &[])
    });
    assert_eq!(
        (found.is_known, found.permits, found.length, found.step),
        (true, 20.0, at(60.0), 1.0)
    );
    assert_eq!(found.ask, (at(163.0) + at(25.0 * 60.0), 16.0));
    let nothing = opened(LimitWindow {
        seen: 0.0,
        ..guessed(30.0, &[])
    });
    assert_eq!(nothing.permits, 1.0);
}

#[test]
fn a_pause_of_a_known_window_makes_it_a_guess() {
    let opened = |now: f64, seen| {
        let mut window = LimitWindow {
            seen,
            ..known(80.0, &[])
        };
        window.opened(at(now), (at(now - 3.0), at(now - 2.0)), at(now - 0.2));
        assert_eq!(
            (window.is_known, window.seen, window.length),
            (false, f64::INFINITY, at(60.0))
        );
        window.permits
    };
    assert_eq!(opened(160.0, 40.0), 40.0);
    assert_eq!(opened(160.0, 9.0), 10.0, "an eighth at least");
    assert_eq!(opened(159.9, 40.0), 80.0, "it began not long ago");
}

#[test]
fn a_window_that_was_asked_too_fast_is_known() {
    let mut window = guessed(600.0, &[]);
    window.goes_on(at(130.0));
    assert_eq!((window.is_known, window.ask), (true, (at(250.0), 8.0)));
}

#[test]
fn a_length_is_the_likeliest_of_those_that_vendors_use() {
    let between =
        |least, most, likely| length_between(at(least), at(most), at(likely)).as_secs_f64();
    assert_eq!(between(59.0, 61.0, 60.0), 60.0);
    assert_eq!(between(60.0, 60.0, 1.0), 60.0);
    assert_eq!(between(9.0, 31.0, 16.0), 15.0);
    assert_eq!(between(9.0, 31.0, 18.0), 20.0);
    assert_eq!(between(61.0, 90.0, 70.0), 90.0);
}
