//! The control rule without a client: what never happens, whatever the answers, and what it finds
//! out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]

use std::time::Duration;

use proptest::prelude::*;

use super::controller::{AdaptiveRate, Gate};
use super::window::LimitWindow;
use crate::rate_limit::RateLimitInfo;
use crate::rate_limit::concurrency::ConcurrencyLimit;
use crate::rate_limit::reported::ReportedLimit;

const MILLISECOND: Duration = Duration::from_millis(1);
const LATENCY: Duration = Duration::from_millis(200);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answers_make_it_faster_than_the_cap_or_stop_for_ever(
        cap in prop::option::of(1_u32..1000),
        steps in prop::collection::vec((0_u64..3000, 0_u8..10, prop::option::weighted(0.1, 1_u64..100)), 1..400),
    ) {
        let cap = cap.map_or(f64::INFINITY, f64::from);
        let mut control = AdaptiveRate::new(cap, 1.0);
        let mut now = Duration::from_secs(100);
        for (pause, outcome, wait) in steps {
            now += Duration::from_millis(pause);
            match control.gate(now) {
                Gate::Open => {}
                Gate::At(at) => {
                    let wait = at.saturating_sub(now);
                    prop_assert!(!wait.is_zero() && wait <= Duration::from_hours(24), "{wait:?}");
                    now = at;
                }
                Gate::Answer => prop_assert!(false, "nothing is under way"),
            }
            let sent = now;
            control.granted(sent);
            now += LATENCY;
            match outcome {
                0..6 => control.accepted(now, sent),
                6..9 => control.refused(now, sent, wait.map(Duration::from_secs)),
                _ => control.unanswered(now, sent),
            }
            prop_assert!(control.rate() > 0.0 && control.rate() <= cap, "{}", control.rate());
        }
    }
}

/// Asks one after the other as fast as the rule lets it, with a fixed latency, for a time; counts
/// what was refused.
fn ask(
    control: &mut AdaptiveRate,
    now: &mut Duration,
    time: Duration,
    mut allows: impl FnMut(Duration) -> bool,
) -> (u32, u32) {
    let (end, mut accepted, mut refused) = (*now + time, 0, 0);
    let mut under_way = std::collections::VecDeque::new();
    let mut next = *now;
    while *now < end {
        while under_way
            .front()
            .is_some_and(|sent| *sent + LATENCY <= *now)
        {
            let sent = under_way.pop_front().unwrap();
            if allows(sent) {
                accepted += 1;
                control.accepted(*now, sent);
            } else {
                refused += 1;
                control.refused(*now, sent, None);
            }
        }
        while next <= *now && control.gate(*now) == Gate::Open {
            control.granted(*now);
            under_way.push_back(*now);
            next = next.max(now.saturating_sub(5 * MILLISECOND))
                + Duration::from_secs_f64(1.0 / control.rate());
        }
        *now += MILLISECOND;
    }
    (accepted, refused)
}

/// A bucket that holds one second.
fn bucket(rate: f64) -> impl FnMut(Duration) -> bool {
    let (mut tokens, mut last) = (rate, Duration::ZERO);
    move |now| {
        tokens = (tokens + rate * now.saturating_sub(last).as_secs_f64()).min(rate);
        last = now;
        let is_enough = tokens >= 1.0;
        tokens -= if is_enough { 1.0 } else { 0.0 };
        is_enough
    }
}

#[test]
fn what_was_accepted_between_two_refusals_is_the_limit() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 1.0),
        Duration::from_secs(100),
    );
    ask(
        &mut control,
        &mut now,
        Duration::from_mins(2),
        bucket(100.0),
    );
    let limit = control.measured().unwrap();
    assert!((99.0..101.0).contains(&limit), "{limit}");
}

#[test]
fn a_part_of_an_unknown_limit_leaves_the_rest_to_others() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 0.5),
        Duration::from_secs(100),
    );
    let mut server = bucket(100.0);
    ask(&mut control, &mut now, Duration::from_mins(1), &mut server);
    let (accepted, refused) = ask(&mut control, &mut now, Duration::from_mins(1), &mut server);
    assert!(
        (2800..=3050).contains(&accepted) && refused == 0,
        "{accepted} {refused}"
    );
}

#[test]
fn what_was_learned_is_gone_on_with() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 1.0),
        Duration::from_secs(100),
    );
    control.resume(now, Some(100.0), None);
    let (accepted, refused) = ask(
        &mut control,
        &mut now,
        Duration::from_mins(1),
        bucket(100.0),
    );
    assert!(accepted >= 5880 && refused <= 30, "{accepted} {refused}");
}

#[test]
fn a_fixed_window_is_found_by_its_phase_and_then_used_without_a_refusal() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 1.0),
        Duration::from_secs(100),
    );
    let (mut window, mut used) = (0, 0);
    let mut server = move |now: Duration| {
        let current = (now.as_millis() + 23_000) / 60_000;
        used = if current == window { used + 1 } else { 1 };
        window = current;
        used <= 700
    };
    ask(&mut control, &mut now, Duration::from_mins(4), &mut server);
    let found = control.window().expect("a window");
    assert_eq!(
        (found.permits(), found.length()),
        (700.0, Duration::from_mins(1))
    );
    let (accepted, refused) = ask(&mut control, &mut now, Duration::from_mins(10), &mut server);
    assert!(accepted >= 6900 && refused <= 4, "{accepted} {refused}");
}

/// So many in any span of a minute.
fn sliding(permits: usize) -> impl FnMut(Duration) -> bool {
    let mut accepted = std::collections::VecDeque::new();
    move |now| {
        while accepted
            .front()
            .is_some_and(|at| *at + Duration::from_mins(1) <= now)
        {
            accepted.pop_front();
        }
        let is_left = accepted.len() < permits;
        if is_left {
            accepted.push_back(now);
        }
        is_left
    }
}

#[test]
fn a_sliding_window_is_held_without_a_refusal() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 1.0),
        Duration::from_secs(100),
    );
    let mut server = sliding(700);
    ask(&mut control, &mut now, Duration::from_mins(4), &mut server);
    let found = control.window().expect("a window");
    assert_eq!(
        (found.permits(), found.length()),
        (700.0, Duration::from_mins(1))
    );
    let (accepted, refused) = ask(&mut control, &mut now, Duration::from_mins(10), &mut server);
    assert!(accepted >= 6900 && refused <= 2, "{accepted} {refused}");
}

#[test]
fn more_permits_are_found_and_fewer_are_kept_to() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 1.0),
        Duration::from_secs(100),
    );
    let (mut window, mut used) = (0, 0);
    let permits = std::cell::Cell::new(700);
    let mut server = |now: Duration| {
        let current = (now.as_millis() + 23_000) / 60_000;
        used = if current == window { used + 1 } else { 1 };
        window = current;
        used <= permits.get()
    };
    for (now_allowed, minutes) in [(700, 4), (300, 4), (1500, 10), (700, 4)] {
        permits.set(now_allowed);
        ask(
            &mut control,
            &mut now,
            Duration::from_mins(minutes),
            &mut server,
        );
        let found = control.window().map(LimitWindow::permits);
        assert_eq!(
            found,
            Some(f64::from(now_allowed)),
            "after {minutes} minutes"
        );
    }
}

#[test]
fn a_part_of_a_window_leaves_the_rest_to_others() {
    let (mut control, mut now) = (
        AdaptiveRate::new(f64::INFINITY, 0.5),
        Duration::from_secs(100),
    );
    let mut server = sliding(700);
    ask(&mut control, &mut now, Duration::from_mins(4), &mut server);
    let (accepted, refused) = ask(&mut control, &mut now, Duration::from_mins(10), &mut server);
    assert!(
        (3300..=3500).contains(&accepted) && refused == 0,
        "{accepted} {refused}"
    );
}

#[test]
fn a_learned_window_gives_each_permit_back_after_its_length() {
    let began = Duration::from_secs(100);
    let mut window = LimitWindow::known(2.0, Duration::from_mins(1), began);
    let answered = |at: u64| began + Duration::from_secs(at);
    for at in [5, 6] {
        assert_eq!(window.gate(answered(at), 1.0), Gate::Open);
        window.granted(answered(at));
    }
    assert_eq!(
        window.gate(answered(7), 1.0),
        Gate::Answer,
        "both are under way"
    );
    window.accepted(answered(8), answered(5));
    window.accepted(answered(9), answered(6));
    assert_eq!(window.gate(answered(10), 1.0), Gate::At(answered(68)));
    assert_eq!(window.gate(answered(68), 1.0), Gate::Open);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_span_holds_more_than_a_learned_window(
        permits in 2_u32..40,
        steps in prop::collection::vec((0_u64..800, 1_u64..1500, 0.0..1.0_f64), 50..300),
    ) {
        let length = Duration::from_secs(10);
        let mut now = Duration::from_secs(100);
        let mut window = LimitWindow::known(f64::from(permits), length, now);
        let mut under_way: Vec<(Duration, Duration)> = Vec::new();
        let mut arrived = Vec::new();
        for (pause, latency, way) in steps {
            now += Duration::from_millis(pause);
            // A part keeps it from asking for more than there is.
            while let gate @ (Gate::At(_) | Gate::Answer) = window.gate(now, 0.999) {
                let first = under_way.iter().min_by_key(|(_, answer)| *answer).map(|(_, answer)| *answer);
                let until = if let Gate::At(at) = gate { first.map_or(at, |first| first.min(at)) } else { first.unwrap() };
                now = now.max(until);
                under_way.retain(|(sent, answer)| *answer > now || !window.accepted(now, *sent));
            }
            window.granted(now);
            let latency = Duration::from_millis(latency);
            arrived.push(now + latency.mul_f64(way));
            under_way.push((now, now + latency));
        }
        arrived.sort();
        for (first, start) in arrived.iter().enumerate() {
            let within = arrived[first..].iter().take_while(|at| **at < *start + length).count();
            prop_assert!(within < permits as usize, "{within} of {permits}");
        }
    }
}

/// Between the look at the clock and the entry of a request, another's answer may be entered.
#[test]
fn a_request_that_left_before_a_stall_or_a_window_is_not_waited_for_afterwards() {
    let at = |millis: u64| Duration::from_millis(100_000 + millis);
    let mut control = AdaptiveRate::new(f64::INFINITY, 1.0);
    for n in 0..4 {
        control.granted(at(n));
        control.refused(at(200 + n), at(n), None);
    }
    control.granted(at(202));
    control.refused(at(402), at(202), None);
    assert_eq!(control.gate(at(10_000)), Gate::Open, "nothing is under way");
    let mut window = LimitWindow::known(1.0, Duration::from_mins(1), at(1));
    window.granted(at(0));
    window.unanswered(at(200), at(0));
    assert_eq!(
        window.gate(at(300), 1.0),
        Gate::Open,
        "nothing is under way"
    );
}

#[test]
fn too_many_at_once_are_cut_remembered_and_gone_beyond_slowly() {
    let (mut slots, second) = (ConcurrencyLimit::default(), Duration::from_secs);
    assert_eq!((slots.limit(second(100)), slots.met()), (None, None));
    slots.too_many(second(100), 41);
    slots.too_many(second(101), 35);
    assert_eq!(
        (slots.limit(second(100)), slots.met()),
        (Some(30.0), Some(40.0)),
        "refusals of one second are one event"
    );
    slots.too_many(second(102), 31);
    slots.too_many(second(104), 11);
    assert_eq!(
        (slots.limit(second(104)), slots.met()),
        (Some(8.0), Some(10.0))
    );
    assert_eq!(
        slots.limit(second(108)),
        Some(10.0),
        "half a slot a second, up to what is known"
    );
    assert_eq!(
        slots.limit(second(128)),
        Some(11.0),
        "and one in 20 s beyond"
    );
    slots.too_many(second(130), 11);
    assert_eq!(
        slots.limit(second(130)),
        Some(9.0),
        "the same limit again: less is cut"
    );
    slots.too_many(second(140), 13);
    assert_eq!(
        slots.limit(second(140)),
        Some(11.0),
        "near it: the same limit"
    );
    slots.too_many(second(150), 30);
    assert_eq!(slots.limit(second(150)), Some(22.0), "another limit");
    let mut next = ConcurrencyLimit::default();
    next.resume(second(5), 10);
    assert_eq!(
        (next.limit(second(5)), next.limit(second(7)), next.met()),
        (Some(9.0), Some(10.0), Some(10.0))
    );
}

fn hint(left: f64, reset: u64) -> RateLimitInfo {
    RateLimitInfo {
        limit: Some(100.0),
        remaining: Some(left),
        reset: Some(Duration::from_secs(reset)),
        ..RateLimitInfo::default()
    }
}

#[test]
fn answers_that_overtake_each_other_only_lower_what_is_left() {
    let (mut announced, second) = (ReportedLimit::default(), Duration::from_secs);
    announced.learn(second(10), second(9), &[&hint(50.0, 30)], second(60));
    // Sent before the news came, so it may be older than these.
    announced.learn(second(11), second(9), &[&hint(60.0, 29)], second(60));
    assert_eq!(announced.gate(second(11), 49), Gate::Open);
    assert_eq!(
        announced.gate(second(11), 50),
        Gate::Answer,
        "those under way may not be counted yet"
    );
    announced.learn(second(12), second(11), &[&hint(60.0, 28)], second(60));
    assert_eq!(
        announced.gate(second(12), 50),
        Gate::Open,
        "sent after the news: there is more"
    );
    announced.learn(second(13), second(12), &[&hint(0.0, 27)], second(60));
    assert_eq!(announced.gate(second(13), 0), Gate::At(second(41)));
    assert_eq!(
        (announced.gate(second(41), 0), announced.gate(second(41), 1)),
        (Gate::Open, Gate::Answer),
        "one request opens it"
    );
}
