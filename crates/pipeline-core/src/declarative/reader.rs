//! Reads endpoints for one run, and holds what its requests share.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::lines::read_lines;
use super::page_cache::{PageCache, Walker};
use super::page_size::PageSize;
use super::{GAP_ATTEMPTS, List, embedded, parents};
use crate::connector::Endpoint;
use crate::error::Result;
use crate::http::HttpClient;
use crate::json::lines::BodyFormat;
use crate::model::record::{Page, RawRecord};
use crate::model::state::{Position, SliceState};

/// Reads declared endpoints for one run.
///
/// A [`Session`](crate::Session) creates one when it opens, and reads everything through it: pages
/// that several walks need are requested once, and a page size that was too large for one walk is
/// avoided by the others. Both end with the run, so that the next one requests again what may have
/// changed. Clones share them.
#[derive(Clone, Debug)]
pub struct Reader {
    client: HttpClient,
    learned: Arc<Mutex<HashMap<ListKey, Arc<Learned>>>>,
}

/// A list: the account that the client is for, and name and path of the endpoint.
type ListKey = (Option<String>, Cow<'static, str>, Cow<'static, str>);

/// What the requests for one list have shown in this run.
#[derive(Debug)]
pub(super) struct Learned {
    /// The pages, where the endpoint is [cached](Endpoint::cache_pages).
    pub(super) pages: PageCache,
    /// How large they are, where the endpoint has a [page size](Endpoint::page_size).
    pub(super) size: Option<PageSize>,
}

impl Reader {
    /// A reader for a new run.
    pub fn new(client: HttpClient) -> Self {
        Self {
            client,
            learned: Arc::default(),
        }
    }

    /// The client that requests go through.
    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// The same run through another client, such as that of one account.
    #[must_use]
    pub fn with_client(&self, client: HttpClient) -> Self {
        Self {
            client,
            learned: Arc::clone(&self.learned),
        }
    }

    /// The same run with at most this many attempts at each request, at least one.
    #[must_use]
    pub fn with_attempts(&self, attempts: u32) -> Self {
        self.with_client(self.client.with_attempts(attempts))
    }

    /// Reads one slice of an endpoint from its position on, page by page, as
    /// [`Session::read`](crate::Session::read) does.
    pub fn read<'a>(
        &self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.read_for(Walker::Own, endpoint, slice)
    }

    /// Reads a slice of a list for what hangs on its records, without requests of its own where the
    /// list is read as well.
    ///
    /// The pages contain what [`Endpoint::cache_pages`] keeps of the records of the first stream,
    /// and end where the list's own pages end.
    pub fn read_kept<'a>(
        &self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.read_for(Walker::Children, endpoint, slice)
    }

    /// The records that belong to one parent, all pages together, by the streams of the endpoint:
    /// what a connector needs that hears of a single change.
    ///
    /// # Errors
    /// As [`HttpClient::send`].
    pub async fn read_children(
        &self,
        endpoint: &Endpoint,
        parent: &RawRecord,
    ) -> Result<Vec<Vec<RawRecord>>> {
        let mut all = vec![Vec::new(); endpoint.streams().len()];
        let list = List::new(self, endpoint).of(parent.clone());
        let mut pages = Box::pin(list.pages(SliceState::default()));
        while let Some(page) = pages.try_next().await? {
            all.iter_mut()
                .zip(page.records)
                .for_each(|(all, records)| all.extend(records));
        }
        Ok(all)
    }

    /// What a record that was fetched by itself holds: the records of every stream that the
    /// endpoint feeds, in their order, each list inside it completed. What a connector needs that
    /// hears of a single change.
    ///
    /// # Errors
    /// As [`HttpClient::send`], and [`ErrorKind::Decode`](crate::ErrorKind::Decode) when a list
    /// does not hold what it says.
    pub async fn read_record(
        &self,
        endpoint: &Endpoint,
        record: RawRecord,
    ) -> Result<Vec<Vec<RawRecord>>> {
        embedded::read_record(self, endpoint, record).await
    }

    /// Reads one slice of an endpoint, for itself or for the lists of its records.
    pub(super) fn read_for<'a>(
        &self,
        walker: Walker,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        if slice.position == Position::End {
            return stream::empty().boxed();
        }
        let pages = match (&endpoint.parent, endpoint.format) {
            (Some(parent), _) if slice.unit.as_deref().is_some_and(parents::is_parent) => {
                parents::read_unit(self.with_attempts(GAP_ATTEMPTS), endpoint, parent, slice)
            }
            (Some(parent), _) => parents::read(walker, self, endpoint, parent, slice),
            (None, BodyFormat::Json) => List::new(self, endpoint)
                .walked_by(walker)
                .pages(slice)
                .boxed(),
            (None, BodyFormat::Ndjson(lines)) => read_lines(self, endpoint, slice, lines).boxed(),
        };
        pages
            .map_err(|error| error.with_context("endpoint", endpoint.name().to_owned()))
            .boxed()
    }

    /// What this run has learned of an endpoint; none where the endpoint declares nothing that
    /// could be learned.
    pub(super) fn learned(&self, endpoint: &Endpoint) -> Option<Arc<Learned>> {
        if endpoint.cache_pages.is_none() && endpoint.page_size.is_none() {
            return None;
        }
        let key = (
            self.client.account().map(ToOwned::to_owned),
            endpoint.name.clone(),
            endpoint.path.clone(),
        );
        let begin = || {
            let size = endpoint
                .page_size
                .as_ref()
                .map(|(param, most)| PageSize::new(param.clone(), *most));
            Arc::new(Learned {
                pages: PageCache::default(),
                size,
            })
        };
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(learned.entry(key).or_insert_with(begin)))
    }
}
