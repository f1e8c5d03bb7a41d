//! What a run reads: from what the connectors declare to the endpoints of every account, each with
//! its state and its tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::TimeDelta;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState, SliceState};
use pipeline_core::{
    Endpoint, Error, ErrorKind, Event, Origin, Page, Plan, Result, Schema, Session, Skipped,
    Stream, SyncMode, Unread,
};

use super::damages::Damages;
use super::decode::Decoder;
use super::endpoint_run::EndpointRun;
use super::patience::patiently;
use super::plan::{Clocks, EndpointPlan, Moved, Request, Wanted, plan};
use super::stage::Stager;
use super::summary::{EndpointSummary, Outcome, StreamSummary};
use super::target::targeted;
use super::{Job, Selection, Source, span};
use crate::destination::{Generation, Table, TableId};

/// A difference between the vendor's clock and ours that is worth a word.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(2);

/// Endpoints that a notice names.
const MOST_NAMED: usize = 5;

/// What a run has to do.
pub(super) struct Resolved {
    pub(super) runs: Vec<Arc<EndpointRun>>,
    /// Endpoints of accounts that are not there any more.
    pub(super) gone: Vec<EndpointSummary>,
}

/// A source, and what the connector says that there is to read of it.
struct Reading<'a> {
    source: &'a Source,
    damages: &'a Damages,
    session: Arc<dyn Session>,
    /// The endpoints that feed a stream that is wanted.
    endpoints: Vec<Endpoint>,
    /// Whose records they are.
    origin: Origin,
    /// Why endpoints are not to be read.
    refused: BTreeMap<EndpointId, Arc<Error>>,
    /// The accounts, where the source reads several and the connector could tell them.
    accounts: Option<BTreeSet<String>>,
}

/// Stands for a run that could not be opened: nothing of it is read.
#[derive(Debug)]
struct Unopened {
    client: HttpClient,
    plan: Plan,
}

impl Session for Unopened {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        _endpoint: &'a Endpoint,
        _slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        stream::empty().boxed()
    }
}

/// The states of a source's endpoints.
type States = BTreeMap<EndpointId, EndpointState>;

/// Refuses streams that no connector has.
pub(super) fn check_streams(sources: &[Source]) -> Result<()> {
    for source in sources {
        let Selection::Named(names) = &source.streams else {
            continue;
        };
        let known: BTreeSet<&str> = source
            .connector
            .endpoints()
            .iter()
            .flat_map(Endpoint::streams)
            .map(Stream::name)
            .collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
            return Err(Error::new(
                ErrorKind::ConfigInvalid,
                format!("unknown stream `{unknown}`"),
            )
            .with_context("source", source.name.clone())
            .with_context("field", "streams")
            .with_help(format!(
                "known streams: {}",
                known.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
    }
    Ok(())
}

/// Lets the connectors learn what they must, loads the state of each endpoint, plans it, and
/// creates its tables. The plans are committed by the caller.
pub(super) async fn resolve(job: &Job, stager: &Stager, damages: &Damages) -> Result<Resolved> {
    let mut readings = Vec::with_capacity(job.sources.len());
    for source in &job.sources {
        readings.push(Reading::ask(job, source, damages).await);
    }
    let mut resolved = Resolved {
        runs: Vec::new(),
        gone: Vec::new(),
    };
    let mut tables = Tables::default();
    for reading in readings
        .iter_mut()
        .filter(|reading| !reading.endpoints.is_empty())
    {
        let stored = job.destination.states(&reading.source.name).await;
        let stored =
            stored.map_err(|error| error.with_context("source", reading.source.name.clone()))?;
        reading.refuse_another(&stored);
        reading.resolve(job, stored, stager, &mut tables, &mut resolved);
    }
    if !job.options.dry_run {
        let tables = tables.all();
        patiently(job, |destination| destination.check()).await?;
        patiently(job, |destination| destination.prepare(&tables)).await?;
    }
    Ok(resolved)
}

impl<'a> Reading<'a> {
    /// Lets the connector learn what it must know before its endpoints are planned.
    async fn ask(job: &Job, source: &'a Source, damages: &'a Damages) -> Self {
        let declared = selected(source, source.connector.endpoints());
        let (origin, refused) = (Origin::default(), BTreeMap::new());
        let session = Arc::new(Unopened {
            client: source.connector.client().clone(),
            plan: Plan::default(),
        });
        let mut reading = Self {
            source,
            damages,
            session,
            endpoints: Vec::new(),
            origin,
            refused,
            accounts: None,
        };
        if declared.is_empty() {
            return reading;
        }
        let now = source.connector.client().now();
        if let Some(start) = source.connector.range().start.filter(|start| *start > now) {
            let message = &format!(
                "the start is {}, which is still to come: what is older is not read",
                start.format("%Y-%m-%d %H:%M UTC")
            );
            job.observer.observe(&Event::Notice {
                source: &source.name,
                endpoint: "",
                message,
            });
        }
        let names: Vec<&str> = declared.iter().map(Endpoint::name).collect();
        let opened = tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the run was cancelled before it began")),
            opened = Arc::clone(&source.connector).open(&names) => opened,
        };
        match opened {
            Ok(session) => {
                let Plan {
                    endpoints,
                    origin,
                    skipped,
                    notices,
                } = session.plan();
                reading.origin = origin.clone();
                for message in notices {
                    job.observer.observe(&Event::Notice {
                        source: &source.name,
                        endpoint: "",
                        message,
                    });
                }
                reading.endpoints = selected(source, endpoints);
                reading.refuse(skipped);
                reading.session = Arc::clone(&session);
                let accounts = reading
                    .endpoints
                    .iter()
                    .filter_map(|endpoint| Some(endpoint.account()?.id.to_string()));
                reading.accounts = Some(accounts.collect()).filter(|_| reading.is_by_account());
            }
            Err(error) => {
                let error = Arc::new(error);
                reading.refused = declared
                    .iter()
                    .map(|endpoint| (endpoint.id(&source.name), Arc::clone(&error)))
                    .collect();
                reading.endpoints = declared;
            }
        }
        reading
    }

    /// Records why endpoints are not read. Of several reasons the first counts.
    fn refuse(&mut self, skipped: &[Skipped]) {
        for endpoint in &self.endpoints {
            let is_meant = |what: &Unread| match what {
                Unread::Endpoint(name) => name == endpoint.name(),
                Unread::Account(id) => endpoint
                    .account()
                    .is_some_and(|account| *account.id == **id),
            };
            if let Some(Skipped { reason, .. }) =
                skipped.iter().find(|skipped| is_meant(&skipped.what))
            {
                self.refused
                    .insert(endpoint.id(&self.source.name), Arc::clone(reason));
            }
        }
    }

    /// Refuses the whole source when what is stored of it was read from another account: its tables
    /// would mix the two, and the history of the new one would never be read.
    fn refuse_another(&mut self, stored: &States) {
        let is_other = |state: &&EndpointState| {
            state
                .origin
                .as_ref()
                .is_some_and(|origin| self.origin.differs_from(origin))
        };
        let Some(before) = stored
            .values()
            .filter(|state| !state.is_untouched())
            .find(is_other)
        else {
            return;
        };
        let error = self.origin.refusal(
            &self.source.name,
            before.origin.as_ref().unwrap_or(&self.origin),
        );
        let error = Arc::new(error);
        self.refused = self
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.id(&self.source.name), Arc::clone(&error)))
            .collect();
        self.accounts = None;
    }

    fn is_by_account(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.account_column().is_some())
    }

    /// Plans the endpoints.
    fn resolve(
        &self,
        job: &Job,
        mut stored: States,
        stager: &Stager,
        tables: &mut Tables,
        resolved: &mut Resolved,
    ) {
        let source = self.source;
        let again = self.begin_again(job, &stored, stager);
        let requests = self.requests(&mut stored, job.options.full_refresh || again);
        resolved.gone.extend(self.gone(&stored, again));
        let client = self.session.client();
        let plans = plan(
            &requests,
            Clocks {
                now: client.now(),
                earlier: client.earlier_now(),
            },
        );
        self.tell(job, &requests, &plans);
        let busy = Arc::default();
        let budget = job.budgets.get(&source.name).cloned().unwrap_or_default();
        for (request, plan) in targeted(job.targets.get(&source.name), &requests, plans) {
            let stream_tables = tables.of(source, request, &plan);
            for table in stream_tables.iter().flatten().filter(|_| plan.discard) {
                stager.discard(table.id());
            }
            let mut run = EndpointRun::new(
                source,
                &self.session,
                resolved.runs.len(),
                request.endpoint,
                stream_tables,
                &plan,
                &busy,
                &budget,
            );
            if let Some(error) = request.refused {
                run.refuse(error);
                job.observer.observe(&Event::EndpointFinished {
                    endpoint: &run.id,
                    error: Some(error),
                });
            }
            if plan.gap {
                let message = "changes since the last sync can no longer be read: all lists that they concern are read again";
                job.observer.observe(&Event::Notice {
                    source: &source.name,
                    endpoint: &run.id.endpoint,
                    message,
                });
            }
            if plan.from != plan.to {
                stager.change(|| CheckpointDelta::Replace {
                    endpoint: run.id.clone(),
                    from: plan.from,
                    to: plan.to,
                });
            }
            resolved.runs.push(Arc::new(run));
        }
    }

    /// Tells once what comes of a configuration that is another than when the source was last read,
    /// and of clocks that differ.
    fn tell(&self, job: &Job, requests: &[Request<'_>], plans: &[EndpointPlan]) {
        let source = self.source.name.as_str();
        let notice = |message: String| {
            job.observer.observe(&Event::Notice {
                source,
                endpoint: "",
                message: &message,
            });
        };
        let mut moved: BTreeMap<Moved, BTreeSet<&str>> = BTreeMap::new();
        let mut changed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (request, plan) in requests.iter().zip(plans) {
            let name = request.endpoint.name();
            if let Some(what) = plan.moved {
                moved.entry(what).or_default().insert(name);
            }
            for setting in &plan.changed {
                changed.entry(setting).or_default().insert(name);
            }
        }
        let known = requests
            .iter()
            .filter(|request| request.refused.is_none() && !request.stored.is_untouched());
        let mut before = known.filter_map(|request| request.stored.origin.as_ref());
        if let Some(before) = before.find(|before| self.origin.is_assumed(before)) {
            notice(self.origin.assumption(source, before));
        }
        for (what, endpoints) in moved {
            let endpoints = listed(&endpoints);
            notice(match what {
                Moved::Older => format!(
                    "the start was moved back: what is older is read now, beside what is new ({endpoints})"
                ),
                Moved::Again => format!(
                    "the start was moved back: everything is read again and replaces what is there, because what is older comes with \
                     all the rest only ({endpoints})"
                ),
                Moved::Forward => format!(
                    "the start was moved forward: what was read before stays, and reading goes on where it stopped; \
                     `pipeline sync {source} --full-refresh` leaves out what is older ({endpoints})"
                ),
            });
        }
        for (setting, endpoints) in changed {
            notice(format!(
                "`{setting}` was changed: rows that are stored already stay as they are, and `pipeline sync {source} --full-refresh` \
                 reads them again ({})",
                listed(&endpoints)
            ));
        }
        let ahead = self.session.client().ahead();
        if ahead.abs() >= CLOCKS_DIFFER {
            let which = if ahead > TimeDelta::zero() {
                "ahead of"
            } else {
                "behind"
            };
            notice(format!(
                "the server's clock is {} {which} this machine's: what was made between the two is read again by the next sync",
                span(ahead.abs())
            ));
        }
    }

    /// What is to be planned. Takes the states from those that are stored.
    fn requests(&self, stored: &mut States, full_refresh: bool) -> Vec<Request<'_>> {
        let mut requests = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            let id = endpoint.id(&self.source.name);
            let stored = stored.remove(&id).unwrap_or_default();
            let refused = self.refused.get(&id).map(|error| &**error);
            // Who wants everything wants what the configuration lets be read.
            if self.source.streams == Selection::All
                && refused.is_some_and(|error| error.kind() == ErrorKind::Unsupported)
            {
                continue;
            }
            let streams = wanted(self.source, endpoint)
                .map(|stream| stream.name().to_owned())
                .collect();
            let streams: BTreeSet<String> = streams;
            // A table that does not hold what was committed to it is read again, if that is asked
            // for or done at every sync. A feed goes on: what it brings is missing nowhere, unless
            // it is its own position that is lost.
            let damage = self.damages.of(&self.source.name, &streams);
            let is_read_again = full_refresh || endpoint.mode() == SyncMode::FullRefresh;
            let refused = refused
                .or(damage
                    .filter(|_| !is_read_again && (!endpoint.is_last() || stored.is_untouched())));
            let (range, origin) = (self.source.connector.range(), self.origin.clone());
            let wanted = Wanted {
                streams,
                range,
                full_refresh,
                damaged: damage.is_some(),
                origin,
            };
            requests.push(Request {
                endpoint,
                stored,
                wanted,
                refused,
            });
        }
        requests
    }

    /// Forgets what was read when the source had one account and now has several, or the other way
    /// round: its rows have another key, so that everything is read again into tables of their own.
    /// True when that is so.
    fn begin_again(&self, job: &Job, stored: &States, stager: &Stager) -> bool {
        if !self.refused.is_empty() && self.accounts.is_none() {
            return false;
        }
        let names: BTreeSet<&str> = self.endpoints.iter().map(Endpoint::name).collect();
        let is_other = |id: &EndpointId| {
            id.account().is_some() != self.is_by_account() && names.contains(id.name())
        };
        let others: Vec<_> = stored
            .iter()
            .filter(|(id, state)| is_other(id) && !state.is_untouched())
            .collect();
        for (id, from) in &others {
            let to = EndpointState {
                plan: from.plan + 1,
                ..EndpointState::default()
            };
            stager.change(|| CheckpointDelta::Replace {
                endpoint: (*id).clone(),
                from: (*from).clone(),
                to,
            });
        }
        if !others.is_empty() {
            let message = "rows are now told apart by account, or no longer: everything is read again, and replaces what is there";
            job.observer.observe(&Event::Notice {
                source: &self.source.name,
                endpoint: "",
                message,
            });
        }
        !others.is_empty()
    }

    /// The endpoints of accounts that earlier runs have read and the connector has no more, of the
    /// states that are left.
    fn gone<'s>(
        &'s self,
        left: &'s States,
        again: bool,
    ) -> impl Iterator<Item = EndpointSummary> + 's {
        let names: BTreeSet<&str> = self.endpoints.iter().map(Endpoint::name).collect();
        let accounts = self.accounts.as_ref().filter(|_| !again);
        let is_gone = move |id: &EndpointId| {
            let account = id.account().zip(accounts);
            names.contains(id.name())
                && account.is_some_and(|(account, known)| !known.contains(account))
        };
        left.iter().filter(move |(id, state)| is_gone(id) && !state.is_forgotten()).map(|(id, state)| EndpointSummary {
            id: id.clone(),
            outcome: Outcome::Unavailable {
                kind: ErrorKind::NotFound,
                answer: None,
                reason:
                    "the source does not have this account any more: what was read of it stays, but in tables that every sync reads whole"
                        .to_owned(),
                help: Some(format!("`pipeline state reset {}@{}` forgets it", id.source, id.account().unwrap_or_default())),
            },
            answered: false,
            streams: state.streams.iter().map(|name| StreamSummary { name: name.clone(), ..StreamSummary::default() }).collect(),
            cursor: state.freshness(),
            unfinished: state.unfinished().count(),
            skipped: 0,
            gaps: Vec::new(),
        })
    }
}

/// Names, of which the first stand for many.
fn listed(names: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_NAMED).copied().collect();
    match names.len().saturating_sub(MOST_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The endpoints that feed a stream that is wanted.
fn selected(source: &Source, endpoints: &[Endpoint]) -> Vec<Endpoint> {
    endpoints
        .iter()
        .filter(|endpoint| wanted(source, endpoint).next().is_some())
        .cloned()
        .collect()
}

/// The streams of an endpoint that are wanted.
fn wanted<'e>(source: &'e Source, endpoint: &'e Endpoint) -> impl Iterator<Item = &'e Stream> {
    endpoint.streams().filter(|stream| match &source.streams {
        Selection::All => !endpoint.is_opt_in(),
        Selection::Named(names) => names.iter().any(|wanted| wanted == stream.name()),
    })
}

/// The tables of a run. Endpoints that feed the same one, such as those of many accounts, share it.
#[derive(Default)]
struct Tables(HashMap<(TableId, Generation), (Schema, Arc<Table>)>);

impl Tables {
    /// The tables of an endpoint's streams; none for streams that are not wanted.
    fn of(
        &mut self,
        source: &Source,
        request: &Request<'_>,
        plan: &EndpointPlan,
    ) -> Vec<Option<Arc<Table>>> {
        let streams = request.endpoint.streams().zip(&plan.generations);
        let is_wanted = |stream: &Stream| request.wanted.streams.contains(stream.name());
        streams
            .map(|(stream, generation)| {
                is_wanted(stream).then(|| self.table(source, stream, *generation))
            })
            .collect()
    }

    fn table(&mut self, source: &Source, stream: &Stream, generation: Generation) -> Arc<Table> {
        let id = TableId {
            source: source.name.clone(),
            stream: stream.name().to_owned(),
        };
        let make = |TableId {
                        source,
                        stream: name,
                    }: TableId| {
            let primary_key = stream.key().iter().map(ToString::to_string).collect();
            Arc::new(Table {
                source,
                stream: name,
                primary_key,
                schema: Decoder::arrow_schema(stream.schema()),
                generation,
            })
        };
        let (schema, table) = self
            .0
            .entry((id.clone(), generation))
            .or_insert_with(|| (stream.schema().clone(), make(id.clone())));
        let is_same = schema == stream.schema() && table.primary_key.iter().eq(stream.key());
        if is_same { Arc::clone(table) } else { make(id) }
    }

    /// Each table once, in order.
    fn all(&self) -> Vec<Arc<Table>> {
        let tables: BTreeMap<TableId, &Arc<Table>> = self
            .0
            .values()
            .map(|(_, table)| (table.id(), table))
            .collect();
        tables.into_values().cloned().collect()
    }
}
