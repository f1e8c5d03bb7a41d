//! What the engine makes of a case when one request goes wrong sync after sync: a unit that cannot
//! be read costs nothing but itself, a list that is refused is not a defect, and a list that ends
//! before its total deletes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_core::NoObserver;
use pipeline_engine::{Metrics, Selection};

use self::lists::shown;
use self::synced::{Synced, difference, loss};
use crate::fixture::{Exchange, Fixture, RecordedRequest};
use crate::memory::{MemoryDestination, TextRow};
use crate::run::{Reading, Still, paused, sync};
use crate::secrets::Secrets;
use crate::twin::{Unit, twin, units};
use crate::vendor::{Trouble, Vendor, is_list};
use crate::watched::Watched;

mod lists;
mod synced;

/// Units of a case that are tried.
const UNITS: usize = 3;

/// Requests of a sync at which it is killed, with a gap open and while it is filled.
const KILLS: usize = 3;

/// Syncs that a vendor without trouble is asked by, to compare with.
const HEALTHY: usize = 4;

/// The rows of every stream, without what the engine adds.
type Rows = BTreeMap<String, Vec<TextRow>>;

/// What came of a case.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Troubles that the case met.
    pub(crate) troubles: usize,
    /// Units that were passed over and healed.
    pub(crate) gaps: usize,
    /// Syncs that were killed while there was one.
    pub(crate) kills: usize,
    pub(crate) problems: Vec<String>,
}

/// One case, to be read by the engine.
pub(crate) struct Situation<'a> {
    reading: Reading<'a>,
    fixture: &'a Fixture,
    secrets: &'a Secrets,
    found: Found,
}

/// How a sync is run.
#[derive(Clone, Default)]
struct How {
    trouble: Option<(RecordedRequest, Trouble)>,
    kill_at: Option<usize>,
    /// Whether everything is read, and not the streams by their names.
    all: bool,
}

impl How {
    fn troubled(request: &RecordedRequest, trouble: Trouble) -> Self {
        Self {
            trouble: Some((request.clone(), trouble)),
            ..Self::default()
        }
    }
}

/// A unit that cannot be read.
#[derive(Clone, Copy)]
struct Poisoned<'e> {
    /// What the vendor answers otherwise.
    exchanges: &'e [Exchange],
    id: &'e str,
    /// The request that goes wrong.
    request: &'e RecordedRequest,
    /// Whether its answer is a list.
    is_list: bool,
}

impl<'a> Situation<'a> {
    pub(crate) fn new(reading: Reading<'a>, secrets: &'a Secrets) -> Self {
        Self {
            reading,
            fixture: reading.fixture,
            secrets,
            found: Found::default(),
        }
    }

    /// Tries everything.
    ///
    /// # Errors
    /// When the case cannot be read at all.
    pub(crate) fn check(mut self) -> Result<Found, String> {
        paused(async {
            let exchanges = &self.fixture.exchanges;
            let healthy = self.healthy(exchanges).await?;
            let Some(healthy) = healthy else {
                return Ok(());
            };
            let units = units(exchanges);
            for unit in units.iter().take(UNITS) {
                self.check_unit(unit).await?;
            }
            self.check_lists(&units, &healthy).await?;
            self.check_totals(&healthy).await
        })??;
        Ok(self.found)
    }

    fn connect(&self, vendor: &Arc<Vendor>) -> Result<Arc<Watched>, String> {
        let connector = self.reading.connect(
            vendor.clone(),
            Still::at(self.fixture.now),
            Arc::new(NoObserver),
            Arc::default(),
        );
        connector.map_err(|error| error.to_string())
    }

    async fn sync(
        &self,
        store: &Arc<MemoryDestination>,
        exchanges: &[Exchange],
        how: How,
    ) -> Result<Synced, String> {
        let vendor = Arc::new(Vendor::new(exchanges, how.trouble, how.kill_at));
        let streams = if how.all {
            Selection::All
        } else {
            self.reading.named()
        };
        let metrics = Arc::new(Metrics::default());
        let job = self.reading.job(
            self.connect(&vendor)?,
            streams,
            store.clone(),
            Still::at(self.fixture.now),
        );
        let summary = sync(job.observer(metrics.clone()), vendor.killed()).await;
        let summary = summary.transpose().map_err(|error| error.to_string())?;
        let told = metrics
            .notices()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        Ok(Synced {
            summary,
            rows: self.rows(store),
            met: vendor.met(),
            unanswered: vendor.unanswered(),
            told,
        })
    }

    fn rows(&self, store: &MemoryDestination) -> Rows {
        let plain = |mut row: TextRow| {
            row.retain(|column, _| column != "_synced_at");
            row
        };
        let rows = |stream: &String| {
            (
                stream.clone(),
                store
                    .rows(self.reading.connector, stream)
                    .into_iter()
                    .map(plain)
                    .collect(),
            )
        };
        self.fixture.streams.iter().map(rows).collect()
    }

    /// The vendor without trouble, sync after sync. None when not even that is read to the end.
    async fn healthy(&self, exchanges: &[Exchange]) -> Result<Option<Vec<Synced>>, String> {
        let store = Arc::default();
        let mut syncs = Vec::new();
        for _ in 0..HEALTHY {
            let sync = self.sync(&store, exchanges, How::default()).await?;
            if sync.failed().is_some() {
                return Ok(None);
            }
            syncs.push(sync);
        }
        Ok(Some(syncs))
    }

    fn problem(&mut self, what: &str, problem: &str) {
        self.found
            .problems
            .push(self.secrets.hide(&format!("{what}: {problem}")));
    }

    /// One unit of two cannot be read, for two syncs: everything else is there, and afterwards so
    /// is the unit.
    async fn check_unit(&mut self, unit: &Unit) -> Result<(), String> {
        let exchanges = &self.fixture.exchanges;
        let is_answered = |index: &&usize| (200..300).contains(&exchanges[**index].response.status);
        let Some(own) = unit.own.iter().find(is_answered) else {
            return Ok(());
        };
        let request = &exchanges[*own].request;
        let Some(doubled) = twin(exchanges, unit) else {
            return Ok(());
        };
        let Some(healthy) = self.healthy(&doubled).await? else {
            let what = format!("a second {} beside", shown(request));
            self.problem(&what, "the case cannot be read any more");
            return Ok(());
        };
        let poisoned = Poisoned {
            exchanges: &doubled,
            id: &unit.id,
            request,
            is_list: is_list(&exchanges[*own].response.body),
        };
        for trouble in [Trouble::Refused, Trouble::Failing, Trouble::Truncated] {
            let what = format!("{trouble:?} at {}", shown(request));
            self.found.troubles += 1;
            match self.pass_over(&poisoned, trouble, &healthy).await? {
                None => self.found.gaps += 1,
                Some(problem) => self.problem(&what, &problem),
            }
        }
        for kill_at in 1..=KILLS {
            if let Some(problem) = self.kill(&doubled, request, kill_at, &healthy).await? {
                self.problem(
                    &format!("{}, killed at request {kill_at}", shown(request)),
                    &problem,
                );
            }
        }
        Ok(())
    }

    async fn pass_over(
        &self,
        poisoned: &Poisoned<'_>,
        trouble: Trouble,
        healthy: &[Synced],
    ) -> Result<Option<String>, String> {
        let Poisoned {
            exchanges,
            id,
            request,
            is_list,
        } = *poisoned;
        let (store, without) = (Arc::default(), Arc::default());
        for (number, healthy) in (1..).zip(&healthy[..2]) {
            let sync = self
                .sync(&store, exchanges, How::troubled(request, trouble))
                .await?;
            let emptied = self
                .sync(
                    &without,
                    exchanges,
                    How::troubled(request, Trouble::Emptied),
                )
                .await?;
            if sync.met == 0 && sync.rows == healthy.rows {
                // What is read once is not asked for again.
                continue;
            }
            // Of each endpoint that asks for it, and again where a later sync begins with the last
            // records of the one before.
            let most = number.min(2) * sync.gaps().difference(&healthy.gaps()).count().max(1);
            if trouble.is_permanent() && sync.met > most {
                return Ok(Some(format!(
                    "sync {number}: the refusal cost {} requests, at most {most}",
                    sync.met
                )));
            }
            let problem = sync.names_a_gap_besides(healthy).or_else(|| {
                let is_clean =
                    is_list && emptied.failed().is_none() && emptied.gaps() == healthy.gaps();
                if is_clean {
                    difference(&emptied.rows, &sync.rows)
                } else {
                    loss(&healthy.rows, &sync.rows, id)
                }
            });
            if let Some(problem) = problem {
                return Ok(Some(format!("sync {number}: {problem}")));
            }
        }
        let healed = self.sync(&store, exchanges, How::default()).await?;
        Ok(healed.is_as(&healthy[2]))
    }

    /// Syncs that are killed while a unit is passed over, and while it is filled.
    async fn kill(
        &mut self,
        exchanges: &[Exchange],
        request: &RecordedRequest,
        kill_at: usize,
        healthy: &[Synced],
    ) -> Result<Option<String>, String> {
        let store = Arc::default();
        let troubled = How::troubled(request, Trouble::Refused);
        let kills = [
            How {
                kill_at: Some(kill_at),
                ..troubled.clone()
            },
            troubled,
            How {
                kill_at: Some(kill_at),
                ..How::default()
            },
            How::default(),
        ];
        let mut last = None;
        for how in kills {
            let sync = self.sync(&store, exchanges, how).await?;
            self.found.kills += usize::from(sync.summary.is_none());
            last = Some(sync);
        }
        Ok(last
            .zip(healthy.last())
            .and_then(|(last, healthy)| last.is_as(healthy)))
    }
}

/// Whether a path is the one of an endpoint, which may be relative.
fn is_at(path: &str, endpoint: &str) -> bool {
    path.ends_with(endpoint.trim_start_matches('/')) && !endpoint.contains('{')
}
