//! Two syncs with one connector: the second reads what a connector of its own would read.
//!
//! Whatever a connector keeps of a run shows here, as requests that are not made again and as rows
//! that are missing. Between the syncs the account changes, because what was cached is right for as
//! long as nothing does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pipeline_core::http::{HttpService, RawResponse, Request, TransportError};
use pipeline_core::{Connector, NoObserver, Registry, Stream};
use pipeline_engine::{Job, Selection, Source};

use crate::fixture::{Exchange, Fixture, is_for_token};
use crate::memory::{MemoryDestination, TextRow};
use crate::run::{Reading, Still};
use crate::secrets::Secrets;
use crate::tape::Tape;
use crate::twin::{grown, twin, units};
use crate::vendor::Vendor;

/// One case that is read twice.
pub(crate) struct Twice<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) connector: &'static str,
    pub(crate) fixture: &'a Fixture,
}

/// What the second sync asked for and left behind.
#[derive(PartialEq)]
struct Second {
    /// Without how often: walks that want the same page at the same moment may both request it.
    requests: BTreeSet<String>,
    rows: BTreeMap<String, Vec<TextRow>>,
    outcomes: Vec<String>,
}

/// The account, which a test can change, and what it was asked for since.
struct Account {
    vendor: Mutex<Arc<Vendor>>,
    requests: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account")
    }
}

impl Account {
    fn new(exchanges: &[Exchange]) -> Arc<Self> {
        Arc::new(Self {
            vendor: Mutex::new(Self::vendor(exchanges)),
            requests: Mutex::default(),
        })
    }

    fn vendor(exchanges: &[Exchange]) -> Arc<Vendor> {
        Arc::new(Vendor::new(exchanges, None, None))
    }

    fn change(&self, exchanges: &[Exchange]) {
        *self.vendor.lock().unwrap_or_else(PoisonError::into_inner) = Self::vendor(exchanges);
        self.take();
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl HttpService for Account {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        // A token lives longer than a run.
        if !is_for_token(request.method.as_str(), request.url.path()) {
            let url = request.full_url();
            let line = format!(
                "{} {} {}",
                request.method,
                &url[url::Position::BeforePath..],
                request.body.escape_ascii()
            );
            self.requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(line.trim_end().to_owned());
        }
        let vendor = Arc::clone(&self.vendor.lock().unwrap_or_else(PoisonError::into_inner));
        vendor.call(request).await
    }
}

impl Twice<'_> {
    /// What is wrong with the second sync, one line each.
    pub(crate) fn check(&self, secrets: &Secrets) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let checked = runtime
            .map_err(|error| format!("the runtime does not start: {error}"))
            .and_then(|runtime| {
                runtime.block_on(async {
                    let mut problems = Vec::new();
                    for (change, exchanges) in self.changes() {
                        for (selected, streams) in self.selections()? {
                            let problem = self.compare(&exchanges, &streams).await?;
                            problems.extend(problem.map(|problem| {
                                format!("a second sync of {selected}, {change}: {problem}")
                            }));
                        }
                    }
                    Ok(problems)
                })
            });
        checked
            .unwrap_or_else(|error| vec![error])
            .iter()
            .map(|problem| secrets.hide(problem))
            .collect()
    }

    /// The account at the second sync.
    fn changes(&self) -> Vec<(&'static str, Vec<Exchange>)> {
        let exchanges = &self.fixture.exchanges;
        let doubled = units(exchanges)
            .first()
            .and_then(|unit| twin(exchanges, unit));
        let doubled =
            doubled.map(|doubled| ("after a record with a list of its own came", doubled));
        doubled
            .into_iter()
            .chain([("after a record came to each list", grown(exchanges))])
            .collect()
    }

    /// What the second sync reads: everything, and the lists of other lists' records alone, whose
    /// parents nobody reads then.
    fn selections(&self) -> Result<Vec<(&'static str, Vec<String>)>, String> {
        let all = self.fixture.streams.clone();
        let connector = self.connect(&Account::new(&[]))?;
        let lists = connector
            .endpoints()
            .iter()
            .filter(|endpoint| endpoint.parent().is_some());
        let names: Vec<&str> = lists
            .flat_map(|endpoint| endpoint.streams().map(Stream::name))
            .collect();
        let children: Vec<String> = all
            .iter()
            .filter(|name| names.contains(&name.as_str()))
            .cloned()
            .collect();
        let is_part = !children.is_empty() && children.len() < all.len();
        Ok([("all streams", all)]
            .into_iter()
            .chain(is_part.then_some(("child streams alone", children)))
            .collect())
    }

    async fn compare(
        &self,
        exchanges: &[Exchange],
        streams: &[String],
    ) -> Result<Option<String>, String> {
        let own = self.second(exchanges, streams, true).await?;
        let same = self.second(exchanges, streams, false).await?;
        Ok(own.difference(&same))
    }

    /// Syncs the case, and then the changed account, with a connector of its own or with the same.
    async fn second(
        &self,
        exchanges: &[Exchange],
        streams: &[String],
        own: bool,
    ) -> Result<Second, String> {
        let (account, store) = (Account::new(&self.fixture.exchanges), Arc::default());
        let first = self.connect(&account)?;
        self.sync(Arc::clone(&first), &store, &self.fixture.streams)
            .await?;
        account.change(exchanges);
        let connector = if own { self.connect(&account)? } else { first };
        let outcomes = self.sync(connector, &store, streams).await?;
        let rows = self
            .fixture
            .streams
            .iter()
            .map(|stream| (stream.clone(), plain(store.rows(self.connector, stream))))
            .collect();
        Ok(Second {
            requests: account.take(),
            rows,
            outcomes,
        })
    }

    fn connect(&self, account: &Arc<Account>) -> Result<Arc<dyn Connector>, String> {
        let reading = Reading {
            registry: self.registry,
            connector: self.connector,
            fixture: self.fixture,
        };
        let clock = Still::at(self.fixture.now);
        let connector = reading.connect(
            account.clone(),
            clock,
            Arc::new(NoObserver),
            Arc::new(Tape::default()),
        );
        Ok(connector.map_err(|error| error.to_string())?)
    }

    /// Reads streams. Returns how each endpoint ended.
    async fn sync(
        &self,
        connector: Arc<dyn Connector>,
        store: &Arc<MemoryDestination>,
        streams: &[String],
    ) -> Result<Vec<String>, String> {
        let source = Source {
            name: self.connector.to_owned(),
            connector,
            streams: Selection::Named(streams.to_vec()),
        };
        let job = Job::new("suite", store.clone(), vec![source]).clock(Still::at(self.fixture.now));
        let summary = pipeline_engine::sync(job)
            .await
            .map_err(|error| error.to_string())?;
        Ok(summary
            .endpoints
            .iter()
            .map(|endpoint| format!("{} {:?}", endpoint.id.endpoint, endpoint.outcome))
            .collect())
    }
}

/// Rows without what differs from sync to sync.
fn plain(mut rows: Vec<TextRow>) -> Vec<TextRow> {
    for row in &mut rows {
        row.remove("_synced_at");
    }
    rows
}

impl Second {
    /// How a sync with the connector of the first differs from this one.
    fn difference(&self, same: &Self) -> Option<String> {
        if let Some(line) = self.requests.difference(&same.requests).next() {
            return Some(format!(
                "{line} is not requested again: keep what lives for one run in the session"
            ));
        }
        let lost = self
            .rows
            .iter()
            .find(|(stream, rows)| same.rows.get(*stream) != Some(rows));
        if let Some((stream, rows)) = lost {
            let found = same.rows.get(stream).map_or(0, Vec::len);
            return Some(format!(
                "{stream} has {found} rows, and {} with a connector of its own",
                rows.len()
            ));
        }
        (self != same).then(|| {
            let more: Vec<_> = same.requests.difference(&self.requests).collect();
            format!(
                "it ended with {:?} instead of {:?}, and requested {more:?} besides",
                same.outcomes, self.outcomes
            )
        })
    }
}
