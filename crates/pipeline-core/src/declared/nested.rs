//! Lists inside records, of which vendors send the beginning only: how the rest is read, so that no record holds a part of
//! a list as if it were all of it.

use std::collections::HashSet;

use bytes::Bytes;
use futures::stream;
use futures::{StreamExt, TryStreamExt};

use super::shared::Walker;
use super::{List, Walk, children, map_records};
use crate::endpoint::{Endpoint, NestedList};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{HeaderMap, HttpClient, Method, Request};
use crate::paginate::PageView;
use crate::record::{Advance, Page, RawRecord, split};
use crate::state::{Position, SliceState};

#[cfg(test)]
mod tests;

/// Records whose lists are completed at the same time.
const AT_ONCE: usize = 16;

/// What a record that was fetched by itself holds: the records of every stream that the endpoint feeds, in their order,
/// each list inside it completed. What a connector needs that hears of a single change.
///
/// # Errors
/// As [`HttpClient::send`], and [`ErrorKind::Decode`] when a list does not hold what it says.
pub async fn read_record(client: &HttpClient, endpoint: &Endpoint, record: RawRecord) -> Result<Vec<Vec<RawRecord>>> {
    let found = endpoint.feeds.iter().filter(|feed| feed.inside.is_none()).enumerate();
    let found = found.map(|(index, _)| if index == 0 { vec![record.clone()] } else { Vec::new() }).collect();
    let (records, _) = spread(client, endpoint, found).await?;
    map_records(endpoint, records)
}

/// Completes the lists inside the records of the first stream, and adds the records of the streams inside them. Gives the
/// records of all streams, and how many lists are not complete because the record is gone meanwhile.
pub(super) async fn spread(client: &HttpClient, endpoint: &Endpoint, mut found: Vec<Vec<RawRecord>>) -> Result<(Vec<Vec<RawRecord>>, u64)> {
    if endpoint.nested.is_empty() {
        return Ok((found, 0));
    }
    let owners = found.first_mut().map(std::mem::take).unwrap_or_default();
    // Nearly all lists are whole, and then there is nothing to wait for.
    let is_whole = |record| wanted(endpoint).all(|list| matches!(Beginning::of(list, record), Ok(None)));
    let (owners, gone) = if owners.iter().all(is_whole) {
        (owners, 0)
    } else {
        let completed = stream::iter(owners).map(|record| complete(client, endpoint, record)).buffered(AT_ONCE);
        let completed: Vec<(RawRecord, u64)> = completed.try_collect().await?;
        let gone = completed.iter().map(|(_, gone)| gone).sum();
        (completed.into_iter().map(|(record, _)| record).collect(), gone)
    };
    let lists = endpoint.nested.iter().enumerate();
    let inside = lists.map(|(index, list)| if endpoint.wants_nested(index) { entries(list, &owners) } else { Ok(Vec::new()) });
    let mut inside = inside.collect::<Result<Vec<_>>>()?;
    let mut found = std::iter::once(owners).chain(found.into_iter().skip(1));
    let records = endpoint.feeds.iter().map(|feed| match feed.inside {
        Some(list) => std::mem::take(&mut inside[list]),
        None => found.next().unwrap_or_default(),
    });
    Ok((records.collect(), gone))
}

/// The lists that somebody wants.
fn wanted(endpoint: &Endpoint) -> impl Iterator<Item = &NestedList> {
    let is_wanted = |index| endpoint.wants(0) || endpoint.wants_nested(index);
    endpoint.nested.iter().enumerate().filter_map(move |(index, list)| is_wanted(index).then_some(list))
}

/// Completes every list inside a record, but for those that nobody wants.
async fn complete(client: &HttpClient, endpoint: &Endpoint, mut record: RawRecord) -> Result<(RawRecord, u64)> {
    let mut gone = 0;
    for list in wanted(endpoint) {
        let Some(beginning) = Beginning::of(list, &record)? else { continue };
        match beginning.rest(client, &record).await? {
            Some(all) => record = beginning.replace(&record, &all)?,
            None => gone += 1,
        }
    }
    Ok((record, gone))
}

/// The entries of a list, of all records.
fn entries(list: &NestedList, owners: &[RawRecord]) -> Result<Vec<RawRecord>> {
    let mut entries = Vec::new();
    for owner in owners {
        let Some(json) = owner.slice(list.member).filter(|json| json.starts_with(b"{")) else { continue };
        let own = split(&json, &[list.entries()?.clone()])?.records.swap_remove(0);
        entries.extend(own.iter().map(|entry| children::inherit(entry, owner, &list.inherited)));
    }
    Ok(entries)
}

/// What the vendor sent of a list that goes on.
struct Beginning<'a> {
    list: &'a NestedList,
    json: Bytes,
    entries: Vec<RawRecord>,
    /// Where the list goes on; its start when the beginning does not tell, and is of no use then.
    position: Position,
    total: Option<usize>,
}

impl<'a> Beginning<'a> {
    /// None when there is no list or all of it is there.
    fn of(list: &'a NestedList, record: &RawRecord) -> Result<Option<Self>> {
        let Some(json) = record.slice(list.member).filter(|json| json.starts_with(b"{")) else { return Ok(None) };
        let parsed = RawRecord::upsert(json.clone());
        if parsed.member(list.more) != Some("true") {
            return Ok(None);
        }
        let total = list.total.and_then(|total| parsed.scalar(total)?.parse().ok());
        let mut split = split(&json, &[list.entries()?.clone()])?;
        let entries = split.records.swap_remove(0);
        // Nobody asked for this page: the record brought it along.
        let request = Request::new(Method::GET, nowhere()?);
        let view = PageView { request: &request, headers: &HeaderMap::new(), envelope: &split.envelope, records: &entries };
        let position = match list.list.paginator.advance(&Position::Start, &view) {
            Ok(Advance::Next(next)) if are_distinct(list, &entries) => Position::At(next),
            _ => Position::Start,
        };
        Ok(Some(Self { list, json, entries, position, total }))
    }

    /// All entries; none when the record does not exist any more.
    async fn rest(&self, client: &HttpClient, record: &RawRecord) -> Result<Option<Vec<RawRecord>>> {
        let list = List { client: client.clone(), endpoint: &self.list.list, parent: Some(record.clone()), walker: Walker::Own };
        let mut all = if self.position == Position::Start { Vec::new() } else { self.entries.clone() };
        let mut walk = Walk::from(SliceState { position: self.position.clone(), ..SliceState::default() });
        loop {
            let (request, response) = list.fetch(&walk.slice, &mut walk.position).await?;
            if !response.status.is_success() {
                return Ok(None);
            }
            let (records, advance) = list.cut(&walk.position, &request, &response)?;
            let page = Page::new(records, Some(advance));
            let goes_on = walk.step(&page)?;
            all.extend(page.records.into_iter().next().unwrap_or_default());
            if !goes_on {
                break;
            }
        }
        match self.total {
            Some(total) if total != all.len() => {
                Err(Error::new(ErrorKind::Decode, "a list inside a record does not hold as many entries as it says")
                    .with_context("list", self.list.member)
                    .with_context("entries", format!("{} of {total}", all.len()))
                    .with_help("run again: it may have changed while it was read"))
            }
            _ => Ok(Some(all)),
        }
    }

    /// The record with all of the list in the place of its beginning.
    fn replace(&self, record: &RawRecord, all: &[RawRecord]) -> Result<RawRecord> {
        let mut entries = String::from("[");
        for (index, entry) in all.iter().enumerate() {
            if index > 0 {
                entries.push(',');
            }
            entries.push_str(&String::from_utf8_lossy(entry.as_bytes()));
        }
        entries.push(']');
        let list = RawRecord::upsert(self.json.clone());
        let place = self.list.entries()?.name().unwrap_or_default().to_owned();
        let members = list.members()?;
        let members = members.iter().map(|(name, value)| match &**name {
            name if name == place => (name, entries.as_str()),
            name if name == self.list.more => (name, "false"),
            name => (name, *value),
        });
        let list = RawRecord::from_members(members);
        let list = String::from_utf8_lossy(list.as_bytes());
        let members = record.members()?;
        let members = members.iter().map(|(name, value)| if name == self.list.member { (&**name, &*list) } else { (&**name, *value) });
        Ok(RawRecord::from_members(members))
    }
}

/// False when entries share a key: then none of them tells where the list goes on.
fn are_distinct(list: &NestedList, entries: &[RawRecord]) -> bool {
    let Some(feed) = list.list.feeds.first() else { return true };
    let key = |entry: &RawRecord| feed.stream.key().iter().map(|member| entry.scalar(member)).collect::<Vec<_>>();
    let mut seen = HashSet::new();
    feed.stream.key().is_empty() || entries.iter().all(|entry| seen.insert(key(entry)))
}

fn nowhere() -> Result<url::Url> {
    url::Url::parse("https://localhost").map_err(|error| Error::new(ErrorKind::Unexpected, "no URL").with_source(error))
}
