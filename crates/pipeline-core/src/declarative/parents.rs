//! Lists that belong to the records of another list: how they are requested, and where a walk
//! through them can stop.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::distinct::Distinct;
use super::page_cache::Walker;
use super::prefetch::Ahead;
use super::{List, Reader};
use crate::connector::Endpoint;
use crate::connector::endpoint::Parent;
use crate::error::{Error, ErrorKind, Result};
use crate::model::gap::{Missed, Tally};
use crate::model::record::{Advance, Page, RawRecord};
use crate::model::state::{Position, SliceState};

mod inherit;
mod place;
mod template;
#[cfg(test)]
mod tests;

pub(super) use self::inherit::Inheritance;
use self::place::Place;
use self::template::placeholders;
pub(super) use self::template::{path, value};

/// Parents whose first pages are requested at the same time. Enough for 25 requests a second at 600
/// ms.
const AT_ONCE: usize = 16;

/// Parents whose lists are read before their page is read again for the next ones: what a page of
/// any vendor has, and no more than memory has room for in every list of lists at the same time.
const MOST_PARENTS: usize = 1_000;

/// Times that a page of parents may have lost the parent at which it is read again.
const MOST_LOST: u32 = 3;

/// Before a unit of the parents' own list: a parent of parents that could not be read.
const ABOVE: char = '^';

/// Reads the children of every parent in a slice of the parents' list.
pub(super) fn read<'a>(
    walker: Walker,
    reader: &Reader,
    endpoint: &'a Endpoint,
    parent: &'a Parent,
    slice: SliceState,
) -> BoxStream<'a, Result<Page>> {
    let family = Family {
        walker,
        reader: reader.clone(),
        endpoint,
        parent,
    };
    let walk = async move {
        let place = Place::of(&slice.position)?;
        let unit = slice
            .unit
            .as_deref()
            .and_then(|unit| unit.strip_prefix(ABOVE))
            .map(ToOwned::to_owned);
        let slice = SliceState { unit, ..slice };
        let parents = family.parents(&slice, &place);
        let tally = if place == Place::default() {
            Tally::new()
        } else {
            Tally::resumed()
        };
        Ok(FamilyWalk {
            family,
            slice,
            parents,
            place: Some(place),
            lost: 0,
            page: None,
            tally,
            readable: None,
        })
    };
    let pages = |walk| {
        stream::try_unfold(walk, |mut walk: FamilyWalk<'a>| async move {
            Ok(walk.next().await?.map(|page| (page, walk)))
        })
    };
    stream::once(walk).map_ok(pages).try_flatten().boxed()
}

/// True for a unit that is one parent, or nothing.
pub(super) fn is_parent(unit: &str) -> bool {
    !unit.starts_with(ABOVE)
}

/// Reads the children of one parent that was passed over.
pub(super) fn read_unit<'a>(
    reader: Reader,
    endpoint: &'a Endpoint,
    parent: &'a Parent,
    slice: SliceState,
) -> BoxStream<'a, Result<Page>> {
    let family = Family {
        walker: Walker::Own,
        reader,
        endpoint,
        parent,
    };
    let begun = async move {
        let record = RawRecord::upsert(slice.unit.unwrap_or_default());
        let member = Member {
            key: family.key(&record),
            watermark: None,
            from: slice.position,
            doubted: slice.doubted,
            record,
        };
        let Begun {
            first,
            rest,
            member,
        } = family.clone().begin(member).await;
        let unit = family.unit(&member);
        Ok(stream::iter(first.transpose())
            .chain(rest)
            .map_ok(move |page| Page {
                unit: unit.clone(),
                ..page
            }))
    };
    stream::once(begun).try_flatten().boxed()
}

/// An endpoint and the list of its parents.
#[derive(Clone)]
struct Family<'a> {
    walker: Walker,
    reader: Reader,
    endpoint: &'a Endpoint,
    parent: &'a Parent,
}

/// One parent whose children are to be read.
struct Member {
    /// What is needed of it, without the page that it came on.
    record: RawRecord,
    key: String,
    watermark: Option<DateTime<Utc>>,
    from: Position,
    /// See [`SliceState::doubted`].
    doubted: Option<u64>,
}

/// A list that was begun: its first page is there, unless the list was refused.
struct Begun<'a> {
    member: Member,
    first: Result<Option<Page>>,
    rest: BoxStream<'a, Result<Page>>,
}

impl<'a> Family<'a> {
    /// The pages of parents of a slice, from a place on.
    fn parents(&self, slice: &SliceState, place: &Place) -> BoxStream<'a, Result<Page>> {
        self.reader.read_for(
            Walker::Children,
            &self.parent.endpoint,
            SliceState {
                position: place.page(),
                ..slice.clone()
            },
        )
    }

    /// The parents of a page whose children are not read yet, and whether the page has the parent
    /// of the place.
    fn members(&self, records: Vec<RawRecord>, place: Place) -> (Vec<Member>, bool) {
        let member = |record: RawRecord| Member {
            key: self.key(&record),
            watermark: self.time(&record),
            from: Position::Start,
            doubted: None,
            record: self.needed(&record),
        };
        let mut members: Vec<Member> = records
            .into_iter()
            .filter(|record| self.parent.wants(record))
            .map(member)
            .collect();
        let Some(key) = place.parent else {
            return (members, true);
        };
        // A page that has changed so much that the parent is gone from it is read whole.
        let Some(index) = members.iter().position(|member| member.key == key) else {
            return (members, false);
        };
        members.drain(..index);
        match place.at {
            Some(at) => members[0].from = Position::At(at),
            None => drop(members.remove(0)),
        }
        (members, true)
    }

    /// What is needed of a parent to read its list, now or later.
    fn needed(&self, parent: &RawRecord) -> RawRecord {
        let names = self
            .names()
            .chain(self.parent.inherited.iter().map(|(member, _)| *member))
            .collect::<BTreeSet<_>>();
        RawRecord::from_members(
            names
                .into_iter()
                .filter_map(|name| Some((name, parent.member(name)?))),
        )
    }

    fn time(&self, record: &RawRecord) -> Option<DateTime<Utc>> {
        self.parent.endpoint.cursor_of(record)
    }

    /// The members of a parent that its list is asked for with.
    fn names(&self) -> impl Iterator<Item = &str> {
        let templates = std::iter::once(&*self.endpoint.path)
            .chain(self.endpoint.query.iter().map(|(_, value)| value.as_str()));
        templates.flat_map(placeholders)
    }

    /// What tells a parent from the others.
    fn key(&self, parent: &RawRecord) -> String {
        self.names()
            .filter_map(|name| parent.scalar(name))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Asks for something that could be read before: the list of a parent, or the list of parents.
    async fn probe(&self, readable: Option<RawRecord>) -> Result<()> {
        match readable {
            Some(record) => {
                let list = List::new(&self.reader, self.endpoint)
                    .of(record)
                    .walked_by(self.walker);
                list.fetch(
                    &SliceState::default(),
                    &mut Position::Start,
                    &mut Distinct::default(),
                )
                .await
                .map(drop)
            }
            None => super::first_page(&self.reader, &self.parent.endpoint)
                .await
                .map(drop),
        }
    }

    /// A unit of the parents' list that was passed over there, and so are its children here.
    fn above(&self, missed: &Missed) -> Option<Missed> {
        let unit = missed.slice.unit.as_ref()?;
        let slice = SliceState {
            unit: Some(format!("{ABOVE}{unit}")),
            ..SliceState::default()
        };
        let kept = self
            .parent
            .inherited
            .iter()
            .filter_map(|(from, to)| Some(((*to).to_owned(), missed.keep.get(*from)?.clone())));
        Some(Missed {
            slice,
            keep: kept.collect(),
            ..missed.clone()
        })
    }

    /// A parent whose list could not be read from a position on, and all that is needed to read it
    /// later.
    fn missed(&self, member: &Member, position: Position, doubted: Option<u64>) -> Missed {
        let unit = String::from_utf8_lossy(&member.record.as_bytes()).into_owned();
        let missed = Missed::new(
            member.key.clone(),
            SliceState {
                unit: Some(unit),
                position,
                doubted,
                ..SliceState::default()
            },
        );
        let kept = self
            .parent
            .inherited
            .iter()
            .filter_map(|(from, to)| Some((*to, member.record.member(from)?)));
        kept.fold(missed, |missed, (column, value)| {
            missed.keeping(column, value)
        })
    }

    /// The list of a parent as a unit of which rows may be stored; none when they cannot be told
    /// from those of others.
    fn unit(&self, member: &Member) -> Option<Missed> {
        Some(self.missed(member, Position::Start, None)).filter(|missed| !missed.keep.is_empty())
    }

    /// The page behind the last parent of a page.
    fn end(&self, parents: &Page) -> Page {
        let place = |page: &String| {
            Place {
                page: Some(page.clone()),
                ..Place::default()
            }
            .text()
        };
        let advance = parents.advance.as_ref().map(|advance| match advance {
            Advance::Next(page) => Advance::Next(place(page)),
            Advance::CaughtUp(page) => Advance::CaughtUp(place(page)),
            Advance::End => Advance::End,
        });
        let last = parents.records.first().and_then(|records| records.last());
        let watermark = parents.watermark.or_else(|| self.time(last?));
        let gaps = parents
            .gaps
            .iter()
            .filter_map(|missed| self.above(missed))
            .collect();
        Page {
            watermark,
            skipped: parents.skipped,
            gaps,
            ..Page::new(vec![Vec::new(); self.endpoint.streams().len()], advance)
        }
    }

    /// Begins to read a parent's list; the rest of it is read when its turn has come.
    async fn begin(self, member: Member) -> Begun<'a> {
        let list = List::new(&self.reader, self.endpoint)
            .of(member.record.clone())
            .walked_by(self.walker);
        let slice = SliceState {
            position: member.from.clone(),
            doubted: member.doubted,
            ..SliceState::default()
        };
        let is_resumed = slice.position != Position::Start;
        let mut rest = list.clone().pages(slice).boxed();
        let mut first = rest.try_next().await;
        if is_resumed
            && first
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::CursorExpired)
        {
            rest = list.pages(SliceState::default()).boxed();
            first = rest.try_next().await;
        }
        if self.parent.owns
            && first
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::NotFound)
        {
            let rows = Inheritance::of(&member.record, &self.parent.inherited)
                .give(RawRecord::delete_matching("{}"));
            first = Ok(Some(Page::new(
                vec![vec![rows]; self.endpoint.streams().len()],
                Some(Advance::End),
            )));
        }
        Begun {
            member,
            first,
            rest,
        }
    }
}

/// A walk through the pages of parents, and on each through its parents' lists.
struct FamilyWalk<'a> {
    family: Family<'a>,
    slice: SliceState,
    parents: BoxStream<'a, Result<Page>>,
    /// Where the next page of parents is to be read on from; none after the last.
    place: Option<Place>,
    /// Times that a page that was read again had lost its parent.
    lost: u32,
    page: Option<ParentPage<'a>>,
    /// What the parents that could not be read mean.
    tally: Tally,
    /// The last parent whose list could be read.
    readable: Option<RawRecord>,
}

/// A page of parents on which the walk is.
struct ParentPage<'a> {
    position: Option<String>,
    lists: Ahead<'a, Begun<'a>>,
    /// The list that is being read, and how far it is.
    open: Option<(Member, BoxStream<'a, Result<Page>>)>,
    /// Where the page has to be read again, when it has too many parents.
    again: Option<Place>,
    end: Page,
}

impl<'a> FamilyWalk<'a> {
    async fn next(&mut self) -> Result<Option<Page>> {
        loop {
            let Some(mut page) = self.page.take() else {
                if !self.next_parents().await? {
                    return Ok(None);
                }
                continue;
            };
            let Some(children) = self.next_children(&mut page).await? else {
                if let Some(place) = page.again {
                    self.parents = self.family.parents(&self.slice, &place);
                    self.place = Some(place);
                    continue;
                }
                if (self.tally.is_in_doubt() || self.tally.is_refused()) && self.place.is_some() {
                    // Whether it is the parents that fail shows on the next page: until then this
                    // is not a place to stop.
                    self.tally.extend(page.end.gaps);
                    continue;
                }
                let probe = self.family.probe(self.readable.clone());
                let mut gaps = self.tally.finish(probe).await?;
                gaps.extend(page.end.gaps);
                return Ok(Some(Page { gaps, ..page.end }));
            };
            self.page = Some(page);
            // A parent without children is not a place worth storing.
            if !children.gaps.is_empty()
                || children.records.iter().any(|records| !records.is_empty())
            {
                return Ok(Some(children));
            }
        }
    }

    /// Takes the next page of parents; false when there is none.
    async fn next_parents(&mut self) -> Result<bool> {
        let Some(place) = self.place.take() else {
            return Ok(false);
        };
        let is_again = place.parent.is_some();
        let Some(mut parents) = self.parents.try_next().await? else {
            return Ok(false);
        };
        self.place = match &parents.advance {
            Some(Advance::Next(page)) => Some(Place {
                page: Some(page.clone()),
                ..Place::default()
            }),
            Some(_) => None,
            None => {
                return Err(Error::new(
                    ErrorKind::Unexpected,
                    "a list of parents has pages that are no place to stop",
                ));
            }
        };
        let family = self.family.clone();
        let end = family.end(&parents);
        let position = place.page.clone();
        let records = if parents.records.is_empty() {
            Vec::new()
        } else {
            parents.records.swap_remove(0)
        };
        let (mut members, is_there) = family.members(records, place);
        self.lost += u32::from(is_again && !is_there);
        if self.lost > MOST_LOST {
            return Err(Error::new(
                ErrorKind::Decode,
                "a page of parents is another one each time that it is read",
            ));
        }
        let again = (members.len() > MOST_PARENTS).then(|| {
            // A key that came twice would be found at its first place.
            let mut keys = BTreeSet::new();
            members.retain(|member| keys.insert(member.key.clone()));
            let has_more = members.len() > MOST_PARENTS;
            members.truncate(MOST_PARENTS);
            let last = members.last().map(|member| member.key.clone());
            has_more.then(|| Place {
                page: position.clone(),
                parent: last,
                at: None,
            })
        });
        let lists = Ahead::new(
            members
                .into_iter()
                .map(move |member| family.clone().begin(member)),
            AT_ONCE,
        );
        self.page = Some(ParentPage {
            position,
            lists,
            open: None,
            again: again.flatten(),
            end,
        });
        Ok(true)
    }

    /// The next page of children on a page of parents; none behind the last.
    async fn next_children(&mut self, page: &mut ParentPage<'a>) -> Result<Option<Page>> {
        loop {
            if let Some((mut member, mut rest)) = page.open.take() {
                match page.lists.meanwhile(rest.try_next()).await {
                    Ok(Some(children)) => {
                        self.tally.succeeded();
                        self.readable = Some(member.record.clone());
                        if let Some(Advance::Next(at)) = &children.advance {
                            member.from = Position::At(at.clone());
                        }
                        // The lists of the next parents are begun already, and would be asked for
                        // again after a split. What a long one still has is worth more than that.
                        let in_hand = !matches!(children.advance, Some(Advance::Next(_)));
                        let gaps = self.tally.take();
                        let unit = self.family.unit(&member);
                        let placed = Page {
                            gaps,
                            unit,
                            in_hand,
                            ..member.place(children, page.position.clone())
                        };
                        page.open = Some((member, rest));
                        return Ok(Some(placed));
                    }
                    Ok(None) => {}
                    Err(error) => self.tally.failed(
                        self.family
                            .missed(&member, member.from.clone(), error.doubted()),
                        error,
                    )?,
                }
            }
            let Some(Begun {
                member,
                first,
                rest,
            }) = page.lists.next().await
            else {
                return Ok(None);
            };
            page.open = Some((member, stream::iter(first.transpose()).chain(rest).boxed()));
        }
    }
}

impl Member {
    /// Gives a page of this parent's children its place in the whole walk.
    fn place(&self, children: Page, page: Option<String>) -> Page {
        let at = match &children.advance {
            Some(Advance::Next(at)) => Some(at.clone()),
            _ => None,
        };
        let place = Place {
            page,
            parent: Some(self.key.clone()),
            at,
        };
        Page {
            advance: Some(Advance::Next(place.text())),
            watermark: self.watermark,
            ..children
        }
    }
}
