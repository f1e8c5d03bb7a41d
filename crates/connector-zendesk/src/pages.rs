//! Walks every list of Zendesk: the answer tells by its shape how the next page is asked for.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use pipeline_core::http::Request;
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{Advance, Error, ErrorKind, Result};
use url::Url;

use crate::slices::START_TIME;
use crate::vendor::Pages;

/// Most records that an export puts on a page.
pub(crate) const LARGEST_PAGE: u32 = 1000;

/// Query parameter of the size of pages that are numbered or exported.
pub(crate) const PER_PAGE: &str = "per_page";

/// Query parameters that name a page, the one that is believed first, first.
const PAGE_PARAMETERS: [&str; 4] = ["page[after]", "cursor", "page", START_TIME];

/// Lenient about padding: cursors come with and without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A paginator for all four envelopes and for none.
///
/// A position holds the parameters of the page, such as `page[after]=abc`: never a link of the
/// vendor's, which may lead to another host. An export has no last page but catches up, and the
/// position then is where the next sync goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyPages {
    pages: Pages,
    /// How much of the time before the end of an export is read again by the next sync.
    lookback: Duration,
}

impl AnyPages {
    pub(crate) fn new(pages: Pages, lookback: Duration) -> Self {
        Self { pages, lookback }
    }

    fn is_export(self) -> bool {
        matches!(
            self.pages,
            Pages::CursorExport | Pages::TimeExport | Pages::TimePages | Pages::CursorFeed
        )
    }

    /// Nothing more now. An export goes on later, a list is over.
    fn caught_up(self, position: Option<String>) -> Advance {
        position
            .filter(|_| self.is_export())
            .map_or(Advance::End, Advance::CaughtUp)
    }

    /// Pages by cursor: the flag decides and nothing else, for the link to the next page is there
    /// on the last one too.
    fn cursor_page(page: &PageView<'_>) -> Result<Advance> {
        let link = page
            .envelope
            .text("links/next")
            .and_then(|link| parameter(&link, &["page[after]"]));
        let token = page
            .envelope
            .text("meta/after_cursor")
            .filter(|token| !token.is_empty());
        let next = token.map(|token| format!("page[after]={token}")).or(link);
        match (page.envelope.flag("meta/has_more"), next) {
            (Some(false), _) | (None, None) => Ok(Advance::End),
            (_, Some(next)) => Ok(Advance::Next(next)),
            (Some(true), None) => Err(missing("meta/after_cursor")),
        }
    }

    /// An export by cursor.
    fn cursor_export(self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let url = page
            .envelope
            .text("after_url")
            .filter(|url| !url.is_empty());
        let token = page
            .envelope
            .text("after_cursor")
            .filter(|token| !token.is_empty());
        let next = token
            .map(|token| format!("cursor={token}"))
            .or_else(|| parameter(url.as_deref()?, &["cursor"]));
        let goes_on = match page.envelope.flag("end_of_stream") {
            Some(ended) => !ended,
            None => url.is_some() && next.as_deref() != text(at),
        };
        match (goes_on, next) {
            (true, Some(next)) => Ok(Advance::Next(next)),
            (true, None) => Err(missing("after_cursor")),
            // Without a cursor nothing is new: the next sync goes on from here.
            (false, next) => Ok(self.caught_up(next.or_else(|| here(at, page)))),
        }
    }

    /// An export by time: the next page starts at the end of this one, whose last second it
    /// repeats.
    fn time_export(self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let number = |text: String| text.parse::<i64>().ok();
        let start = sent(page.request, START_TIME).and_then(number).unwrap_or(0);
        let size = sent(page.request, PER_PAGE)
            .and_then(number)
            .filter(|_| self.pages == Pages::TimeExport);
        let count = i64::try_from(page.records.len()).unwrap_or(i64::MAX);
        let end = page.envelope.text("end_time").and_then(number);
        let is_full = size.is_none_or(|size| count >= size);
        let is_over = page
            .envelope
            .flag("end_of_stream")
            .unwrap_or_else(|| match end {
                Some(end) if end > start => !is_full,
                // A full page at which the time stands still is one second that does not fit on it.
                Some(end) if end == start => !(is_full && size.is_some()) || count == 0,
                _ => true,
            });
        let Some(end) = end else {
            return if is_over {
                Ok(self.caught_up(here(at, page)))
            } else {
                Err(missing("end_time"))
            };
        };
        if is_over {
            let lookback = i64::try_from(self.lookback.as_secs()).unwrap_or(0);
            return Ok(self.caught_up(Some(format!("{START_TIME}={}", start.max(end - lookback)))));
        }
        if end > start {
            return Ok(Advance::Next(format!("{START_TIME}={end}")));
        }
        // The page is one second that does not fit on it. A larger page may hold it; nothing else
        // shows the rest.
        match size {
            Some(size) if size < i64::from(LARGEST_PAGE) => Ok(Advance::Next(format!("{START_TIME}={start} {PER_PAGE}={LARGEST_PAGE}"))),
            _ => Err(Error::new(ErrorKind::Decode, "more records changed within one second than an export shows, and it does not go on")
                .with_context("second", start.to_string())
                .with_help(
                    "no record was skipped; ask Zendesk to touch the records of that second, or read the list anew from a later start_date",
                )),
        }
    }

    /// A feed of changes, whose link names the next cursor for ever.
    fn feed(self, at: &Position, page: &PageView<'_>) -> Advance {
        let next = page
            .envelope
            .text("next_page")
            .and_then(|url| parameter(&url, &["cursor"]));
        match next {
            Some(next) if !page.records.is_empty() && Some(&*next) != text(at) => {
                Advance::Next(next)
            }
            next => self.caught_up(next.or_else(|| text(at).map(ToOwned::to_owned))),
        }
    }
}

impl Paginator for AnyPages {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        let Some(position) = text(at) else {
            return Ok(());
        };
        for (name, value) in position.split(' ').filter_map(|pair| pair.split_once('=')) {
            if name == "cursor" {
                request.remove_query(START_TIME);
            }
            request.set_query(name, value);
        }
        Ok(())
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let has = |member| page.envelope.get(member).is_some();
        if self.pages == Pages::CursorFeed {
            Ok(self.feed(at, page))
        } else if has("meta") {
            Self::cursor_page(page)
        } else if has("end_time") {
            self.time_export(at, page)
        } else if has("end_of_stream") || has("after_cursor") || has("after_url") {
            self.cursor_export(at, page)
        } else if let Some(next) = page
            .envelope
            .text("next_page")
            .and_then(|url| parameter(&url, &PAGE_PARAMETERS))
        {
            Ok(Advance::Next(next))
        } else {
            Ok(self.caught_up(here(at, page)))
        }
    }

    /// A cursor of an export holds the time of the last record read: starting again at that second
    /// repeats rows, and loses none.
    fn recover(&self, at: &Position) -> Option<Position> {
        let cursor = text(at)?.strip_prefix("cursor=")?;
        Some(Position::At(format!(
            "{START_TIME}={}",
            cursor_seconds(cursor)?
        )))
    }

    /// Settings come as one object, from paths that have no pages.
    fn expects_list(&self) -> bool {
        self.pages != Pages::Once
    }

    fn shifts(&self) -> bool {
        matches!(
            self.pages,
            Pages::TimeExport | Pages::TimePages | Pages::Numbered
        )
    }

    /// An export by time shows the last second of a page once more, which may be all that there is:
    /// then the time stands still.
    fn may_repeat(&self, next: &Advance) -> bool {
        let moves = |next: &str| next.starts_with(START_TIME) && !next.contains(' ');
        let is_by_time = matches!(self.pages, Pages::TimeExport | Pages::TimePages);
        is_by_time && !matches!(next, Advance::Next(next) if moves(next))
    }
}

/// Where the page was read, as a position: for the next sync when there was nothing.
fn here(at: &Position, page: &PageView<'_>) -> Option<String> {
    let start = || Some(format!("{START_TIME}={}", sent(page.request, START_TIME)?));
    text(at).map(ToOwned::to_owned).or_else(start)
}

fn text(at: &Position) -> Option<&str> {
    match at {
        Position::At(text) => Some(text),
        Position::Start | Position::End => None,
    }
}

fn sent(request: &Request, name: &str) -> Option<String> {
    request
        .query
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

/// The first of the parameters that a link has, as a position. Host and path of the link are not
/// looked at.
fn parameter(link: &str, names: &[&str]) -> Option<String> {
    let base = Url::parse("https://zendesk.invalid").ok()?;
    let link = base.join(link).ok()?;
    let find = |name: &&str| {
        link.query_pairs()
            .find(|(known, value)| known == name && !value.is_empty())
    };
    names
        .iter()
        .find_map(find)
        .map(|(name, value)| format!("{name}={value}"))
}

/// The second in an export's cursor, which is base64 of `1770000000.0||42|`; none when it is
/// something else.
fn cursor_seconds(cursor: &str) -> Option<i64> {
    let text = String::from_utf8(BASE64.decode(cursor).ok()?).ok()?;
    let (time, _id) = text.split_once("||")?;
    time.split('.').next()?.parse().ok()
}

/// The error for an answer that lacks what tells where it goes on.
fn missing(member: &'static str) -> Error {
    Error::new(
        ErrorKind::Decode,
        "the response lacks the member that tells where the list goes on",
    )
    .with_context("member", member)
}
