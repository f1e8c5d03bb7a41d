//! The situations that are measured, and what has to come of them.

use pipeline_core::rate_limit::Quota;

use super::random::Random;
use super::run::{Figures, Scene};
use super::server::{Count, Says};

/// A situation and its targets.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) scene: Scene,
    pub(crate) targets: Vec<Target>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) figure: fn(&Figures) -> f64,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }
}

fn used(least: f64) -> Target {
    Target {
        what: "U",
        figure: |it| it.used,
        bound: Bound::AtLeast(least),
    }
}

fn refused(most: f64) -> Target {
    Target {
        what: "E",
        figure: |it| it.refused,
        bound: Bound::AtMost(most),
    }
}

fn refused_in_all(most: f64) -> Target {
    Target {
        what: "E in all",
        figure: |it| it.refused_all,
        bound: Bound::AtMost(most),
    }
}

/// Nothing is known, a server with a bucket, 300 s.
fn unknown(rate: fn(f64) -> f64) -> Scene {
    let count = match rate(0.0) {
        rate if rate < 50.0 => |_| Count::bucket(|_| 10.0),
        rate if rate < 500.0 => |_| Count::bucket(|_| 100.0),
        _ => |_| Count::bucket(|_| 1000.0),
    };
    Scene {
        count,
        says: Says::Nothing,
        quota: Quota::unknown(),
        clients: 1,
        workers: if rate(0.0) > 500.0 { 512 } else { 64 },
        seconds: if rate(0.0) > 500.0 { 180.0 } else { 300.0 },
        steady: 60.0,
        slots: None,
        storm: (0.0, 0.0),
        foreign: |_| 0.0,
        fixed: 5.3,
        planned: None,
    }
}

/// A window of 700 a minute that began somewhere.
fn minute(seed: u64) -> Count {
    Count::window(
        |_| 700.0,
        60.0,
        -60.0 * Random::new(seed ^ 0xABCD).uniform(),
    )
}

fn window(says: Says) -> Scene {
    Scene {
        count: minute,
        says,
        ..unknown(|_| 10.0)
    }
}

/// 0 to 40 % for others, from the 120th second on.
fn others(now: f64) -> f64 {
    if now < 120.0 { 0.0 } else { 0.4 }
}

/// A window whose permits change from 700 to 300 after ten minutes, and back after ten more.
fn changing_minute(seed: u64) -> Count {
    let permits: fn(f64) -> f64 = |now| {
        if (600.0..1200.0).contains(&now) {
            300.0
        } else {
            700.0
        }
    };
    Count::window(permits, 60.0, -60.0 * Random::new(seed ^ 0xABCD).uniform())
}

fn changing(now: f64) -> f64 {
    if (60.0..180.0).contains(&now) {
        40.0
    } else {
        100.0
    }
}

/// Seconds from the fall of the limit at 60 s until two seconds in a row had fewer than 10 % too
/// many.
fn down(it: &Figures) -> f64 {
    let sent = |from: f64| {
        it.arrivals
            .iter()
            .filter(|it| from <= it.at && it.at < from + 2.0)
            .count() as f64
    };
    (0..120)
        .map(f64::from)
        .find(|second| sent(60.0 + second) <= 2.0 * 40.0 * 1.1)
        .map_or(f64::INFINITY, |second| second + 2.0)
}

/// Seconds from a time until five seconds in a row used 90 % of 100 a second.
fn up(it: &Figures, since: f64) -> f64 {
    let accepted = |from: f64| {
        it.arrivals
            .iter()
            .filter(|it| it.accepted && from <= it.at && it.at < from + 5.0)
            .count() as f64
    };
    (0..120)
        .map(f64::from)
        .find(|second| accepted(since + second) >= 450.0)
        .map_or(f64::INFINITY, |second| second + 5.0)
}

/// Most requests in five seconds of the storm that begins at 100 s, once it was noticed.
fn questions(it: &Figures) -> f64 {
    let within = |from: f64| {
        it.arrivals
            .iter()
            .filter(|it| from <= it.at && it.at < from + 5.0)
            .count()
    };
    (1100..2150)
        .map(|tenth| within(f64::from(tenth) / 10.0))
        .max()
        .unwrap_or(0) as f64
}

/// Requests at once that were learned, and the rate of the quota if it was kept.
fn slots(it: &Figures) -> f64 {
    it.learned
        .and_then(|learned| learned.slots.filter(|_| learned.rate.is_none()))
        .map_or(0.0, f64::from)
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let case = |name, scene, targets: Vec<Target>| Case {
        name,
        scene,
        targets,
    };
    let steady = || vec![used(0.98), refused(4.0), refused_in_all(10.0)];
    let announced = || {
        vec![
            used(0.98),
            Target {
                what: "E",
                figure: |it| it.refused_all,
                bound: Bound::AtMost(0.0),
            },
        ]
    };
    let shared = || vec![used(0.93), refused(5.0)];
    vec![
        case("unknown 10/s", unknown(|_| 10.0), steady()),
        case("unknown 100/s", unknown(|_| 100.0), steady()),
        case("unknown 1,000/s", unknown(|_| 1000.0), steady()),
        case(
            "window 700/min, not announced",
            window(Says::Nothing),
            vec![used(0.93), refused(10.0)],
        ),
        case(
            "GitHub headers, 5,000/h",
            Scene {
                count: |seed| {
                    Count::window(
                        |_| 5000.0,
                        3600.0,
                        -3600.0 * Random::new(seed ^ 0xABCD).uniform(),
                    )
                },
                seconds: 4.0 * 3600.0,
                steady: 0.0,
                ..window(Says::GitHub)
            },
            announced(),
        ),
        case(
            "Zendesk headers, 700/min",
            window(Says::Zendesk),
            announced(),
        ),
        case("IETF headers, 700/min", window(Says::Ietf), announced()),
        case(
            "Retry-After in seconds only, 700/min",
            window(Says::RetrySeconds),
            vec![used(0.98), refused(0.0)],
        ),
        case(
            "Retry-After as a date only, 700/min",
            window(Says::RetryDate),
            vec![used(0.98), refused(0.0)],
        ),
        case(
            "Retry-After in seconds only, an hour",
            Scene {
                seconds: 3600.0,
                ..window(Says::RetrySeconds)
            },
            vec![used(0.98), refused(1.0)],
        ),
        case(
            "Retry-After only, 700, 300, 700/min",
            Scene {
                count: changing_minute,
                seconds: 1800.0,
                ..window(Says::RetrySeconds)
            },
            vec![used(0.93), refused(8.0)],
        ),
        case(
            "Zendesk headers, others use 0 to 40 %",
            Scene {
                foreign: others,
                steady: 120.0,
                ..window(Says::Zendesk)
            },
            shared(),
        ),
        case(
            "IETF headers, others use 0 to 40 %",
            Scene {
                foreign: others,
                steady: 120.0,
                ..window(Says::Ietf)
            },
            shared(),
        ),
        case(
            "100, 40, 100/s",
            Scene {
                count: |_| Count::bucket(changing),
                steady: 0.0,
                ..unknown(|_| 100.0)
            },
            vec![
                Target {
                    what: "U after 60 s",
                    figure: after_a_minute,
                    bound: Bound::AtLeast(0.93),
                },
                refused(8.0),
                Target {
                    what: "s down",
                    figure: down,
                    bound: Bound::AtMost(10.0),
                },
                Target {
                    what: "s up",
                    figure: |it| up(it, 180.0),
                    bound: Bound::AtMost(60.0),
                },
            ],
        ),
        case(
            "8 clients on 100/s",
            Scene {
                clients: 8,
                workers: 16,
                ..unknown(|_| 100.0)
            },
            vec![
                used(0.95),
                refused(5.0),
                Target {
                    what: "Jain",
                    figure: |it| it.fair,
                    bound: Bound::AtLeast(0.9),
                },
            ],
        ),
        case(
            "all refused from 100 to 220 s",
            Scene {
                storm: (100.0, 220.0),
                ..unknown(|_| 100.0)
            },
            vec![
                Target {
                    what: "asked in 5 s",
                    figure: questions,
                    bound: Bound::AtMost(1.0),
                },
                Target {
                    what: "s until U 0.9",
                    figure: |it| up(it, 220.0),
                    bound: Bound::AtMost(15.0),
                },
            ],
        ),
        case(
            "quota of 60/h",
            Scene {
                count: |_| Count::log(60, 3600.0),
                quota: Quota::per_hour(60),
                seconds: 3600.0,
                steady: 0.0,
                planned: Some(150),
                ..window(Says::Nothing)
            },
            vec![
                Target {
                    what: "used of 60",
                    figure: |it| it.accepted,
                    bound: Bound::AtLeast(60.0),
                },
                Target {
                    what: "wasted",
                    figure: |it| it.sent - it.accepted,
                    bound: Bound::AtMost(0.0),
                },
            ],
        ),
        case(
            "any window of 700/min, not announced",
            Scene {
                count: |_| Count::log(700, 60.0),
                seconds: 600.0,
                ..window(Says::Nothing)
            },
            vec![used(0.9), refused(10.0)],
        ),
        case(
            "window of 100/s, not announced",
            Scene {
                count: |_| Count::window(|_| 100.0, 1.0, 0.37),
                ..unknown(|_| 100.0)
            },
            vec![],
        ),
        case(
            "window of 500 in 45 s, not announced",
            Scene {
                count: |seed| {
                    Count::window(
                        |_| 500.0,
                        45.0,
                        -45.0 * Random::new(seed ^ 0xABCD).uniform(),
                    )
                },
                seconds: 900.0,
                ..unknown(|_| 10.0)
            },
            vec![],
        ),
        case(
            "4 at once, quota of 100/s known",
            Scene {
                slots: Some(4),
                quota: Quota::per_second(100),
                ..unknown(|_| 100.0)
            },
            vec![
                used(0.93),
                refused(8.0),
                Target {
                    what: "slots learned, no rate",
                    figure: slots,
                    bound: Bound::AtLeast(3.0),
                },
            ],
        ),
        // What ten at once let through is half of the rate, which might as well have been lowered.
        case(
            "10 at once and 100/s",
            Scene {
                slots: Some(10),
                ..unknown(|_| 100.0)
            },
            vec![used(0.93), refused(5.0)],
        ),
        case(
            "10 at once, quota of 100/s known",
            Scene {
                slots: Some(10),
                quota: Quota::per_second(100),
                ..unknown(|_| 100.0)
            },
            vec![
                used(0.93),
                refused(5.0),
                Target {
                    what: "slots learned, no rate",
                    figure: slots,
                    bound: Bound::AtLeast(8.0),
                },
            ],
        ),
    ]
}

/// The part used after the first minute.
fn after_a_minute(it: &Figures) -> f64 {
    let accepted = it
        .arrivals
        .iter()
        .filter(|it| it.accepted && it.at >= 60.0)
        .count() as f64;
    accepted / (120.0 * 40.0 + 120.0 * 100.0)
}
