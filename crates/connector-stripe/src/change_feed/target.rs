//! Which objects a pass has to fetch, each once.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::declarative::ListDef;
use pipeline_core::http::HttpClient;
use pipeline_core::{Endpoint, Error, RawRecord};

use super::coverage::Coverage;
use super::event::Event;
use super::fetch::{Fetcher, What};
use super::routes::{Names, Route, Routes};
use super::{CHANGES, fetch, routes};
use crate::streams::{asked_for_each, inside, owner};
use crate::vendor::Stripe;

/// Something to be fetched, or known to be gone.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) stream: &'static ListDef<Stripe>,
    /// The id of the object, or of what its list belongs to.
    pub(super) id: String,
    pub(super) what: What,
    /// When the object was created, where that is known.
    pub(super) created: Option<i64>,
    /// When that happened which tells of it.
    pub(super) happened: i64,
}

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
    /// What was dealt with.
    done: HashSet<(&'static str, String)>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(
        routes: &'a Routes,
        coverage: Arc<Coverage>,
        fetcher: &'a Fetcher,
        endpoint: &'a Endpoint,
        lag: TimeDelta,
    ) -> Self {
        let wanted = endpoint
            .streams()
            .enumerate()
            .filter(|(index, _)| endpoint.wants(*index));
        let wanted = wanted.map(|(_, stream)| stream.name()).collect();
        Self {
            routes,
            coverage,
            fetcher,
            lag,
            wanted,
            refused: HashSet::new(),
            swept: HashSet::new(),
            done: HashSet::new(),
        }
    }

    /// Whether a stream, or one inside its objects, is selected.
    pub(super) fn wants(&self, stream: &ListDef<Stripe>) -> bool {
        self.wanted.contains(stream.name)
            || inside(stream).any(|(inside, _)| self.wanted.contains(inside.name))
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
            Names::Itself | Names::ListedBy(_) | Names::RowsOfIt => event.object.scalar("id"),
            Names::Id(member) | Names::ChildrenOf(member) => event.object.scalar(member),
        };
        // Such as the invoice that is to come, which has none yet.
        let Some(id) = id else { return };
        let Some(what) = self.what(route, event) else {
            return;
        };
        let known = if matches!(what, What::RowsOfIt) {
            &mut self.swept
        } else {
            &mut self.done
        };
        if known.insert((stream.name, id.clone())) {
            let created = if names == Names::Itself {
                event.object_created()
            } else {
                None
            };
            found.push(Found {
                stream,
                id,
                what,
                created,
                happened: event.created,
            });
        }
    }

    /// What is to be done about an object; nothing when a list of this run has read it since, or
    /// when it is a list that is not there.
    fn what(&self, route: Route, event: &Event<'_>) -> Option<What> {
        let Route { stream, names } = route;
        let settled = DateTime::<Utc>::from_timestamp(event.created, 0)? + self.lag;
        let created = event
            .object_created()
            .and_then(|at| DateTime::from_timestamp(at, 0));
        // The windows of a list of other objects' lists are those of the other objects.
        let own = created.filter(|_| asked_for_each(stream).is_none() || names != Names::Itself);
        // A list adds what is inside its objects, and only what is fetched here takes away what
        // was.
        let may_have_lost = event.previous.is_some()
            && inside(stream).any(|(inside, _)| self.wanted.contains(inside.name));
        let deleted = routes::is_deletion(&event.kind, &event.object_type);
        match names {
            Names::Itself
                if !deleted
                    && !may_have_lost
                    && self
                        .coverage
                        .has_read(self.fetcher.list(stream)?, own, settled) =>
            {
                None
            }
            Names::Itself if deleted && !routes::may_return(&event.object_type) => {
                fetch::object(stream, &event.object).map(|_| What::Gone)
            }
            Names::Itself => fetch::object(stream, &event.object),
            // When the object was created is not known here, unless its whole list was read.
            Names::Id(_)
                if self
                    .coverage
                    .has_read(self.fetcher.list(stream)?, None, settled) =>
            {
                None
            }
            Names::Id(_) => Some(What::Object(None)),
            Names::ListedBy(param) => Some(What::Listed(param)),
            // What was made again under the same id has what belongs to it now.
            Names::RowsOfIt if deleted && routes::may_return(&event.object_type) => {
                Some(What::Children)
            }
            Names::RowsOfIt => deleted.then_some(What::RowsOfIt),
            Names::ChildrenOf(_) if deleted => None,
            Names::ChildrenOf(_) if self.coverage.has_read(stream.name, created, settled) => None,
            Names::ChildrenOf(member) => {
                asked_for_each(stream)?;
                let filter = stream.parent.and_then(|parent| parent.filter);
                let has_list = member != "id" || filter.is_none_or(|filter| filter(&event.object));
                has_list.then_some(What::Children)
            }
        }
    }

    /// Takes note that a stream may not be read, and tells so once.
    pub(super) fn refuse(
        &mut self,
        client: &HttpClient,
        stream: &'static ListDef<Stripe>,
        refusal: &Error,
    ) {
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
}

/// What says that everything is gone that belongs to an object, with the stream that it is gone
/// from.
pub(super) fn sweep(
    stream: &'static ListDef<Stripe>,
    owner: &str,
) -> Option<(&'static str, RawRecord)> {
    let rows = RawRecord::from_members([(self::owner(stream)?, quoted(owner).as_str())]);
    Some((
        stream.name,
        RawRecord::delete_matching(rows.as_bytes().to_vec()),
    ))
}

/// What says that an object is gone: its key.
pub(super) fn tombstone(stream: &ListDef<Stripe>, id: &str) -> RawRecord {
    let id = quoted(id);
    let key = stream.streams.iter().flat_map(|stream| stream.key);
    let key = key
        .filter(|name| **name == "id")
        .map(|name| (*name, id.as_str()));
    RawRecord::delete(RawRecord::from_members(key).as_bytes().to_vec())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| unreachable!("a string is always JSON"))
}
