//! Profiles: the walk through a scan, and the record made of a profile.

use pipeline_core::http::{HeaderValue, Request};
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{Advance, Error, ErrorKind, RawRecord, Result};
use url::form_urlencoded;

use crate::line::{member, quoted};

/// Columns lifted out of `$properties`.
const LIFTED: [(&str, &str); 11] = [
    ("last_seen", "$last_seen"),
    ("created", "$created"),
    ("email", "$email"),
    ("name", "$name"),
    ("first_name", "$first_name"),
    ("last_name", "$last_name"),
    ("phone", "$phone"),
    ("city", "$city"),
    ("region", "$region"),
    ("country_code", "$country_code"),
    ("timezone", "$timezone"),
];

/// The profile as it is stored: its id and common properties at the top, all properties unchanged below.
pub(crate) fn profile(record: &RawRecord) -> Result<RawRecord> {
    let members = record.members()?;
    let id = member(&members, "$distinct_id").map_or("null".into(), quoted);
    let json = member(&members, "$properties").unwrap_or("{}");
    let properties = RawRecord::upsert(json.to_owned());
    let values = properties.members()?;
    let lifted = LIFTED.iter().map(|(column, name)| (*column, member(&values, name).unwrap_or("null")));
    let others = members.iter().filter(|(name, _)| name != "$distinct_id" && name != "$properties");
    let others = others.map(|(name, value)| (&**name, *value));
    Ok(RawRecord::from_members([("distinct_id", &*id)].into_iter().chain(lifted).chain([("properties", json)]).chain(others)))
}

/// Walks the pages of a scan, all of one session, which is the server's snapshot of the profiles.
///
/// The position is `page total session`. The total is told on the first page only; `-` when it is not told at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionPages;

impl Paginator for SessionPages {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        if let Position::At(text) = at {
            let place = Place::parse(text)?;
            let form = form_urlencoded::Serializer::new(String::new())
                .append_pair("page", &place.page.to_string())
                .append_pair("session_id", place.session)
                .finish();
            request.body = form.into();
        }
        request.headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
        Ok(())
    }

    /// A page is the last when it is shorter than the size that the server tells and the total names no further page. A
    /// scan that ends too early would count every profile behind it as deleted, so an empty page alone ends nothing.
    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let place = match at {
            Position::At(text) => Place::parse(text)?,
            Position::Start | Position::End => Place { page: 0, total: None, session: "" },
        };
        let number = |path| page.envelope.text(path).and_then(|text| text.parse::<u64>().ok());
        let size = number("page_size").ok_or_else(|| missing("page_size"))?;
        let total = place.total.or_else(|| number("total"));
        let rows = page.records.len() as u64;
        let has_more = total.is_some_and(|total| (place.page + 1).saturating_mul(size) < total);
        if !has_more && (rows < size || rows == 0) {
            return Ok(Advance::End);
        }
        let session = page.envelope.text("session_id").filter(|session| !session.is_empty()).ok_or_else(|| missing("session_id"))?;
        Ok(Advance::Next(Place { page: place.page + 1, total, session: &session }.to_text()))
    }
}

/// Where a scan is.
struct Place<'a> {
    page: u64,
    total: Option<u64>,
    session: &'a str,
}

impl<'a> Place<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Decode, "the stored position is not a page of a scan");
        let mut parts = text.splitn(3, ' ');
        let page = parts.next().and_then(|page| page.parse().ok()).ok_or_else(damaged)?;
        let total = parts.next().ok_or_else(damaged)?.parse().ok();
        Ok(Self { page, total, session: parts.next().ok_or_else(damaged)? })
    }

    fn to_text(&self) -> String {
        let total = self.total.map_or("-".to_owned(), |total| total.to_string());
        format!("{} {total} {}", self.page, self.session)
    }
}

fn missing(path: &'static str) -> Error {
    Error::new(ErrorKind::Decode, "the response lacks the member that tells whether the scan goes on").with_context("member", path)
}
