//! A page of records on its way to the destination, and what follows it.

use chrono::{DateTime, Utc};

use super::RawRecord;
use crate::model::gap::Missed;

/// One page of one slice, on its way to the destination.
#[derive(Debug)]
pub struct Page {
    /// The page's records, by the stream that they belong to.
    pub records: Vec<Vec<RawRecord>>,
    /// Where to go on. None: more of the same response follows, so this is no place to stop.
    pub advance: Option<Advance>,
    /// How far in time the slice is read; none: as far as the cursor of the first stream's last
    /// record says.
    pub watermark: Option<DateTime<Utc>>,
    /// Records of a parent list that were passed over, because what belongs to them was refused.
    pub skipped: u64,
    /// Units that the page's position passes over, because they could not be read.
    pub gaps: Vec<Missed>,
    /// The unit whose records all of them are, where it can be read by itself and rows of it may be
    /// stored: when records of it cannot be rows, a refresh does not take the stored ones for
    /// deleted.
    pub unit: Option<Missed>,
    /// True when what the slice still has is in hand: to split it would be to ask for that again.
    pub in_hand: bool,
    /// Fingerprint of the records of the response, as they came: a list is not believed that sends
    /// the same ones again. None for a page without records, and where pages are not compared.
    pub digest: Option<u64>,
}

impl Page {
    /// A page of records, and what follows it.
    pub fn new(records: Vec<Vec<RawRecord>>, advance: Option<Advance>) -> Self {
        Self {
            records,
            advance,
            watermark: None,
            skipped: 0,
            gaps: Vec::new(),
            unit: None,
            in_hand: false,
            digest: None,
        }
    }
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// There is more, at this position.
    Next(String),
    /// There is nothing more now; the next sync goes on at this position.
    CaughtUp(String),
    /// The slice is read.
    End,
}
