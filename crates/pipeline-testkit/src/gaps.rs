//! What the engine makes of a case when one request goes wrong sync after sync: a unit that cannot
//! be read costs nothing but itself, a list that is refused is no defect, and a list that ends
//! before its total deletes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline_core::{Connector, ErrorKind, NoObserver, SyncMode};
use pipeline_engine::{EndpointSummary, Metrics, Outcome, Selection, Summary};
use serde_json::Value;

use crate::fixture::{Exchange, Fixture, RecordedRequest};
use crate::memory::{MemoryDestination, Row};
use crate::run::{Reading, Still, paused, sync};
use crate::secrets::Secrets;
use crate::twin::{TOTALS, Unit, twin, units};
use crate::vendor::{Trouble, Vendor, is_list};
use crate::watched::Watched;

/// Units of a case that are tried.
const UNITS: usize = 3;

/// Requests of a sync at which it is killed, with a gap open and while it is filled.
const KILLS: usize = 3;

/// Syncs that a vendor without trouble is asked by, to compare with.
const HEALTHY: usize = 4;

/// The rows of every stream, without what the engine adds.
type Rows = BTreeMap<String, Vec<Row>>;

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

/// What a sync did, and the rows that are there after it.
struct Synced {
    /// None when it was killed.
    summary: Option<Summary>,
    rows: Rows,
    /// How many requests met the trouble.
    met: usize,
    /// How many asked for something that was not recorded.
    unanswered: usize,
    /// What was told.
    told: Vec<String>,
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
        let plain = |mut row: Row| {
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

    /// The first list of the case, and the last one, are refused for good.
    async fn check_lists(&mut self, units: &[Unit], healthy: &[Synced]) -> Result<(), String> {
        let exchanges = &self.fixture.exchanges;
        let is_of_unit = |index: usize| units.iter().any(|unit| unit.own.contains(&index));
        let is_list = |(index, exchange): &(usize, &Exchange)| {
            (200..300).contains(&exchange.response.status)
                && !exchange.request.is_for_token()
                && !is_of_unit(*index)
        };
        let lists: Vec<&RecordedRequest> = exchanges
            .iter()
            .enumerate()
            .filter(is_list)
            .map(|(_, exchange)| &exchange.request)
            .collect();
        let places = BTreeSet::from([0, lists.len().saturating_sub(1)]);
        for request in places.into_iter().filter_map(|place| lists.get(place)) {
            for trouble in [Trouble::Refused, Trouble::Redirected, Trouble::Page] {
                for all in [true, false] {
                    self.found.troubles += 1;
                    if let Some(problem) = self.refuse(request, trouble, all, healthy).await? {
                        let named = if all { "" } else { ", streams named" };
                        self.problem(
                            &format!("{trouble:?} at {}{named}", shown(request)),
                            &problem,
                        );
                    }
                }
            }
        }
        Ok(())
    }

    async fn refuse(
        &self,
        request: &RecordedRequest,
        trouble: Trouble,
        all: bool,
        healthy: &[Synced],
    ) -> Result<Option<String>, String> {
        let (store, exchanges) = (Arc::default(), &self.fixture.exchanges);
        let sync = self
            .sync(
                &store,
                exchanges,
                How {
                    all,
                    ..How::troubled(request, trouble)
                },
            )
            .await?;
        if sync.endpoints().next().is_none() {
            // They are read when they are named, and otherwise not.
            return Ok(None);
        }
        if sync.failed() == Some(ErrorKind::Unexpected) {
            return Ok(Some(format!(
                "the vendor's answer is called a defect: {}",
                sync.outcomes()
            )));
        }
        if sync.unanswered > healthy[0].unanswered {
            // It is cut smaller, into requests that nobody recorded.
            return Ok(None);
        }
        if sync.failed().is_none() && sync.told != healthy[0].told {
            // What could not be learned before is told, and a full refresh fills what it would have
            // filled.
            return Ok(None);
        }
        let is_silent =
            sync.failed().is_none() && sync.gaps() == healthy[0].gaps() && sync.is_all_done();
        if is_silent && sync.rows != healthy[0].rows {
            return Ok(Some(format!(
                "rows are missing, and nothing says so: {:?}",
                difference(&healthy[0].rows, &sync.rows)
            )));
        }
        // A list of which a part was read is there, so that its refusal is a failure.
        if all
            && trouble == Trouble::Refused
            && sync.fails_without_a_record()
            && self.is_of_an_endpoint(request)?
        {
            return Ok(Some(format!(
                "what is not there fails a sync of everything: {}",
                sync.outcomes()
            )));
        }
        let healed = self.sync(&store, exchanges, How::default()).await?;
        Ok(healed.is_as(&healthy[1]))
    }

    /// Whether a request is one for an endpoint that is read, and not one that prepares the run.
    fn is_of_an_endpoint(&self, request: &RecordedRequest) -> Result<bool, String> {
        let connector = self.connect(&Arc::new(Vendor::new(&[], None, None)))?;
        Ok(connector
            .endpoints()
            .iter()
            .any(|endpoint| is_at(&request.path, endpoint.path())))
    }

    /// Lists that say how many records they have, and are the truth of what there is, bring one too
    /// few.
    async fn check_totals(&mut self, healthy: &[Synced]) -> Result<(), String> {
        let connector = self.connect(&Arc::new(Vendor::new(&[], None, None)))?;
        let is_truth = |path: &str| {
            let mut endpoints = connector.endpoints().iter();
            endpoints.any(|endpoint| {
                endpoint.mode() == SyncMode::FullRefresh
                    && endpoint.parent().is_none()
                    && is_at(path, endpoint.path())
            })
        };
        let exchanges = &self.fixture.exchanges;
        let paths: BTreeSet<&str> = exchanges
            .iter()
            .map(|exchange| exchange.request.path.as_str())
            .filter(|path| is_truth(path))
            .collect();
        for path in paths {
            let pages = exchanges
                .iter()
                .filter(|exchange| exchange.request.path == path);
            let Some(last) = counted(pages) else { continue };
            self.found.troubles += 1;
            if let Some(problem) = self.shorten(&last.request, healthy).await? {
                self.problem(
                    &format!(
                        "one record fewer than the total at {}",
                        shown(&last.request)
                    ),
                    &problem,
                );
            }
        }
        Ok(())
    }

    async fn shorten(
        &self,
        request: &RecordedRequest,
        healthy: &[Synced],
    ) -> Result<Option<String>, String> {
        let (store, exchanges) = (Arc::default(), &self.fixture.exchanges);
        self.sync(&store, exchanges, How::default()).await?;
        let short = self
            .sync(&store, exchanges, How::troubled(request, Trouble::Short))
            .await?;
        if let Some(problem) = difference(&healthy[1].rows, &short.rows) {
            return Ok(Some(format!("it is taken for the truth: {problem}")));
        }
        if short.is_all_done() {
            return Ok(Some("nothing says that it is short".to_owned()));
        }
        let healed = self.sync(&store, exchanges, How::default()).await?;
        Ok(healed.is_as(&healthy[2]))
    }
}

impl Synced {
    fn endpoints(&self) -> impl Iterator<Item = &EndpointSummary> {
        self.summary.iter().flat_map(|summary| &summary.endpoints)
    }

    /// The names of what is missing, by endpoint.
    fn gaps(&self) -> BTreeSet<(String, String)> {
        let of = |endpoint: &EndpointSummary| {
            endpoint
                .gaps
                .iter()
                .map(|gap| (endpoint.id.endpoint.clone(), gap.name.clone()))
                .collect::<Vec<_>>()
        };
        self.endpoints().flat_map(of).collect()
    }

    fn failed(&self) -> Option<ErrorKind> {
        self.endpoints()
            .find_map(|endpoint| match &endpoint.outcome {
                Outcome::Failed { error } => Some(error.kind),
                Outcome::Interrupted => Some(ErrorKind::Cancelled),
                _ => None,
            })
    }

    fn fails_without_a_record(&self) -> bool {
        let fails = |endpoint: &EndpointSummary| matches!(endpoint.outcome, Outcome::Failed { .. });
        self.endpoints().any(|endpoint| {
            fails(endpoint) && endpoint.streams.iter().all(|stream| stream.records == 0)
        })
    }

    fn is_all_done(&self) -> bool {
        self.endpoints()
            .all(|endpoint| matches!(endpoint.outcome, Outcome::Done))
    }

    fn outcomes(&self) -> String {
        let outcomes = self.endpoints().map(|endpoint| {
            format!(
                "{} {:?} {:?}",
                endpoint.id.endpoint, endpoint.outcome, endpoint.gaps
            )
        });
        outcomes.collect::<Vec<_>>().join(", ")
    }

    /// What is wrong when it should have gaps besides those of a vendor without trouble, and
    /// nothing else.
    fn names_a_gap_besides(&self, healthy: &Synced) -> Option<String> {
        if self.failed().is_some()
            || self
                .endpoints()
                .any(|endpoint| matches!(endpoint.outcome, Outcome::Unavailable { .. }))
        {
            return Some(format!(
                "the unit takes its endpoint with it: {}",
                self.outcomes()
            ));
        }
        let mut gaps = self.endpoints().flat_map(|endpoint| &endpoint.gaps);
        if self.gaps().is_subset(&healthy.gaps()) {
            return Some(format!(
                "nothing says that the unit is missing: {}",
                self.outcomes()
            ));
        }
        let is_named = gaps.all(|gap| !gap.name.is_empty() && !gap.reason.is_empty());
        (!is_named).then(|| format!("a gap has no name or no reason: {}", self.outcomes()))
    }

    /// What differs from a vendor that never had any trouble.
    fn is_as(&self, healthy: &Synced) -> Option<String> {
        if self.failed().is_some() || self.gaps() != healthy.gaps() {
            return Some(format!("it does not heal: {}", self.outcomes()));
        }
        difference(&healthy.rows, &self.rows).map(|problem| format!("healed, {problem}"))
    }
}

/// Whether a path is the one of an endpoint, which may be relative.
fn is_at(path: &str, endpoint: &str) -> bool {
    path.ends_with(endpoint.trim_start_matches('/')) && !endpoint.contains('{')
}

/// The last page of a list of which the total is told and right.
fn counted<'e>(pages: impl Iterator<Item = &'e Exchange>) -> Option<&'e Exchange> {
    let (mut sum, mut total, mut last) = (0, None, None);
    for page in pages {
        let body: Value = serde_json::from_slice(&page.response.body).ok()?;
        let members = body.as_object()?;
        total = total.or_else(|| TOTALS.iter().find_map(|name| members.get(*name)?.as_u64()));
        let lists = members
            .values()
            .filter_map(Value::as_array)
            .filter(|list| list.first().is_some_and(Value::is_object));
        let records: usize = lists.map(Vec::len).sum();
        sum += records as u64;
        last = if records > 0 { Some(page) } else { last };
    }
    last.filter(|_| total == Some(sum))
}

fn shown(request: &RecordedRequest) -> String {
    let query: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!(
        "{} {} {}{}",
        request.method,
        request.path,
        query.join(" "),
        request.body.as_deref().unwrap_or_default()
    )
    .trim_end()
    .to_owned()
}

/// The first stream whose rows differ.
fn difference(expected: &Rows, found: &Rows) -> Option<String> {
    expected.iter().find_map(|(stream, expected)| {
        let found = found.get(stream).map_or(&[][..], Vec::as_slice);
        let other = || {
            expected
                .iter()
                .find(|row| !found.contains(row))
                .or_else(|| found.iter().find(|row| !expected.contains(row)))
        };
        (expected != found).then(|| {
            format!(
                "{stream} has {} rows instead of {}, such as {:?}",
                found.len(),
                expected.len(),
                other()
            )
        })
    })
}

/// A row that is missing although it has nothing to do with the unit.
fn loss(expected: &Rows, found: &Rows, unit: &str) -> Option<String> {
    let names = |row: &Row| {
        row.values()
            .any(|value| value == unit || (unit.len() > 3 && value.contains(unit)))
    };
    expected.iter().find_map(|(stream, expected)| {
        let lost = expected.iter().find(|row| {
            !names(row) && !found.get(stream).is_some_and(|found| found.contains(row))
        })?;
        Some(format!(
            "{stream} lost a row that has nothing to do with the unit: {lost:?}"
        ))
    })
}
