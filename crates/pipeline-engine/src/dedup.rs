//! Recognises records that come again: from the page before, when a list shifts while it is read,
//! and from the sync before, when a sync reads a little again to catch what became visible late.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::gap::Missed;
use pipeline_core::slice::parse_time;
use pipeline_core::state::{Seen, SliceState};
use pipeline_core::{Endpoint, RawRecord, Stream};
use twox_hash::XxHash3_128;

use super::endpoint_run::EndpointRun;

/// The memory of one slice's task.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    /// Content of the records of the page before that may come again: all of a list that shifts,
    /// else those with the last cursor value, which is where a list that lost its position is begun
    /// again.
    previous: HashSet<u64>,
}

/// A record, how long it is as text, and a fast hash of that for the commit log.
pub(super) struct Hashed {
    pub(super) record: RawRecord,
    pub(super) bytes: usize,
    pub(super) hash: u128,
}

/// A page's records, hashed, without repetitions.
pub(super) struct Prepared {
    pub(super) records: Vec<Vec<Hashed>>,
    pub(super) counts: Vec<Counts>,
    pub(super) mark: PageMark,
}

/// Records of one stream so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) unchanged: u64,
}

/// What a page adds to its slice's progress besides its position.
#[derive(Debug, Default)]
pub(super) struct PageMark {
    /// Cursor value of its last record.
    pub(super) watermark: Option<DateTime<Utc>>,
    /// The newest cursor value of its records.
    pub(super) newest: Option<DateTime<Utc>>,
    /// Boundary entries to remember.
    pub(super) seen: Vec<(u64, Seen)>,
    /// Units that its position passes over.
    pub(super) gaps: Vec<Missed>,
}

impl Dedup {
    /// Takes a page. `restarted`: the slice was begun again, so the page may repeat the one before.
    pub(super) fn filter(
        &mut self,
        run: &EndpointRun,
        slice: &SliceState,
        records: Vec<Vec<RawRecord>>,
        restarted: bool,
    ) -> Prepared {
        let endpoint = run.endpoint();
        let repeats = restarted || endpoint.paginator().shifts();
        let zone = Zone::of(run, slice);
        let first = records.first().map_or(&[][..], Vec::as_slice);
        let times = cursor_times(endpoint, first, zone.is_some());
        let watermark = times.last().copied().flatten();
        let newest = watermark.max(first.first().and_then(|record| endpoint.cursor_of(record)));
        let is_watched = |time: Option<DateTime<Utc>>| {
            repeats || zone.is_some() || (time.is_some() && time == watermark)
        };
        let remember_from = zone.map(|zone| {
            zone.remember_from
                .or(watermark)
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
        });
        let mut prepared = Prepared {
            records: Vec::new(),
            counts: Vec::new(),
            mark: PageMark {
                watermark,
                newest,
                ..PageMark::default()
            },
        };
        let (mut page, mut buffer) = (HashSet::new(), Vec::new());
        for (index, (stream, records)) in endpoint.streams().zip(records).enumerate() {
            let mut counts = Counts {
                records: records.len() as u64,
                ..Counts::default()
            };
            let mut kept = Vec::with_capacity(records.len());
            for (position, record) in records.into_iter().enumerate() {
                let text = record.text_in(&mut buffer);
                let (bytes, hash) = (text.len(), XxHash3_128::oneshot(text));
                counts.bytes += bytes as u64;
                let time = if index == 0 {
                    times.get(position).copied().flatten()
                } else {
                    None
                };
                if !is_watched(time) {
                    kept.push(Hashed {
                        record,
                        bytes,
                        hash,
                    });
                    continue;
                }
                let content = short(&blake3::hash(text));
                page.insert(content);
                let key = time
                    .filter(|_| zone.is_some())
                    .map(|_| key_hash(stream, &record, content));
                let known = key
                    .and_then(|key| run.boundary.get(&key))
                    .is_some_and(|seen| seen.content == content);
                if known || (repeats && self.previous.contains(&content)) {
                    counts.unchanged += 1;
                    continue;
                }
                if let (Some(key), Some(time)) = (
                    key,
                    time.filter(|time| remember_from.is_some_and(|from| *time >= from)),
                ) {
                    prepared.mark.seen.push((
                        key,
                        Seen {
                            content,
                            at: time.timestamp(),
                        },
                    ));
                }
                kept.push(Hashed {
                    record,
                    bytes,
                    hash,
                });
            }
            prepared.records.push(kept);
            prepared.counts.push(counts);
        }
        self.previous = page;
        prepared
    }
}

/// The part of a slice whose records came in the last sync, or may come in the next.
#[derive(Clone, Copy)]
struct Zone {
    /// Records from here on are remembered; none: those at the page's last cursor value.
    remember_from: Option<DateTime<Utc>>,
}

impl Zone {
    /// None when no record of the slice's next page can come twice, so that nothing needs to be
    /// looked at.
    fn of(run: &EndpointRun, slice: &SliceState) -> Option<Self> {
        let endpoint = run.endpoint();
        endpoint.cursor_field()?;
        let Some(window) = slice.window else {
            return endpoint.paginator().shifts().then_some(Self {
                remember_from: None,
            });
        };
        let lookback = endpoint.slicer().lookback();
        if lookback == TimeDelta::zero() {
            return None;
        }
        let from = run.covered_until()? - lookback;
        let still_above =
            window.until > from && slice.watermark.is_none_or(|watermark| watermark >= from);
        (still_above || !run.boundary.is_empty()).then_some(Self {
            remember_from: Some(from),
        })
    }
}

/// Cursor values of a page's records: all of them, or only those at the end that equal the last,
/// which is all that progress needs.
fn cursor_times(
    endpoint: &Endpoint,
    records: &[RawRecord],
    all: bool,
) -> Vec<Option<DateTime<Utc>>> {
    let Some(cursor) = endpoint.cursor_field() else {
        return Vec::new();
    };
    let mut times = vec![None; records.len()];
    for (index, record) in records.iter().enumerate().rev() {
        times[index] = record
            .scalar(cursor.field)
            .and_then(|text| parse_time(&text, cursor.format));
        if !all && times[index] != times[records.len() - 1] {
            break;
        }
    }
    times
}

/// Of a hash that no two contents share, were they made to.
fn short(hash: &blake3::Hash) -> u64 {
    let mut short = [0; 8];
    short.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(short)
}

/// Hash of a record's key; of its content when it has none.
fn key_hash(stream: &Stream, record: &RawRecord, content: u64) -> u64 {
    if stream.key().is_empty() {
        return content;
    }
    // The hash is stored, so it must not change with the standard library: blake3 does not.
    let mut hasher = blake3::Hasher::new();
    for member in stream.key() {
        hasher
            .update(record.member(member).unwrap_or_default().as_bytes())
            .update(&[0]);
    }
    short(&hasher.finalize())
}
