//! What the limiter is compared with: a configured rate, and the rule of the AWS
//! SDKs.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A rule that only knows rates.
#[derive(Debug)]
pub(crate) enum Rule {
    /// This number a second, whatever the server says.
    Fixed(f64),
    /// Cubic growth towards the last rate that was refused, and 70 % of it after a refusal.
    Cubic(Mutex<Cubic>),
}

#[derive(Debug)]
pub(crate) struct Cubic {
    origin: Instant,
    is_on: bool,
    rate: f64,
    last_max: f64,
    refused: f64,
    /// Requests in the running half second, which that is, and the smoothed rate.
    measured: (f64, f64, f64),
}

const BETA: f64 = 0.7;
const SCALE: f64 = 0.4;
const SMOOTHING: f64 = 0.8;
const LEAST: f64 = 0.5;

impl Rule {
    pub(crate) fn cubic() -> Self {
        let measured = (0.0, 0.0, 0.0);
        Self::Cubic(Mutex::new(Cubic {
            origin: Instant::now(),
            is_on: false,
            rate: 0.0,
            last_max: 0.0,
            refused: 0.0,
            measured,
        }))
    }

    /// Requests a second; infinite before the first refusal.
    fn rate(&self) -> f64 {
        match self {
            Self::Fixed(rate) => *rate,
            Self::Cubic(cubic) => {
                let cubic = cubic.lock().unwrap_or_else(PoisonError::into_inner);
                if cubic.is_on {
                    cubic.rate
                } else {
                    f64::INFINITY
                }
            }
        }
    }

    /// Notes an answer.
    pub(crate) fn answered(&self, accepted: bool) {
        let Self::Cubic(cubic) = self else { return };
        let mut cubic = cubic.lock().unwrap_or_else(PoisonError::into_inner);
        let now = cubic.origin.elapsed().as_secs_f64();
        let half = (now * 2.0).floor() / 2.0;
        let (count, since, smooth) = cubic.measured;
        cubic.measured = if half > since {
            (
                1.0,
                half,
                (count + 1.0) / (half - since) * SMOOTHING + smooth * (1.0 - SMOOTHING),
            )
        } else {
            (count + 1.0, since, smooth)
        };
        let rate = if accepted {
            let plateau = (cubic.last_max * (1.0 - BETA) / SCALE).cbrt();
            SCALE * (now - cubic.refused - plateau).powi(3) + cubic.last_max
        } else {
            let before = if cubic.is_on {
                cubic.rate.min(cubic.measured.2)
            } else {
                cubic.measured.2
            };
            (cubic.last_max, cubic.refused, cubic.is_on) = (before, now, true);
            before * BETA
        };
        cubic.rate = rate.min(2.0 * cubic.measured.2).max(LEAST);
    }
}

/// Spaces requests by a rule, in order of arrival.
#[derive(Debug)]
pub(crate) struct Pacer {
    pub(crate) rule: Rule,
    last: tokio::sync::Mutex<Option<Instant>>,
}

impl Pacer {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            last: tokio::sync::Mutex::new(None),
        }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) {
        let mut last = self.last.lock().await;
        if let Some(before) = *last {
            loop {
                let interval = 1.0 / self.rule.rate();
                let due = before + Duration::from_secs_f64(interval);
                let wait = due.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    break;
                }
                sleep(wait.min(Duration::from_millis(500))).await;
            }
            // A late timer is made up for, a pause is not.
            let due = before + Duration::from_secs_f64(1.0 / self.rule.rate());
            *last = Some(due.max(Instant::now() - Duration::from_millis(100)));
            return;
        }
        *last = Some(Instant::now());
    }
}
