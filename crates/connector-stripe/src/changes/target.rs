//! Which objects a pass has to fetch, each once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::HttpClient;
use pipeline_core::{Endpoint, Error, RawRecord};

use super::CHANGES;
use super::coverage::Coverage;
use super::event::Event;
use super::fetch::{self, Fetched, Fetcher, What};
use super::routes::{self, Names, Route, Routes};
use crate::streams::{Place, Stream, streams};

/// Something to be fetched, or known to be gone.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) stream: &'static Stream,
    /// The id of the object, or of what its list belongs to.
    pub(super) id: String,
    pub(super) what: What,
    /// Ids in lists inside the object that the events mention: those that it has no more are gone.
    pub(super) mentioned: Mentioned,
}

/// Ids by the stream inside which they are.
pub(super) type Mentioned = HashMap<&'static str, BTreeSet<String>>;

/// What a pass has found so far.
pub(super) struct Targets<'a> {
    routes: &'a Routes,
    coverage: Arc<Coverage>,
    fetcher: &'a Fetcher,
    lag: TimeDelta,
    wanted: HashSet<&'a str>,
    /// Streams that may not be read.
    refused: HashSet<&'static str>,
    /// What is known to have lost everything that belonged to it, by the stream of what did.
    swept: HashSet<(&'static str, String)>,
    /// What was dealt with, and which ids its lists hold.
    done: HashMap<(&'static str, String), HashMap<&'static str, HashSet<String>>>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(routes: &'a Routes, coverage: Arc<Coverage>, fetcher: &'a Fetcher, endpoint: &'a Endpoint, lag: TimeDelta) -> Self {
        let wanted = endpoint.streams().enumerate().filter(|(index, _)| endpoint.wants(*index));
        let wanted = wanted.map(|(_, stream)| stream.name()).collect();
        Self { routes, coverage, fetcher, lag, wanted, refused: HashSet::new(), swept: HashSet::new(), done: HashMap::new() }
    }

    /// Whether a stream, or one inside its objects, is selected.
    pub(super) fn wants(&self, stream: &Stream) -> bool {
        self.wanted.contains(stream.name) || inside(stream).any(|(inner, _)| self.wanted.contains(inner.name))
    }

    /// Adds what an event concerns. Gives how many streams that are, wanted or not.
    pub(super) fn hit(&mut self, event: &Event<'_>, found: &mut Vec<Found>) -> usize {
        let routes = self.routes.of(&event.object_type);
        for route in routes {
            if self.wants(route.stream) && !self.refused.contains(route.stream.name) {
                self.follow(*route, event, found);
            }
        }
        routes.len()
    }

    fn follow(&mut self, route: Route, event: &Event<'_>, found: &mut Vec<Found>) {
        let Route { stream, names } = route;
        let id = match names {
            Names::Itself | Names::ListedBy(_) | Names::RowsOf(_) => event.object.scalar("id"),
            Names::Id(member) | Names::ChildrenOf(member) => event.object.scalar(member),
        };
        // Such as the invoice that is to come, which has none yet.
        let Some(id) = id else { return };
        let Some(what) = self.what(route, event) else { return };
        if let What::RowsOf(_) = what {
            if self.swept.insert((stream.name, id.clone())) {
                found.push(Found { stream, id, what, mentioned: Mentioned::new() });
            }
            return;
        }
        let key = (stream.name, id.clone());
        let mentioned: Mentioned = match names {
            Names::Itself => inside(stream).map(|(inner, member)| (inner.name, event.mentions(member).into_iter().collect())).collect(),
            Names::ChildrenOf(_) => HashMap::from([(stream.name, event.mentions("entitlements").into_iter().collect())]),
            Names::Id(_) | Names::ListedBy(_) | Names::RowsOf(_) => HashMap::new(),
        };
        let Some(kept) = self.done.get(&key) else {
            self.done.insert(key, HashMap::new());
            found.push(Found { stream, id, what, mentioned });
            return;
        };
        // An older event of what was fetched for a newer one can still tell of entries that are gone.
        let vanished = mentioned.into_iter().map(|(name, ids)| {
            let is_kept = |id: &String| kept.get(name).is_some_and(|kept| kept.contains(id));
            (name, ids.into_iter().filter(|id| !is_kept(id)).collect::<BTreeSet<_>>())
        });
        let vanished: Mentioned = vanished.filter(|(_, ids)| !ids.is_empty()).collect();
        match found.iter_mut().find(|known| known.stream.name == stream.name && known.id == id) {
            Some(known) => vanished.into_iter().for_each(|(name, ids)| known.mentioned.entry(name).or_default().extend(ids)),
            None if vanished.is_empty() => {}
            None => found.push(Found { stream, id, what: What::Nothing, mentioned: vanished }),
        }
    }

    /// What is to be done about an object; nothing when a list of this run has read it since, or when it is a list that is
    /// not there.
    fn what(&self, route: Route, event: &Event<'_>) -> Option<What> {
        let Route { stream, names } = route;
        let settled = DateTime::<Utc>::from_timestamp(event.created, 0)? + self.lag;
        let created = event.object_created().and_then(|at| DateTime::from_timestamp(at, 0));
        // The windows of a list of other objects' lists are those of the other objects.
        let own = created.filter(|_| !(matches!(stream.place, Place::Each { .. }) && names == Names::Itself));
        let lost_entries = inside(stream).any(|(_, member)| event.previous.as_ref().is_some_and(|old| old.member(member).is_some()));
        let deleted = routes::is_deletion(&event.kind, &event.object_type);
        match names {
            Names::Itself if !deleted && !lost_entries && self.coverage.has_read(self.fetcher.list(stream)?, own, settled) => None,
            Names::Itself if deleted && !routes::may_return(&event.object_type) => fetch::object(stream, &event.object).map(|_| What::Gone),
            Names::Itself => fetch::object(stream, &event.object),
            // When the object was created is not known here, unless its whole list was read.
            Names::Id(_) if self.coverage.has_read(self.fetcher.list(stream)?, None, settled) => None,
            Names::Id(_) => Some(What::Object(None)),
            Names::ListedBy(param) => Some(What::Listed(param)),
            Names::RowsOf(column) => deleted.then_some(What::RowsOf(column)),
            Names::ChildrenOf(_) if deleted => None,
            Names::ChildrenOf(_) if self.coverage.has_read(stream.name, created, settled) => None,
            Names::ChildrenOf(member) => {
                let Place::Each { when, .. } = stream.place else { return None };
                let has_list = member != "id" || when.is_none_or(|when| when(&event.object));
                has_list.then_some(What::Children)
            }
        }
    }

    /// Takes note that a stream may not be read, and tells so once.
    pub(super) fn refuse(&mut self, client: &HttpClient, stream: &'static Stream, refusal: &Error) {
        if self.refused.insert(stream.name) {
            let message = format!(
                "changes of `{}` are passed over, because its objects may not be read ({}): once they may be, its whole list is read again",
                stream.name,
                refusal.message()
            );
            client.notice(CHANGES, &message);
        }
    }

    /// Whether a stream may not be read.
    pub(super) fn refuses(&self, stream: &str) -> bool {
        self.refused.contains(stream)
    }

    /// The streams that may not be read.
    pub(super) fn refused(&self) -> impl Iterator<Item = &'static str> {
        self.refused.iter().copied()
    }

    /// The records that an object has brought, and tombstones of what it has no more.
    pub(super) fn settle(&mut self, object: Fetched) -> Vec<(&'static str, RawRecord)> {
        let Fetched { stream, id, mut records, mut mentioned, .. } = object;
        let held = self.done.entry((stream.name, id.clone())).or_default();
        for (inner, record) in &records {
            if let Some(id) = record.scalar("id").filter(|_| *inner != stream.name || mentioned.contains_key(inner)) {
                held.entry(inner).or_default().insert(id);
            }
        }
        for (name, ids) in mentioned.drain() {
            let Some(inner) = crate::streams::stream(name) else { continue };
            let is_held = |id: &String| held.get(name).is_some_and(|held| held.contains(id));
            records.extend(ids.iter().filter(|id| !is_held(id)).map(|entry| (inner.name, tombstone(inner, entry, Some(&id)))));
        }
        records
    }
}

/// The streams inside the objects of a stream, and the member that each is in.
fn inside(stream: &Stream) -> impl Iterator<Item = (&'static Stream, &'static str)> {
    streams().filter_map(move |inner| match inner.place {
        Place::Inside { parent, member } if parent == stream.name => Some((inner, member)),
        _ => None,
    })
}

/// What says that everything is gone that belonged to an object.
pub(super) fn tombstone_of_all(column: &str, owner: &str) -> RawRecord {
    RawRecord::delete_matching(RawRecord::from_members([(column, quoted(owner).as_str())]).as_bytes().to_vec())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| unreachable!("a string is always JSON"))
}

/// What says that an object is gone: its key.
pub(super) fn tombstone(stream: &Stream, id: &str, parent: Option<&str>) -> RawRecord {
    let (id, parent) = (quoted(id), parent.map(quoted));
    let member = |name: &&'static str| Some((*name, if *name == "id" { id.as_str() } else { parent.as_deref()? }));
    let record = RawRecord::from_members(stream.key.iter().filter_map(member));
    RawRecord::delete(record.as_bytes().to_vec())
}
