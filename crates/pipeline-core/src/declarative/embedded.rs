//! Lists inside records, of which vendors send the beginning only: how the rest is read, so that no
//! record holds a part of a list as if it were all of it.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::parents::Inheritance;
use super::{List, Reader, Walk, map_records, walk};
use crate::connector::Endpoint;
use crate::connector::nested_list::EmbeddedList;
use crate::connector::paginate::PageView;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{HeaderMap, Method};
use crate::message::Request;
use crate::model::record::{Added, Advance, Page, RawRecord, split};
use crate::model::state::{Position, SliceState};

#[cfg(test)]
mod tests;

/// Records whose lists are completed at the same time.
const AT_ONCE: usize = 16;

/// See [`Reader::read_record`].
pub(super) async fn read_record(
    reader: &Reader,
    endpoint: &Endpoint,
    record: RawRecord,
) -> Result<Vec<Vec<RawRecord>>> {
    let found = endpoint
        .feeds
        .iter()
        .filter(|feed| feed.inside.is_none())
        .enumerate();
    let found = found
        .map(|(index, _)| {
            if index == 0 {
                vec![record.clone()]
            } else {
                Vec::new()
            }
        })
        .collect();
    let Spread {
        records,
        asked,
        gone,
    } = spread(reader, endpoint, found).await?;
    match asked.into_iter().find_map(Result::err) {
        Some((_, error)) => Err(error),
        // The record was there a moment ago: whether it is, the next attempt shows.
        None if gone > 0 => Err(Error::new(
            ErrorKind::Refused,
            "a list inside a record is not found, and the record is",
        )),
        None => map_records(endpoint, records),
    }
}

/// The records of a page with the lists inside them.
pub(super) struct Spread {
    /// The records of every stream that the endpoint feeds.
    pub(super) records: Vec<Vec<RawRecord>>,
    /// Lists that are not complete because the record is gone meanwhile.
    pub(super) gone: u64,
    /// For each record of which something was asked for, in their order, whether it is complete.
    /// One that is not has the beginning of its list, as the vendor sent it.
    pub(super) asked: Vec<Result<(), (RawRecord, Error)>>,
}

/// Completes the lists inside the records of the first stream, and adds the records of the streams
/// inside them.
pub(super) async fn spread(
    reader: &Reader,
    endpoint: &Endpoint,
    mut found: Vec<Vec<RawRecord>>,
) -> Result<Spread> {
    if endpoint.nested.is_empty() {
        return Ok(Spread {
            records: found,
            gone: 0,
            asked: Vec::new(),
        });
    }
    let mut owners = found.first_mut().map(std::mem::take).unwrap_or_default();
    // Nearly all lists are whole: they must not stand in line before those that something is asked
    // for.
    let is_whole = |record: &RawRecord| {
        wanted(endpoint).all(|list| matches!(Beginning::of(list, record), Ok(None)))
    };
    let (mut gone, mut asked) = (0, Vec::new());
    let partial: Vec<(usize, RawRecord)> = owners
        .iter()
        .enumerate()
        .filter(|(_, record)| !is_whole(record))
        .map(|(index, record)| (index, record.clone()))
        .collect();
    let complete =
        |(index, record)| async move { (index, complete(reader, endpoint, record).await) };
    let mut completed = stream::iter(partial).map(complete).buffered(AT_ONCE);
    while let Some((
        index,
        Completed {
            record,
            gone: missing,
            error,
        },
    )) = completed.next().await
    {
        gone += missing;
        asked.push(error.map_or(Ok(()), |error| Err((record.clone(), error))));
        owners[index] = record;
    }
    let lists = endpoint.nested.iter().enumerate();
    let inside = lists.map(|(index, list)| {
        if endpoint.wants_embedded(index) {
            entries(list, &owners)
        } else {
            Ok(Vec::new())
        }
    });
    let mut inside = inside.collect::<Result<Vec<_>>>()?;
    let mut found = std::iter::once(owners).chain(found.into_iter().skip(1));
    let records = endpoint.feeds.iter().map(|feed| match feed.inside {
        Some(list) => std::mem::take(&mut inside[list]),
        None => found.next().unwrap_or_default(),
    });
    Ok(Spread {
        records: records.collect(),
        gone,
        asked,
    })
}

/// The lists that somebody wants.
fn wanted(endpoint: &Endpoint) -> impl Iterator<Item = &EmbeddedList> {
    let is_wanted = |index| endpoint.wants(0) || endpoint.wants_embedded(index);
    endpoint
        .nested
        .iter()
        .enumerate()
        .filter_map(move |(index, list)| is_wanted(index).then_some(list))
}

/// A record whose lists were completed as far as possible.
struct Completed {
    record: RawRecord,
    gone: u64,
    /// Why a list could not be completed.
    error: Option<Error>,
}

/// Completes every list inside a record, but for those that nobody wants.
async fn complete(reader: &Reader, endpoint: &Endpoint, record: RawRecord) -> Completed {
    let mut completed = Completed {
        record,
        gone: 0,
        error: None,
    };
    for list in wanted(endpoint) {
        if let Err(error) = completed.add(reader, list).await {
            completed.error.get_or_insert(error);
        }
    }
    completed
}

impl Completed {
    async fn add(&mut self, reader: &Reader, list: &EmbeddedList) -> Result<()> {
        let Some(beginning) = Beginning::of(list, &self.record)? else {
            return Ok(());
        };
        match beginning.rest(reader, &self.record).await? {
            Some(all) => self.record = beginning.replace(&self.record, &all)?,
            None => self.gone += 1,
        }
        Ok(())
    }
}

/// The entries of a list, of all records. An object that is not a list of the documented shape has
/// none.
fn entries(list: &EmbeddedList, owners: &[RawRecord]) -> Result<Vec<RawRecord>> {
    let path = list.entries()?.clone();
    let mut entries = Vec::new();
    for owner in owners {
        let Some(json) = owner
            .slice(list.member)
            .filter(|json| json.starts_with(b"{"))
        else {
            continue;
        };
        let Ok(mut split) = split(&json, std::slice::from_ref(&path)) else {
            continue;
        };
        let own = split.records.swap_remove(0).into_iter();
        let inheritance = Inheritance::of(owner, &list.inherited);
        entries.extend(own.map(|entry| inheritance.give(entry)));
    }
    Ok(entries)
}

/// What the vendor sent of a list that goes on.
struct Beginning<'a> {
    list: &'a EmbeddedList,
    json: Bytes,
    entries: Vec<RawRecord>,
    /// Where the list goes on; its start when the beginning does not tell, and is of no use then.
    position: Position,
    total: Option<usize>,
}

impl<'a> Beginning<'a> {
    /// None when there is no list or all of it is there.
    fn of(list: &'a EmbeddedList, record: &RawRecord) -> Result<Option<Self>> {
        if list.is_missing(record) {
            return Err(Error::new(
                ErrorKind::Decode,
                "a record has no list where the vendor documents one",
            )
            .with_context("list", list.member));
        }
        let Some(json) = record
            .slice(list.member)
            .filter(|json| json.starts_with(b"{"))
        else {
            return Ok(None);
        };
        let parsed = RawRecord::upsert(json.clone());
        let goes_on = parsed.member(list.more) == Some("true");
        let total: Option<usize> = list
            .total
            .and_then(|total| parsed.scalar(total)?.parse().ok());
        if !goes_on && total.is_none_or(|total| total == 0) {
            return Ok(None);
        }
        let mut split = match split(&json, &[list.entries()?.clone()]) {
            Err(_) if !goes_on => return Ok(None),
            split => split?,
        };
        let entries = split.records.swap_remove(0);
        // What holds fewer entries than it counts is not all of the list, whatever it says of more.
        if !goes_on && total.is_none_or(|total| total <= entries.len()) {
            return Ok(None);
        }
        // Nobody asked for this page: the record brought it along.
        let request = Request::new(Method::GET, nowhere()?);
        let view = PageView {
            request: &request,
            headers: &HeaderMap::new(),
            envelope: &split.envelope,
            records: &entries,
            fresh: entries.len(),
        };
        let position = match list.list.paginator.advance(&Position::Start, &view) {
            Ok(Advance::Next(next)) if are_distinct(list, &entries) => Position::At(next),
            _ => Position::Start,
        };
        Ok(Some(Self {
            list,
            json,
            entries,
            position,
            total,
        }))
    }

    /// All entries; none when the record does not exist any more.
    async fn rest(&self, reader: &Reader, record: &RawRecord) -> Result<Option<Vec<RawRecord>>> {
        let list = List::new(reader, &self.list.list).of(record.clone());
        let mut all = if self.position == Position::Start {
            Vec::new()
        } else {
            self.entries.clone()
        };
        let mut walk = Walk::from(SliceState {
            position: self.position.clone(),
            ..SliceState::default()
        });
        loop {
            let fetched = list
                .fetch(&walk.slice, &mut walk.position, &mut walk.distinct)
                .await?;
            let Some((records, advance)) = fetched.cut else {
                return Ok(None);
            };
            let page = Page {
                digest: walk::digest(&records),
                ..Page::new(records, Some(advance))
            };
            let goes_on = walk.step(&self.list.list, &page)?;
            all.extend(page.records.into_iter().next().unwrap_or_default());
            if !goes_on {
                break;
            }
        }
        match self.total {
            Some(total) if total != all.len() => Err(Error::new(
                ErrorKind::Decode,
                "a list inside a record does not hold as many entries as it says",
            )
            .with_context("list", self.list.member)
            .with_context("entries", format!("{} of {total}", all.len()))
            .with_help("run again: it may have changed while it was read")),
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
            entries.push_str(&String::from_utf8_lossy(&entry.as_bytes()));
        }
        entries.push(']');
        let place = self.list.entries()?.name().unwrap_or_default().to_owned();
        let whole = [(&*place, entries.as_str()), (self.list.more, "false")];
        let list = RawRecord::upsert(self.json.clone()).with(&Added::instead(whole));
        let list = String::from_utf8_lossy(&list.as_bytes()).into_owned();
        let list = [(self.list.member, &*list)];
        Ok(record.clone().with(&Added::instead(list)))
    }
}

/// False when entries share a key: then none of them tells where the list goes on.
fn are_distinct(list: &EmbeddedList, entries: &[RawRecord]) -> bool {
    let Some(feed) = list.list.feeds.first() else {
        return true;
    };
    let key = |entry: &RawRecord| {
        feed.stream
            .key()
            .iter()
            .map(|member| entry.scalar(member))
            .collect::<Vec<_>>()
    };
    let mut seen = HashSet::new();
    feed.stream.key().is_empty() || entries.iter().all(|entry| seen.insert(key(entry)))
}

fn nowhere() -> Result<url::Url> {
    url::Url::parse("https://localhost")
        .map_err(|error| Error::new(ErrorKind::Unexpected, "no URL").with_source(error))
}
