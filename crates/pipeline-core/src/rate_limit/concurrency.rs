//! How many requests at once a vendor lets through, where it does not say so.
//!
//! Pure, as [`AdaptiveRate`](crate::rate_limit::adaptive::controller::AdaptiveRate) is. Who is
//! refused far below the rate that was learned, or is told so, has too many requests under way:
//! their number is cut, and comes back slowly. What it was at the refusal is remembered, and gone
//! beyond ever so carefully.

use std::time::Duration;

/// Slots that come back in a second, and beyond the number that was refused.
const RECOVERY: (f64, f64) = (0.5, 0.05);
/// Part of the requests under way that remains after there were too many: while it is unknown how
/// many are allowed, and later.
const CUT: (f64, f64) = (0.75, 0.9);
/// What is refused within this part of the number that was refused before is the same limit.
const SAME: f64 = 0.3;
/// Refusals within this span are one event: they were all sent before the first was known.
const ONE_EVENT: Duration = Duration::from_secs(1);

/// The slots of one bucket. Times are since a common origin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConcurrencyLimit {
    /// The number since then.
    cut: Option<(f64, Duration)>,
    /// This number was one too few.
    met: Option<f64>,
}

impl ConcurrencyLimit {
    /// Resumes with what was learned before.
    pub(crate) fn resume(&mut self, now: Duration, met: u32) {
        self.met = Some(f64::from(met.max(1)));
        self.cut = self.met.map(|met| ((met * CUT.1).max(1.0), now));
    }

    /// Requests that may be under way; none: no limit was met.
    pub(crate) fn limit(&self, now: Duration) -> Option<f64> {
        let (slots, since) = self.cut?;
        let back = slots + RECOVERY.0 * now.saturating_sub(since).as_secs_f64();
        Some(match self.met {
            Some(met) if back > met => {
                met.max(slots) + (back - met.max(slots)) * RECOVERY.1 / RECOVERY.0
            }
            _ => back,
        })
    }

    /// Requests that may be under way, as far as was learned.
    pub(crate) fn met(&self) -> Option<f64> {
        self.met
    }

    /// A request was refused because too many were under way, itself included.
    pub(crate) fn too_many(&mut self, now: Duration, under_way: u32) {
        if self
            .cut
            .is_some_and(|(_, since)| now.saturating_sub(since) <= ONE_EVENT)
        {
            return;
        }
        let met = f64::from(under_way) - 1.0;
        let is_same = self
            .met
            .is_some_and(|known| (met - known).abs() <= SAME * known);
        let cut = if is_same { CUT.1 } else { CUT.0 };
        self.met = Some(met.max(1.0));
        self.cut = Some(((f64::from(under_way) * cut).floor().max(1.0), now));
    }
}
