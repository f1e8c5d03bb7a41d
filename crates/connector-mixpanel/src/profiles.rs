//! Profiles: the walk through a scan, and the rows made of a profile.

use pipeline_core::http::{HeaderValue, Request};
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{Advance, Error, ErrorKind, RawRecord, Result};
use url::form_urlencoded;

use crate::json::{Row, elements, find, is_object, members, of_record, quoted};
use crate::reports::GROUP;
use crate::rows::{About, or_rejected};

/// Parameters that belong into the URL.
const ADDRESS: [&str; 2] = ["project_id", "workspace_id"];

/// Columns lifted out of `$properties`.
const LIFTED: [(&str, &str); 12] = [
    ("last_seen", "$last_seen"),
    ("last_seen_raw", "$last_seen"),
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

/// True for a property that is a column anyway.
pub(crate) fn is_lifted(property: &str) -> bool {
    LIFTED.iter().any(|(_, lifted)| *lifted == property)
}

/// The profile as it is stored: its id and common properties at the top, all properties unchanged
/// below.
///
/// Profiles of groups and members of cohorts are the same with what tells whose they are.
pub(crate) fn profile(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    or_rejected(record, out, |out| profile_row(record, about, out))
}

fn profile_row(record: &RawRecord, about: &mut About<'_>, out: &mut Vec<RawRecord>) -> Result<()> {
    let profile = of_record(record)?;
    let json = find(&profile, "$properties").unwrap_or("{}");
    let properties = members(json)?;
    let mut row = Row::of(record);
    if let Some(group) = about.report.and_then(|report| report.parameter(GROUP)) {
        row = row.text(GROUP, &group);
    }
    for (name, value) in profile
        .iter()
        .filter(|(name, _)| name != "$distinct_id" && name != "$properties")
    {
        row = row.json(name, value);
    }
    row = row.json(
        "distinct_id",
        &quoted(find(&profile, "$distinct_id").unwrap_or("null")),
    );
    let is_wanted = |column: &str| {
        let mut columns = about.stream.columns.into_iter().flatten();
        columns.any(|field| field.name == column)
    };
    for (column, name) in LIFTED.iter().filter(|(column, _)| is_wanted(column)) {
        row = row.json_if(column, find(&properties, name));
    }
    for (property, value) in &properties {
        if let Some(column) = about.columns.of(property) {
            row = row.json(column, value);
        }
    }
    out.push(row.json("properties", json).build());
    Ok(())
}

/// The entries of a list that a profile keeps as a property, such as its transactions.
pub(crate) fn list_items(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    or_rejected(record, out, |out| item_rows(record, about, out))
}

fn item_rows(record: &RawRecord, about: &mut About<'_>, out: &mut Vec<RawRecord>) -> Result<()> {
    let profile = of_record(record)?;
    let Some(property) = about.stream.facts.property else {
        return Ok(());
    };
    let Some(json) = find(&profile, "$properties")
        .map(members)
        .transpose()?
        .and_then(|properties| find(&properties, property))
    else {
        return Ok(());
    };
    let id = quoted(find(&profile, "$distinct_id").unwrap_or("null"));
    // A list of one has been seen written as its only entry.
    let items = if json.starts_with('[') {
        elements(json)?
    } else {
        vec![json]
    };
    for (position, item) in items.into_iter().enumerate() {
        let mut row = Row::default()
            .json("distinct_id", &id)
            .json("position", &position.to_string());
        if is_object(item) {
            let item = members(item)?;
            row = row
                .json_if("time", find(&item, "$time"))
                .json_if("amount", find(&item, "$amount"));
        }
        out.push(row.json("value", item).build());
    }
    Ok(())
}

/// Walks the pages of a scan, all of one session, which is the server's snapshot of the profiles.
///
/// The position is `page total:rows session`, and `page total:rows:1 session` in a scan that was
/// begun anew. The total is reported on the first page only, and is `-` when it is not reported at
/// all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionPages;

impl Paginator for SessionPages {
    /// The parameters go into a form; only the project is named in the URL.
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        let (address, form): (Vec<_>, Vec<_>) = request
            .query
            .drain(..)
            .partition(|(name, _)| ADDRESS.contains(&name.as_str()));
        request.query = address;
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form {
            match name.as_str() {
                // The parent's record fills in a bare number.
                "filter_by_cohort" => body.append_pair(&name, &format!("{{\"id\":{value}}}")),
                _ => body.append_pair(&name, &value),
            };
        }
        if let Some(place) = Place::of(at)?.filter(|place| place.page > 0) {
            body.append_pair("page", &place.page.to_string())
                .append_pair("session_id", place.session);
        }
        request.body = body.finish().into();
        request.headers.insert(
            "content-type",
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        Ok(())
    }

    /// A page is the last when it is shorter than the size that the server reports and the total
    /// announces no further page. A scan that ends too early would count every profile behind it as
    /// deleted, so an empty page alone ends nothing, and a scan that ends with fewer different
    /// profiles than its total, or with an empty page and without a total, is begun anew once.
    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let place = Place::of(at)?.unwrap_or_default();
        let number = |path| {
            page.envelope
                .text(path)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let size = number("page_size").ok_or_else(|| missing("page_size"))?;
        let total = place.total.or_else(|| number("total"));
        let rows = page.records.len() as u64;
        let read = place.rows.map(|read| read + page.fresh as u64);
        let has_more = total.is_some_and(|total| (place.page + 1).saturating_mul(size) < total);
        if !has_more && (rows < size || rows == 0) {
            return match total {
                Some(total) if read.is_none_or(|read| read < total) => place
                    .anew()
                    .ok_or_else(|| short(read.unwrap_or_default(), total))
                    .map(Advance::Next),
                None if rows == 0 => place.anew().ok_or_else(unproved).map(Advance::Next),
                _ => Ok(Advance::End),
            };
        }
        let session = page
            .envelope
            .text("session_id")
            .filter(|session| !session.is_empty())
            .ok_or_else(|| missing("session_id"))?;
        Ok(Advance::Next(
            Place {
                page: place.page + 1,
                total,
                rows: read,
                session: &session,
                ..place
            }
            .to_text(),
        ))
    }

    fn counts(&self) -> bool {
        true
    }

    fn round(&self, at: &Position) -> u32 {
        Place::of(at)
            .ok()
            .flatten()
            .map_or(0, |place| u32::from(place.is_second))
    }

    /// A session that has expired: its scan is begun anew, once. Profiles that come again merge by
    /// their key.
    fn recover(&self, at: &Position) -> Option<Position> {
        Place::of(at).ok()??.anew().map(Position::At)
    }
}

/// Where a scan is.
#[derive(Clone, Copy)]
struct Place<'a> {
    page: u64,
    total: Option<u64>,
    /// Different profiles read so far; none in a position that was stored before they were counted.
    rows: Option<u64>,
    /// True in a scan that was begun anew.
    is_second: bool,
    session: &'a str,
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self {
            page: 0,
            total: None,
            rows: Some(0),
            is_second: false,
            session: "",
        }
    }
}

impl<'a> Place<'a> {
    /// The place that a position is; none at the start of a scan.
    fn of(at: &'a Position) -> Result<Option<Self>> {
        match at {
            Position::At(text) => Self::parse(text).map(Some),
            Position::Start | Position::End => Ok(None),
        }
    }

    fn parse(text: &'a str) -> Result<Self> {
        let damaged = || {
            Error::new(
                ErrorKind::Decode,
                "the stored position is not a page of a scan",
            )
        };
        let mut parts = text.splitn(3, ' ');
        let page = parts
            .next()
            .and_then(|page| page.parse().ok())
            .ok_or_else(damaged)?;
        let mut counts = parts.next().ok_or_else(damaged)?.split(':');
        let total = counts.next().and_then(|total| total.parse().ok());
        let rows = counts.next().and_then(|rows| rows.parse().ok());
        Ok(Self {
            page,
            total,
            rows,
            is_second: counts.next().is_some(),
            session: parts.next().ok_or_else(damaged)?,
        })
    }

    fn to_text(self) -> String {
        let shown = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        let Self { page, session, .. } = self;
        format!(
            "{page} {}:{}{} {session}",
            shown(self.total),
            shown(self.rows),
            if self.is_second { ":1" } else { "" }
        )
    }

    /// The start of another scan; none in one that is the second already.
    fn anew(self) -> Option<String> {
        (!self.is_second).then(|| {
            Place {
                is_second: true,
                ..Self::default()
            }
            .to_text()
        })
    }
}

/// A second scan that brought fewer profiles than it announced.
fn short(rows: u64, total: u64) -> Error {
    Error::new(ErrorKind::Unavailable, "a scan ended with fewer profiles than its own total, twice")
        .with_context("profiles", rows.to_string())
        .with_context("total", total.to_string())
        .with_help("the profiles that are stored stay as they are; run again later, and report it to mixpanel if it stays so")
}

/// A second scan without a total that an empty page ended.
fn unproved() -> Error {
    Error::new(ErrorKind::Unavailable, "a scan without a total ended with an empty page, twice, so nothing shows that it was complete")
        .with_help("the profiles that are stored stay as they are; run again later, and report it to mixpanel if it stays so")
}

fn missing(path: &'static str) -> Error {
    Error::new(
        ErrorKind::Decode,
        "the response lacks the member that says whether the scan continues",
    )
    .with_context("member", path)
}
