//! When the records of a table were made, computed from their position.

/// Record `n`'s time as a non-decreasing function of `n`: a window of time is a range of records,
/// found by bisection, and nothing is stored however many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// How many records.
    pub(crate) count: u64,
    /// The first record's time.
    pub(crate) start: i64,
    /// All records lie in `start .. start + span`.
    pub(crate) span: u64,
    /// How many of the records, in thousandths, lie in the last twentieth of the span: 50 is an
    /// even spread.
    pub(crate) recent: u64,
    /// In blocks of so many records one block in eight shares a single time, as bulk imports do; 1
    /// for no such blocks.
    pub(crate) burst: u64,
}

impl Timeline {
    /// The time of a record.
    pub(crate) fn at(&self, index: u64) -> i64 {
        let burst = self.burst.clamp(1, (self.count / 16).max(1));
        let block = index / burst;
        let index = if block % 8 == 3 { block * burst } else { index };
        let old = self.count - self.count * self.recent.min(1000) / 1000;
        let turn = self.span - self.span / 20;
        let offset = if index < old {
            scale(index, turn, old)
        } else {
            turn + scale(index - old, self.span - turn, self.count - old)
        };
        self.start.saturating_add_unsigned(offset)
    }

    /// How many records are older than `time`, which is also the first record that isn't.
    pub(crate) fn before(&self, time: i64) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// `part * span / whole` without overflow.
fn scale(part: u64, span: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(span) / u128::from(whole.max(1)))
        .unwrap_or(u64::MAX)
}
