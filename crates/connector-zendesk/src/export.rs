//! What is peculiar to the incremental exports: how a cursor export starts, and how it survives a refused cursor.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::paginate::{CursorField, More, PageView, Paginator};
use pipeline_core::slice::{Slicer, StartTime, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState};
use pipeline_core::{Advance, Result, TimeFormat};

/// Query parameter of the first request of every export.
pub(crate) const START_TIME: &str = "start_time";

/// Youngest start that is asked for: exports refuse the last minute.
const MIN_AGE: TimeDelta = TimeDelta::seconds(61);

/// Marks a position that is a start time and not a cursor. Not a base64 digit, so never the head of a cursor.
const TIME_MARK: char = '@';

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Starts an export at a time that is old enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportStart(StartTime);

impl ExportStart {
    /// Starts with everything there is unless the user says otherwise.
    pub(crate) fn new() -> Self {
        Self(StartTime { param: START_TIME, format: TimeFormat::UnixSeconds, earliest: DateTime::UNIX_EPOCH })
    }
}

impl Slicer for ExportStart {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.0.plan(state, range, now - MIN_AGE)
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        self.0.apply(slice, request)
    }
}

/// Walks a cursor export. The last cursor is where the next sync goes on, however long after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportCursor(CursorField);

impl ExportCursor {
    pub(crate) fn new() -> Self {
        Self(CursorField {
            param: "cursor",
            token: "after_cursor",
            more: Some(More::WhenFalse("end_of_stream")),
            first_page_only: &[START_TIME],
            resumable: true,
        })
    }
}

impl Paginator for ExportCursor {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        match at {
            Position::At(text) if text.starts_with(TIME_MARK) => {
                request.set_query(START_TIME, text.trim_start_matches(TIME_MARK));
                Ok(())
            }
            _ => self.0.apply(at, request),
        }
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let advance = self.0.advance(at, page)?;
        // Nothing changed since the start, so there is no cursor yet: the next sync starts at the same time.
        match page.request.query.iter().find(|(name, _)| name == START_TIME) {
            Some((_, start)) if advance == Advance::End => Ok(Advance::CaughtUp(format!("{TIME_MARK}{start}"))),
            _ => Ok(advance),
        }
    }

    /// A cursor holds the time of the last record read. Starting again at that second repeats rows and loses none.
    fn recover(&self, at: &Position) -> Option<Position> {
        let Position::At(cursor) = at else { return None };
        Some(Position::At(format!("{TIME_MARK}{}", cursor_seconds(cursor)?)))
    }
}

/// The second in a cursor, which is base64 of `1770000000.0||42|`; none when it is something else.
fn cursor_seconds(cursor: &str) -> Option<i64> {
    let text = String::from_utf8(BASE64.decode(cursor).ok()?).ok()?;
    let (time, _id) = text.split_once("||")?;
    time.split('.').next()?.parse().ok()
}
