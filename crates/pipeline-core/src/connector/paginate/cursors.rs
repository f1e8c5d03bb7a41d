//! Lists walked by a token or by the last record.

use super::{PageView, Paginator, current};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Request;
use crate::model::record::Advance;
use crate::model::state::Position;

/// Ids that [`AfterLastId`] keeps in its position, so that deleted records cannot strand it.
const REMEMBERED_IDS: usize = 20;

/// Stands between those ids. Customers choose some ids, which can hold spaces.
const ID_SEPARATOR: char = '\n';

/// The id that a position of [`AfterLastId`] names.
fn last_id(ids: &str) -> &str {
    ids.rsplit(ID_SEPARATOR).next().unwrap_or(ids)
}

/// The whole list in one response.
///
/// ```
/// use pipeline_core::Endpoint;
/// use pipeline_core::paginate::SinglePage;
///
/// let currencies = Endpoint::get("currencies", "/v1/currencies").paginate(SinglePage);
/// assert!(!currencies.paginator().expects_list(), "the answer may be one object");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SinglePage;

impl Paginator for SinglePage {
    fn apply(&self, _at: &Position, _request: &mut Request) -> Result<()> {
        Ok(())
    }

    fn advance(&self, _at: &Position, _page: &PageView<'_>) -> Result<Advance> {
        Ok(Advance::End)
    }

    fn expects_list(&self) -> bool {
        false
    }
}

/// A token in the body names the next page.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{CursorField, Paginator};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = CursorField { param: "cursor", token: "next", more: None, first_page_only: &[], resumable: false };
/// paginator.apply(&Position::At("b2Zmc2V0".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?cursor=b2Zmc2V0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CursorField {
    /// Query parameter that takes the token.
    pub param: &'static str,
    /// Path of the token in the body, such as `meta/after_cursor`.
    pub token: &'static str,
    /// Path of the flag that decides; none: a missing or empty token ends the list.
    pub more: Option<More>,
    /// Query parameters that must not be sent together with a token.
    pub first_page_only: &'static [&'static str],
    /// True when the token of the last page is where the next sync resumes.
    pub resumable: bool,
}

/// The flag for whether a list has more pages.
#[derive(Clone, Copy, Debug)]
pub enum More {
    /// True at this path: there is another page.
    WhenTrue(&'static str),
    /// False at this path: there is another page.
    WhenFalse(&'static str),
}

impl More {
    fn read(self, page: &PageView<'_>) -> Result<bool> {
        let (path, expected) = match self {
            Self::WhenTrue(path) => (path, true),
            Self::WhenFalse(path) => (path, false),
        };
        let flag = page.envelope.flag(path).ok_or_else(|| missing(path))?;
        Ok(flag == expected)
    }
}

impl Paginator for CursorField {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        if let Some(token) = current(at) {
            for param in self.first_page_only {
                request.remove_query(param);
            }
            request.set_query(self.param, token);
        }
        Ok(())
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let token = page
            .envelope
            .text(self.token)
            .filter(|token| !token.is_empty());
        let more = match self.more {
            Some(more) => more.read(page)?,
            None => token.is_some(),
        };
        match (more, token) {
            (true, Some(token)) => Ok(Advance::Next(token)),
            (true, None) => Err(missing(self.token)),
            (false, Some(token)) if self.resumable => Ok(Advance::CaughtUp(token)),
            // Nothing new: the next sync resumes at this position.
            (false, None) if self.resumable => {
                Ok(current(at).map_or(Advance::End, |token| Advance::CaughtUp(token.to_owned())))
            }
            (false, _) => Ok(Advance::End),
        }
    }
}

/// The next page starts after the last record of this one.
///
/// The position remembers the ids of the last few records: a list refuses an id that was deleted
/// meanwhile, and going back to the one before it neither repeats nor skips a row.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{AfterLastId, Paginator};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = AfterLastId { param: "after", more: "has_more", id: "id" };
/// paginator.apply(&Position::At("ord_7".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?after=ord_7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AfterLastId {
    /// Query parameter that takes the id.
    pub param: &'static str,
    /// Path of the flag that is true when there is another page.
    pub more: &'static str,
    /// The record's member that is its id.
    pub id: &'static str,
}

impl Paginator for AfterLastId {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        if let Some(ids) = current(at) {
            request.set_query(self.param, last_id(ids));
        }
        Ok(())
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        if !page
            .envelope
            .flag(self.more)
            .ok_or_else(|| missing(self.more))?
        {
            return Ok(Advance::End);
        }
        if page.records.is_empty() {
            return Err(Error::new(
                ErrorKind::Decode,
                "the list says that there is more but the page is empty",
            ));
        }
        let remembered = page.records.len().saturating_sub(REMEMBERED_IDS);
        let ids: Option<Vec<String>> = page.records[remembered..]
            .iter()
            .map(|record| record.scalar(self.id))
            .collect();
        let ids = ids.ok_or_else(|| {
            Error::new(
                ErrorKind::Decode,
                "a record has no id, so the next page cannot be asked for",
            )
        })?;
        let last = ids.last().map_or("", String::as_str);
        if current(at).is_some_and(|ids| last_id(ids) == last) {
            return Err(super::not_advancing(last));
        }
        Ok(Advance::Next(ids.join(&ID_SEPARATOR.to_string())))
    }

    fn recover(&self, at: &Position) -> Option<Position> {
        let (earlier, _refused) = current(at)?.rsplit_once(ID_SEPARATOR)?;
        Some(Position::At(earlier.to_owned()))
    }
}

/// A window that slides over time: the response says where it ends, and the next page starts there.
///
/// The boundary instant is sent again at the head of the next page, so pages repeat rows. The last
/// page's end is where the next sync resumes.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{Paginator, WindowCursor};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = WindowCursor { since: "start", until: "end_time", done: "end_of_stream" };
/// paginator.apply(&Position::At("1764547200".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?start=1764547200");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WindowCursor {
    /// Query parameter that takes the start of the window.
    pub since: &'static str,
    /// Path of the window's end in the body.
    pub until: &'static str,
    /// Path of the flag that is true on the last page.
    pub done: &'static str,
}

impl Paginator for WindowCursor {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        if let Some(since) = current(at) {
            request.set_query(self.since, since);
        }
        Ok(())
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let start = request_value(page.request, self.since);
        let until = page.envelope.text(self.until);
        let done = page
            .envelope
            .flag(self.done)
            .unwrap_or(page.records.is_empty());
        match until {
            Some(until) if done => Ok(Advance::CaughtUp(until)),
            Some(until) if start.as_deref() == Some(until.as_str()) => {
                Err(super::not_advancing(&until))
            }
            Some(until) => Ok(Advance::Next(until)),
            None if done => Ok(current(at)
                .map(ToOwned::to_owned)
                .or(start)
                .map_or(Advance::End, Advance::CaughtUp)),
            None => Err(missing(self.until)),
        }
    }

    fn shifts(&self) -> bool {
        true
    }

    /// At the end of the list nothing but the boundary instant may be left.
    fn may_repeat(&self, next: &Advance) -> bool {
        matches!(next, Advance::CaughtUp(_))
    }
}

fn request_value(request: &Request, name: &str) -> Option<String> {
    request
        .query
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

/// The error for a body without the member for whether the list has more pages.
fn missing(path: &str) -> Error {
    Error::new(
        ErrorKind::Decode,
        "the response lacks the member that says whether the list has more pages",
    )
    .with_context("member", path.to_owned())
}
