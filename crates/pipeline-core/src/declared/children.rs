//! Lists that belong to the records of another list: how they are requested, and where a walk through them can stop.

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use url::Url;

use super::List;
use super::ahead::Ahead;
use super::shared::Walker;
use crate::endpoint::{Endpoint, Parent};
use crate::error::{Error, ErrorKind, Result};
use crate::http::HttpClient;
use crate::record::{Advance, Op, Page, RawRecord};
use crate::state::{Position, SliceState};

#[cfg(test)]
mod tests;

/// Parents whose first pages are requested at the same time. Enough for 25 requests a second at 600 ms.
const AT_ONCE: usize = 16;

/// Refused parents, without one that could be read, after which it is the endpoint that is refused.
const ALL_REFUSED: u64 = 10;

/// A place in a walk through parents and their children.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Position of the page of parents; none: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    /// The parent on that page up to which everything is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Where to go on in the list of that parent; none: it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

impl Place {
    fn of(position: &Position) -> Result<Self> {
        let Position::At(text) = position else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|error| {
            Error::new(ErrorKind::Decode, "the stored position is none of a list of children")
                .with_help("reset the endpoint's state, and run again")
                .with_source(error)
        })
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("a place is three optional strings"))
    }

    fn page(&self) -> Position {
        self.page.clone().map_or(Position::Start, Position::At)
    }
}

/// Reads the children of every parent in a slice of the parents' list.
pub(super) fn read<'a>(
    walker: Walker,
    client: &HttpClient,
    endpoint: &'a Endpoint,
    parent: &'a Parent,
    slice: SliceState,
) -> BoxStream<'a, Result<Page>> {
    let family = Family { walker, client: client.clone(), endpoint, parent };
    let walk = async move {
        let place = Place::of(&slice.position)?;
        let parents = super::read_for(Walker::Children, &family.client, &parent.endpoint, SliceState { position: place.page(), ..slice });
        let resumed = place != Place::default();
        Ok(FamilyWalk { family, parents, place: Some(place), page: None, resumed, found_readable: false })
    };
    let pages = |walk| stream::try_unfold(walk, |mut walk: FamilyWalk<'a>| async move { Ok(walk.next().await?.map(|page| (page, walk))) });
    stream::once(walk).map_ok(pages).try_flatten().boxed()
}

/// The records that belong to one parent, all pages together, by the streams of the endpoint: what a connector needs that
/// hears of a single change.
///
/// # Errors
/// As [`HttpClient::send`].
pub async fn read_children(client: &HttpClient, endpoint: &Endpoint, parent: &RawRecord) -> Result<Vec<Vec<RawRecord>>> {
    let mut all = vec![Vec::new(); endpoint.streams().len()];
    let list = List { client: client.clone(), endpoint, parent: Some(parent.clone()), walker: Walker::Own };
    let mut pages = Box::pin(list.pages(SliceState::default()));
    while let Some(page) = pages.try_next().await? {
        all.iter_mut().zip(page.records).for_each(|(all, records)| all.extend(records));
    }
    Ok(all)
}

/// An endpoint and the list of its parents.
#[derive(Clone)]
struct Family<'a> {
    walker: Walker,
    client: HttpClient,
    endpoint: &'a Endpoint,
    parent: &'a Parent,
}

/// One parent whose children are to be read.
struct Member {
    record: RawRecord,
    key: String,
    reached: Option<DateTime<Utc>>,
    from: Position,
}

/// A list that was begun: its first page is there, unless the list was refused.
struct Begun<'a> {
    member: Member,
    first: Result<Option<Page>>,
    rest: BoxStream<'a, Result<Page>>,
}

impl<'a> Family<'a> {
    /// The parents of a page whose children are not read yet.
    fn members(&self, records: Vec<RawRecord>, place: Place) -> Vec<Member> {
        let templates = std::iter::once(&*self.endpoint.path).chain(self.endpoint.query.iter().map(|(_, value)| value.as_str()));
        let names: Vec<&str> = templates.flat_map(placeholders).collect();
        let member = |record: RawRecord| Member {
            key: names.iter().filter_map(|name| record.scalar(name)).collect::<Vec<_>>().join(","),
            reached: self.time(&record),
            from: Position::Start,
            record,
        };
        let mut members: Vec<Member> = records.into_iter().filter(|record| self.parent.wants(record)).map(member).collect();
        // A page that has changed so much that the parent is gone from it is read whole.
        if let Some(index) = place.parent.and_then(|key| members.iter().position(|member| member.key == key)) {
            members.drain(..index);
            match place.at {
                Some(at) => members[0].from = Position::At(at),
                None => drop(members.remove(0)),
            }
        }
        members
    }

    fn time(&self, record: &RawRecord) -> Option<DateTime<Utc>> {
        self.parent.endpoint.cursor_of(record)
    }

    /// The page behind the last parent of a page.
    fn end(&self, parents: &Page) -> Page {
        let place = |page: &String| Place { page: Some(page.clone()), ..Place::default() }.text();
        let advance = parents.advance.as_ref().map(|advance| match advance {
            Advance::Next(page) => Advance::Next(place(page)),
            Advance::CaughtUp(page) => Advance::CaughtUp(place(page)),
            Advance::End => Advance::End,
        });
        let last = parents.records.first().and_then(|records| records.last());
        let reached = parents.reached.or_else(|| self.time(last?));
        Page { reached, skipped: parents.skipped, ..Page::new(vec![Vec::new(); self.endpoint.streams().len()], advance) }
    }

    /// Begins to read a parent's list; the rest of it is read when its turn has come.
    async fn begin(self, member: Member) -> Begun<'a> {
        let list = List { client: self.client, endpoint: self.endpoint, parent: Some(member.record.clone()), walker: self.walker };
        let slice = SliceState { position: member.from.clone(), ..SliceState::default() };
        let is_resumed = slice.position != Position::Start;
        let mut rest = list.clone().pages(slice).boxed();
        let mut first = rest.try_next().await;
        if is_resumed && first.as_ref().is_err_and(|error| error.kind() == ErrorKind::CursorExpired) {
            rest = list.pages(SliceState::default()).boxed();
            first = rest.try_next().await;
        }
        if self.parent.owns && first.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let rows = inherit(&RawRecord::delete_matching("{}"), &member.record, &self.parent.inherited);
            first = Ok(Some(Page::new(vec![vec![rows]; self.endpoint.streams().len()], Some(Advance::End))));
        }
        Begun { member, first, rest }
    }
}

/// A walk through the pages of parents, and on each through its parents' lists.
struct FamilyWalk<'a> {
    family: Family<'a>,
    parents: BoxStream<'a, Result<Page>>,
    /// Where the next page of parents is to be read on from; none after the last.
    place: Option<Place>,
    page: Option<ParentPage<'a>>,
    /// True when the walk goes on from an earlier run: a few parents that are all refused are no news about the endpoint.
    resumed: bool,
    /// True once a parent's list could be read: from then on a refusal concerns one parent only.
    found_readable: bool,
}

/// A page of parents on which the walk is.
struct ParentPage<'a> {
    position: Option<String>,
    lists: Ahead<'a, Begun<'a>>,
    open: Option<(Member, BoxStream<'a, Result<Page>>)>,
    /// Parents refused and not yet told, and why the last of them was.
    refused: u64,
    refusal: Option<Error>,
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
                let refused = page.refused;
                return Ok(Some(Page { skipped: page.end.skipped + refused, ..page.end }));
            };
            self.page = Some(page);
            // A parent without children is no place worth storing.
            if children.skipped > 0 || children.records.iter().any(|records| !records.is_empty()) {
                return Ok(Some(children));
            }
        }
    }

    /// Takes the next page of parents; false when there is none.
    async fn next_parents(&mut self) -> Result<bool> {
        let Some(place) = self.place.take() else { return Ok(false) };
        let Some(mut parents) = self.parents.try_next().await? else { return Ok(false) };
        self.place = match &parents.advance {
            Some(Advance::Next(page)) => Some(Place { page: Some(page.clone()), ..Place::default() }),
            Some(_) => None,
            None => return Err(Error::new(ErrorKind::Unexpected, "a list of parents has pages that are no place to stop")),
        };
        let family = self.family.clone();
        let end = family.end(&parents);
        let position = place.page.clone();
        let records = if parents.records.is_empty() { Vec::new() } else { parents.records.swap_remove(0) };
        let members = family.members(records, place).into_iter();
        let lists = Ahead::new(members.map(move |member| family.clone().begin(member)), AT_ONCE);
        self.page = Some(ParentPage { position, lists, open: None, refused: 0, refusal: None, end });
        Ok(true)
    }

    /// The next page of children on a page of parents; none behind the last.
    async fn next_children(&mut self, page: &mut ParentPage<'a>) -> Result<Option<Page>> {
        loop {
            if let Some((member, rest)) = &mut page.open {
                if let Some(children) = page.lists.meanwhile(rest.try_next()).await? {
                    let skipped = std::mem::take(&mut page.refused);
                    // The lists of the last parents are begun already, as many at a time as a limit allows. Long ones are worth a split.
                    let goes_on = |advance: &Option<Advance>| matches!(advance, Some(Advance::Next(_)));
                    let in_hand = !goes_on(&page.end.advance) && !goes_on(&children.advance);
                    return Ok(Some(Page { skipped, in_hand, ..member.place(children, page.position.clone()) }));
                }
                page.open = None;
            }
            let Some(Begun { member, first, rest }) = page.lists.next().await else {
                let is_news = !self.found_readable && !self.resumed;
                return page.refusal.take().filter(|_| is_news).map_or(Ok(None), Err);
            };
            match first {
                Err(error) if is_refusal(error.kind()) => {
                    page.refused += 1;
                    if !self.found_readable && page.refused >= ALL_REFUSED {
                        return Err(error);
                    }
                    page.refusal = Some(error);
                }
                first => {
                    let first = stream::iter(first.transpose());
                    self.found_readable = true;
                    page.open = Some((member, first.chain(rest).boxed()));
                }
            }
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
        let place = Place { page, parent: Some(self.key.clone()), at };
        Page { advance: Some(Advance::Next(place.text())), reached: self.reached, ..children }
    }
}

/// Failures that can concern one parent alone.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// The names in braces.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// The template with the parent's values, written by `write`, for the names in braces.
fn fill(template: &str, parent: &RawRecord, write: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, (name, after))) = rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        let value = parent.scalar(name).and_then(|value| write(&value));
        let missing = || Error::new(ErrorKind::Decode, format!("a record has no `{name}` to ask with for what belongs to it"));
        filled.push_str(before);
        filled.push_str(&value.ok_or_else(missing)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A path with the parent's values. Ids that people choose hold any character: none may become a separator.
pub(super) fn path(template: &str, parent: &RawRecord) -> Result<String> {
    fill(template, parent, |value| {
        let mut url = Url::parse("https://host").ok()?;
        url.path_segments_mut().ok()?.push(value);
        // Nothing is left of an empty value and of those that mean another folder.
        Some(url.path().trim_start_matches('/').to_owned()).filter(|segment| !segment.is_empty())
    })
}

/// The value of a parameter with the parent's values.
pub(super) fn value(template: &str, parent: &RawRecord) -> Result<String> {
    fill(template, parent, |value| Some(value.to_owned()))
}

/// A child with members of its parent before its own, where its own have no value.
pub(super) fn inherit(child: &RawRecord, parent: &RawRecord, inherited: &[(&'static str, &'static str)]) -> RawRecord {
    let is_missing = |name: &str| child.member(name).is_none_or(|value| value == "null");
    let added = inherited.iter().filter_map(|(member, name)| Some((*name, parent.member(member)?)));
    let added: Vec<(&str, &str)> = added.filter(|(name, _)| is_missing(name)).collect();
    let (false, Ok(own)) = (added.is_empty(), child.members()) else { return child.clone() };
    let own = own.iter().map(|(name, value)| (&**name, *value)).filter(|(name, _)| !added.iter().any(|(known, _)| known == name));
    let all = RawRecord::from_members(added.iter().copied().chain(own));
    match child.op() {
        Op::Upsert => all,
        Op::Delete => RawRecord::delete(all.as_bytes().to_vec()),
        Op::DeleteMatching => RawRecord::delete_matching(all.as_bytes().to_vec()),
    }
}
