//! Profiles: the walk through a scan, and the rows made of a profile.

use pipeline_core::http::{HeaderValue, Request};
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{Advance, Error, ErrorKind, RawRecord, Result};
use url::form_urlencoded;

use crate::json::{Row, elements, find, is_object, members, quoted, text};
use crate::reports::GROUP;
use crate::rows::About;
use crate::table::Source;

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

/// The profile as it is stored: its id and common properties at the top, all properties unchanged below.
///
/// Profiles of groups and members of cohorts are the same with what tells whose they are.
pub(crate) fn profile(record: &RawRecord, about: &mut About<'_>, out: &mut Vec<RawRecord>) -> Result<()> {
    let profile = members(text(record)?)?;
    let json = find(&profile, "$properties").unwrap_or("{}");
    let properties = members(json)?;
    let mut row = Row::with_capacity(json.len() + json.len() / 2 + 256);
    if let Some(group) = about.report.and_then(|report| report.parameter(GROUP)) {
        row = row.text(GROUP, &group);
    }
    for (name, value) in profile.iter().filter(|(name, _)| name != "$distinct_id" && name != "$properties") {
        row = row.json(name, value);
    }
    row = row.json("distinct_id", &quoted(find(&profile, "$distinct_id").unwrap_or("null")));
    let is_wanted = |column: &str| about.stream.columns.iter().any(|field| field.name == column);
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
pub(crate) fn list_items(record: &RawRecord, about: &mut About<'_>, out: &mut Vec<RawRecord>) -> Result<()> {
    let profile = members(text(record)?)?;
    let Source::Property(property) = about.stream.source else { return Ok(()) };
    let Some(json) = find(&profile, "$properties").map(members).transpose()?.and_then(|properties| find(&properties, property)) else {
        return Ok(());
    };
    let id = quoted(find(&profile, "$distinct_id").unwrap_or("null"));
    // A list of one has been seen written as its only entry.
    let items = if json.starts_with('[') { elements(json)? } else { vec![json] };
    for (position, item) in items.into_iter().enumerate() {
        let mut row = Row::default().json("distinct_id", &id).json("position", &position.to_string());
        if is_object(item) {
            let item = members(item)?;
            row = row.json_if("time", find(&item, "$time")).json_if("amount", find(&item, "$amount"));
        }
        out.push(row.json("value", item).build());
    }
    Ok(())
}

/// Walks the pages of a scan, all of one session, which is the server's snapshot of the profiles.
///
/// The position is `page total session`. The total is told on the first page only; `-` when it is not told at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionPages;

impl Paginator for SessionPages {
    /// What is asked for goes into a form; only the project is named in the URL.
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        let (address, form): (Vec<_>, Vec<_>) = request.query.drain(..).partition(|(name, _)| ADDRESS.contains(&name.as_str()));
        request.query = address;
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form {
            match name.as_str() {
                // The parent's record fills in a bare number.
                "filter_by_cohort" => body.append_pair(&name, &format!("{{\"id\":{value}}}")),
                _ => body.append_pair(&name, &value),
            };
        }
        if let Position::At(text) = at {
            let place = Place::parse(text)?;
            body.append_pair("page", &place.page.to_string()).append_pair("session_id", place.session);
        }
        request.body = body.finish().into();
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
