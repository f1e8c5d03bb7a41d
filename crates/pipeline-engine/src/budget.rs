//! The error budget: how many records of a stream may be rejected before the stream fails.
//!
//! One record that cannot be a row must not stop a list. Many of them mean that the list is not
//! what it was, as when its ids were renamed: then it is better to keep what is stored, and to go
//! no further, than to lose them one page after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pipeline_core::{Error, ErrorKind};

/// Rejected records that every stream may have, whatever their share.
const TOLERATED: u64 = 10;

/// Records after which a refresh is given up before its end, when less than half of them can be
/// rows.
const CLEAR: u64 = 1_000;

/// Reasons that are counted apart.
const REASONS: usize = 20;

/// The share of its records that a stream may have rejected.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// No record may be rejected, not even one of the ten that every other share tolerates.
    pub const NONE: Self = Self(0.0);
    /// Every record may be rejected.
    pub const ALL: Self = Self(1.0);

    /// More than this many of this number of records.
    #[expect(clippy::cast_precision_loss, reason = "a share of records")]
    fn of(self, records: u64) -> f64 {
        self.0 * records as f64
    }
}

impl Default for Share {
    /// 5 %.
    fn default() -> Self {
        Self(0.05)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded, since 100 × 0.07 is not 7 in binary.
        write!(f, "{} %", (self.0 * 1e6).round() / 1e4)
    }
}

/// The error for a text that is not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a percentage from 0% to 100%, such as 5%")]
pub struct InvalidShare;

impl FromStr for Share {
    type Err = InvalidShare;

    /// Parses a percentage, such as `5%` or `0.5 %`.
    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let number = text.strip_suffix('%').ok_or(InvalidShare)?.trim();
        let is_plain = number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent: f64 = number.parse().map_err(|_| InvalidShare)?;
        if is_plain && (0.0..=100.0).contains(&percent) {
            Ok(Self(percent / 100.0))
        } else {
            Err(InvalidShare)
        }
    }
}

/// What the streams of a source may have rejected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorBudget {
    /// Of every stream that is not named. Default 5 %.
    pub default: Share,
    /// Of single streams.
    pub streams: BTreeMap<String, Share>,
}

impl ErrorBudget {
    /// The share of one stream.
    pub fn of(&self, stream: &str) -> Share {
        self.streams.get(stream).copied().unwrap_or(self.default)
    }
}

/// When a stream is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// More records may follow.
    Underway,
    /// They were all that there is to read now.
    End,
}

/// What was rejected of one stream in a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejections {
    pub(super) count: u64,
    reasons: BTreeMap<String, u64>,
}

impl Rejections {
    pub(super) fn add(&mut self, reason: &str) {
        self.count += 1;
        self.add_reason(reason, 1);
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.count += other.count;
        other
            .reasons
            .iter()
            .for_each(|(reason, count)| self.add_reason(reason, *count));
    }

    fn add_reason(&mut self, reason: &str, records: u64) {
        if let Some(count) = self.reasons.get_mut(reason) {
            *count += records;
        } else if self.reasons.len() < REASONS {
            self.reasons.insert(reason.to_owned(), records);
        }
    }

    /// True when there are more of them than the share, be they few.
    pub(super) fn are_above(&self, share: Share, records: u64) -> bool {
        self.exceed_number(share.of(records)) && share < Share::ALL
    }

    /// True when the records rejected are more than chance does not explain it in a list
    /// that keeps the share.
    fn are_suspicious(&self, share: Share, records: u64) -> bool {
        let allowed = share.of(records);
        // Three standard deviations.
        self.count >= TOLERATED
            && share < Share::ALL
            && self.exceed_number(allowed + 3.0 * allowed.sqrt())
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of records")]
    fn exceed_number(&self, allowed: f64) -> bool {
        self.count as f64 > allowed
    }

    /// True when a stream with this share fails, which has sent so many records in this run.
    ///
    /// * At the end what counts is the share. Ten records are tolerated, except where a refresh
    ///   would publish less than half of what the vendor sent: a table of five rows is as lost as
    ///   one of fifty.
    /// * Before the end, a stream that is not refreshed stops where its records become suspicious,
    ///   since it commits as it goes. A refresh commits nothing that is visible, so it can find out
    ///   what the share is.
    fn exceed(&self, share: Share, records: u64, refresh: bool, moment: Moment) -> bool {
        let most = share.of(records).max(Share(0.5).of(records));
        match moment {
            _ if self.count == 0 || share >= Share::ALL => false,
            Moment::End if self.count >= TOLERATED || share <= Share::NONE => {
                self.exceed_number(share.of(records))
            }
            Moment::End => refresh && self.exceed_number(most),
            Moment::Underway if refresh => records >= CLEAR && self.exceed_number(most),
            Moment::Underway => self.are_suspicious(share, records),
        }
    }

    /// Fails a stream of which too much was rejected.
    pub(super) fn check(
        &self,
        stream: &str,
        share: Share,
        records: u64,
        refresh: bool,
        moment: Moment,
    ) -> Result<(), Error> {
        if !self.exceed(share, records, refresh, moment) {
            return Ok(());
        }
        let reason = self.most_frequent();
        let message = format!(
            "{} of {records} records of `{stream}` cannot be rows; the most frequent reason: {reason}",
            self.count
        );
        let consequence = if refresh {
            "the table keeps its earlier rows"
        } else {
            "the sync stopped before the page with these records"
        };
        Err(Error::new(ErrorKind::Rejected, message).with_help(format!(
            "{consequence}; compare the records in the table `_rejected` with the vendor's documentation, and raise `max_rejected` of \
             the source ({share} now) only if the other rows are right without them"
        )))
    }

    /// Fails a stream of which the destination refused too much. `is_held`: the sync stops before
    /// these records; where rows have no key, they cannot be read twice, and the position has
    /// passed them.
    pub(super) fn check_refused(
        &self,
        stream: &str,
        share: Share,
        records: u64,
        refresh: bool,
        moment: Moment,
        is_held: bool,
    ) -> Result<(), Error> {
        if !self.exceed(share, records, refresh, moment) {
            return Ok(());
        }
        let message = format!(
            "{} of {records} records of `{stream}` are refused by the destination: {}",
            self.count,
            self.most_frequent()
        );
        let (consequence, again) = match (is_held, refresh) {
            (true, true) => ("the table keeps its earlier rows", "run again"),
            (true, false) => (
                "the sync stopped before these records",
                "run again, with --full-refresh if `_rejected` has earlier ones",
            ),
            (false, _) => (
                "other rows of these pages are stored",
                "run with --full-refresh",
            ),
        };
        Err(Error::new(ErrorKind::Rejected, message).with_help(format!(
            "{consequence}; remove the index or trigger that was added to the table, then {again}, or raise `max_rejected` of the source \
             ({share} now); the records are in the table `_rejected`"
        )))
    }

    /// Why records of a unit cannot be rows; none when all of them can.
    pub(super) fn reason(&self) -> Option<String> {
        (self.count > 0).then(|| {
            format!(
                "{} of its records cannot be rows: {}",
                self.count,
                self.most_frequent()
            )
        })
    }

    fn most_frequent(&self) -> &str {
        self.reasons
            .iter()
            .max_by_key(|(_, count)| **count)
            .map_or("", |(reason, _)| reason)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rejections(count: u64) -> Rejections {
        let mut all = Rejections::default();
        (0..count).for_each(|_| all.add("no key"));
        all
    }

    #[test]
    fn a5_a_stream_fails_above_its_share_and_not_below() {
        let five = Share::default();
        let cases = [
            // (rejected, records, share, refresh, moment, fails)
            (50, 50, five, true, Moment::Underway, false),
            (1_000, 1_000, five, true, Moment::Underway, true),
            (50, 50, five, false, Moment::Underway, true),
            (40, 1_000, five, true, Moment::End, false),
            (50, 1_000, five, true, Moment::End, false),
            (51, 1_000, five, true, Moment::End, true),
            (51, 1_000, five, false, Moment::End, true),
            // What may still become less is not judged too early.
            (60, 1_000, five, true, Moment::Underway, false),
            (9, 1_000, five, true, Moment::End, false),
            (9, 100, five, true, Moment::End, false),
            (9, 10, five, false, Moment::End, false),
            // Small tables are lost as well.
            (9, 10, five, true, Moment::End, true),
            (1, 1, five, true, Moment::End, true),
            (1, 1, five, false, Moment::End, false),
            (1, 2, five, true, Moment::End, false),
            (1, 1_000, Share::NONE, false, Moment::End, true),
            (0, 1_000, Share::NONE, false, Moment::End, false),
            (1_000, 1_000, Share::ALL, true, Moment::End, false),
            (3, 4, "80%".parse().unwrap(), true, Moment::End, false),
            (4, 4, "80%".parse().unwrap(), true, Moment::End, true),
        ];
        for (rejected, records, share, refresh, moment, fails) in cases {
            let exceeded = rejections(rejected).exceed(share, records, refresh, moment);
            assert_eq!(
                exceeded, fails,
                "{rejected} of {records}, {share}, refresh: {refresh}, {moment:?}"
            );
        }
    }

    #[test]
    fn a_share_is_a_percentage() {
        for (text, shown) in [
            ("5%", "5 %"),
            ("0.5 %", "0.5 %"),
            ("0%", "0 %"),
            ("100%", "100 %"),
            ("7%", "7 %"),
        ] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for text in [
            "", "5", "%", "-1%", "101%", "1e1%", "nan%", "inf%", "5%%", "+5%",
        ] {
            assert_eq!(text.parse::<Share>(), Err(InvalidShare), "{text}");
        }
    }

    #[test]
    fn the_most_frequent_reason_is_named() {
        let mut all = rejections(9);
        (0..3).for_each(|_| all.add("another"));
        let error = all
            .check("taxes", Share::default(), 20, true, Moment::End)
            .unwrap_err();
        insta::assert_snapshot!(format!("{error}\n{}", error.help().unwrap_or_default()), @r"
        12 of 20 records of `taxes` cannot be rows; the most frequent reason: no key
        the table keeps its earlier rows; compare the records in the table `_rejected` with the vendor's documentation, and raise `max_rejected` of the source (5 % now) only if the other rows are right without them
        ");
    }
}
