//! From what Mixpanel sends to the rows that are stored: answers are objects keyed by date or
//! segment, not lists of rows.

use std::collections::HashMap;

use chrono::NaiveDate;
use pipeline_core::declarative::StreamDef;
use pipeline_core::{Page, RawRecord, Result};

use crate::calendar::Calendar;
use crate::flatten::Columns;
use crate::line::Malformed;
use crate::reports::Report;
use crate::seen::Seen;
use crate::vendor::Mixpanel;

/// Events without an insert id that are remembered in order to tell repetitions of the same line
/// apart.
const MAX_REMEMBERED_EVENTS: usize = 1_000_000;

/// Makes the rows of one record of a stream's answers.
pub(crate) type Rows = fn(&RawRecord, &mut About<'_>, &mut Vec<RawRecord>) -> Result<()>;

/// What rows hold besides what Mixpanel sent.
#[derive(Debug)]
pub(crate) struct About<'a> {
    /// The stream that the rows belong to.
    pub(crate) stream: &'static StreamDef<Mixpanel>,
    /// What days and times mean.
    pub(crate) calendar: Calendar,
    /// Today, in the project's zone.
    pub(crate) today: NaiveDate,
    /// The report that was asked for, if the stream holds answers to some.
    pub(crate) report: Option<&'a Report>,
    /// Properties that are columns of their own.
    pub(crate) columns: &'a Columns,
    /// How often each event without an insert id has come.
    pub(crate) occurrences: Occurrences,
    /// What events say of others.
    pub(crate) seen: Seen,
    /// Which lines of a response are not events.
    pub(crate) lines: Malformed,
}

/// Counts equal lines of one export.
#[derive(Debug, Default)]
pub(crate) struct Occurrences(HashMap<u64, u32>);

impl Occurrences {
    /// How often this line came before. Beyond a million different ones none counts as a
    /// repetition.
    pub(crate) fn before(&mut self, line: u64) -> u32 {
        if self.0.len() >= MAX_REMEMBERED_EVENTS && !self.0.contains_key(&line) {
            return 0;
        }
        let count = self.0.entry(line).or_insert(0);
        *count += 1;
        *count - 1
    }
}

/// Rows that are just what Mixpanel sent.
#[expect(clippy::unnecessary_wraps, reason = "others of its type fail")]
pub(crate) fn as_sent(
    record: &RawRecord,
    _about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    out.push(record.clone());
    Ok(())
}

/// Makes rows of one of many records. One that is not what Mixpanel documents is rejected with its
/// text: it must not take the others with it.
#[expect(clippy::unnecessary_wraps, reason = "others of its type fail")]
pub(crate) fn or_rejected(
    record: &RawRecord,
    out: &mut Vec<RawRecord>,
    rows: impl FnOnce(&mut Vec<RawRecord>) -> Result<()>,
) -> Result<()> {
    let before = out.len();
    if let Err(error) = rows(out) {
        out.truncate(before);
        out.push(record.clone().rejected(error.message()));
    }
    Ok(())
}

/// Makes the rows of a page, one list for each of the streams that the page feeds.
pub(crate) fn reshape(page: Page, about: &mut [About<'_>]) -> Result<Page> {
    let rows = |(records, about): (Vec<RawRecord>, &mut About<'_>)| {
        let mut rows = Vec::with_capacity(records.len());
        records
            .iter()
            .try_for_each(|record| (about.stream.facts.rows)(record, about, &mut rows))?;
        Ok(rows)
    };
    let records = page
        .records
        .into_iter()
        .zip(about)
        .map(rows)
        .collect::<Result<_>>()?;
    Ok(Page { records, ..page })
}
