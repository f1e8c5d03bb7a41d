//! What a run reads: from what the connectors declare to the endpoints of every account, each with its state and its tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::commit::Committer;
use super::decode::Decoder;
use super::endpoint_run::EndpointRun;
use super::plan::{Plan, Request, Wanted, plan};
use super::summary::{EndpointSummary, Outcome, StreamSummary};
use super::{Job, Selection, Source};
use crate::connector::Preparation;
use crate::destination::{Generation, Table, TableId};
use crate::endpoint::{Endpoint, StreamDef};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::schema::Schema;
use crate::state::{Change, EndpointId, EndpointState};

/// What a run has to do.
pub(super) struct Resolved {
    pub(super) runs: Vec<Arc<EndpointRun>>,
    /// Endpoints of accounts that are not there any more.
    pub(super) gone: Vec<EndpointSummary>,
}

/// A source, and what the connector says that there is to read of it.
struct Reading<'a> {
    source: &'a Source,
    /// The endpoints that feed a stream that is wanted.
    endpoints: Vec<Endpoint>,
    /// Why endpoints are not to be read.
    refused: BTreeMap<EndpointId, Arc<Error>>,
    /// The accounts, where the source reads several and the connector could tell them.
    accounts: Option<BTreeSet<String>>,
}

/// The states of a source's endpoints.
type States = BTreeMap<EndpointId, EndpointState>;

/// Refuses streams that no connector has.
pub(super) fn check_streams(sources: &[Source]) -> Result<()> {
    for source in sources {
        let Selection::Named(names) = &source.streams else { continue };
        let known: BTreeSet<&str> = source.connector.endpoints().iter().flat_map(Endpoint::streams).map(StreamDef::name).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
            return Err(Error::new(ErrorKind::ConfigInvalid, format!("there is no stream `{unknown}`"))
                .with_context("source", source.name.clone())
                .with_context("field", "streams")
                .with_help(format!("known streams: {}", known.into_iter().collect::<Vec<_>>().join(", "))));
        }
    }
    Ok(())
}

/// Lets the connectors learn what they must, loads the state of each endpoint, plans it, and creates its tables. The plans
/// are committed by the caller.
pub(super) async fn resolve(job: &Job, committer: &Committer) -> Result<Resolved> {
    let mut readings = Vec::with_capacity(job.sources.len());
    for source in &job.sources {
        readings.push(Reading::ask(job, source).await);
    }
    let mut resolved = Resolved { runs: Vec::new(), gone: Vec::new() };
    let mut tables = Tables::default();
    for reading in readings.iter().filter(|reading| !reading.endpoints.is_empty()) {
        let stored = job.destination.states(&reading.source.name).await;
        let stored = stored.map_err(|error| error.with_context("source", reading.source.name.clone()))?;
        reading.resolve(job, stored, committer, &mut tables, &mut resolved);
    }
    if !job.options.dry_run {
        job.destination.check().await?;
        job.destination.prepare(&tables.all()).await?;
    }
    Ok(resolved)
}

impl<'a> Reading<'a> {
    /// Lets the connector learn what it must know before its endpoints are planned.
    async fn ask(job: &Job, source: &'a Source) -> Self {
        let declared = selected(source, source.connector.endpoints());
        let mut reading = Self { source, endpoints: Vec::new(), refused: BTreeMap::new(), accounts: None };
        if declared.is_empty() {
            return reading;
        }
        let now = source.connector.client().now();
        if let Some(start) = source.connector.range().start.filter(|start| *start > now) {
            let message =
                &format!("the start is {}, which is still to come: what is older is not read", start.format("%Y-%m-%d %H:%M UTC"));
            job.observer.observe(&Event::Notice { source: &source.name, endpoint: "", message });
        }
        let names: Vec<&str> = declared.iter().map(Endpoint::name).collect();
        let prepared = tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the run was cancelled before it began")),
            prepared = source.connector.prepare(&names) => prepared,
        };
        match prepared {
            Ok(Preparation { notes, endpoints, unavailable, closed }) => {
                for message in &notes {
                    job.observer.observe(&Event::Notice { source: &source.name, endpoint: "", message });
                }
                reading.endpoints = selected(source, endpoints.as_deref().unwrap_or(source.connector.endpoints()));
                reading.refuse(unavailable, |endpoint| Some(endpoint.name()));
                reading.refuse(closed, |endpoint| Some(&endpoint.account()?.id));
                let accounts = reading.endpoints.iter().filter_map(|endpoint| Some(endpoint.account()?.id.to_string()));
                reading.accounts = Some(accounts.collect()).filter(|_| reading.is_by_account());
            }
            Err(error) => {
                let error = Arc::new(error);
                reading.refused = declared.iter().map(|endpoint| (endpoint.id(&source.name), Arc::clone(&error))).collect();
                reading.endpoints = declared;
            }
        }
        reading
    }

    /// Takes note of endpoints that cannot be read, by what they are named by.
    fn refuse(&mut self, errors: Vec<(String, Error)>, name: impl Fn(&Endpoint) -> Option<&str>) {
        let errors: HashMap<String, Arc<Error>> = errors.into_iter().map(|(name, error)| (name, Arc::new(error))).collect();
        for endpoint in &self.endpoints {
            if let Some(error) = name(endpoint).and_then(|name| errors.get(name)) {
                self.refused.insert(endpoint.id(&self.source.name), Arc::clone(error));
            }
        }
    }

    fn is_by_account(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.account_column.is_some())
    }

    /// Plans the endpoints.
    fn resolve(&self, job: &Job, mut stored: States, committer: &Committer, tables: &mut Tables, resolved: &mut Resolved) {
        let source = self.source;
        let again = self.begin_again(job, &stored, committer);
        let requests = self.requests(&mut stored, job.options.full_refresh || again);
        resolved.gone.extend(self.gone(&stored, again));
        let plans = plan(&requests, source.connector.client().now());
        let busy = Arc::default();
        for (request, plan) in requests.iter().zip(plans) {
            let stream_tables = tables.of(source, request, &plan);
            for table in stream_tables.iter().flatten().filter(|_| plan.discard) {
                committer.discard(table.id());
            }
            let mut run = EndpointRun::new(source, resolved.runs.len(), request.endpoint, stream_tables, &plan, &busy);
            if let Some(error) = request.refused {
                run.refuse(error);
                job.observer.observe(&Event::EndpointFinished { endpoint: &run.id, error: Some(error) });
            }
            if plan.gap {
                let message = "changes since the last sync can no longer be read: all lists that they concern are read again";
                job.observer.observe(&Event::Notice { source: &source.name, endpoint: &run.id.endpoint, message });
            }
            if plan.from != plan.to {
                committer.change(|| Change::Replace { endpoint: run.id.clone(), from: plan.from, to: plan.to });
            }
            resolved.runs.push(Arc::new(run));
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
            if self.source.streams == Selection::All && refused.is_some_and(|error| error.kind() == ErrorKind::Unsupported) {
                continue;
            }
            let streams = wanted(self.source, endpoint).map(|stream| stream.name().to_owned()).collect();
            let streams: BTreeSet<String> = streams;
            let wanted = Wanted { streams, range: self.source.connector.range(), full_refresh };
            requests.push(Request { endpoint, stored, wanted, refused });
        }
        requests
    }

    /// Forgets what was read when the source had one account and now has several, or the other way round: its rows have
    /// another key, so that everything is read again into tables of their own. True when that is so.
    fn begin_again(&self, job: &Job, stored: &States, committer: &Committer) -> bool {
        if !self.refused.is_empty() && self.accounts.is_none() {
            return false;
        }
        let names: BTreeSet<&str> = self.endpoints.iter().map(Endpoint::name).collect();
        let is_other = |id: &EndpointId| id.account().is_some() != self.is_by_account() && names.contains(id.name());
        let others: Vec<_> = stored.iter().filter(|(id, state)| is_other(id) && !state.is_untouched()).collect();
        for (id, from) in &others {
            let to = EndpointState { plan: from.plan + 1, ..EndpointState::default() };
            committer.change(|| Change::Replace { endpoint: (*id).clone(), from: (*from).clone(), to });
        }
        if !others.is_empty() {
            let message = "rows are now told apart by account, or no longer: everything is read again, and replaces what is there";
            job.observer.observe(&Event::Notice { source: &self.source.name, endpoint: "", message });
        }
        !others.is_empty()
    }

    /// The endpoints of accounts that earlier runs have read and the connector has no more, of the states that are left.
    fn gone<'s>(&'s self, left: &'s States, again: bool) -> impl Iterator<Item = EndpointSummary> + 's {
        let names: BTreeSet<&str> = self.endpoints.iter().map(Endpoint::name).collect();
        let accounts = self.accounts.as_ref().filter(|_| !again);
        let is_gone = move |id: &EndpointId| {
            let account = id.account().zip(accounts);
            names.contains(id.name()) && account.is_some_and(|(account, known)| !known.contains(account))
        };
        left.iter().filter(move |(id, state)| is_gone(id) && !state.is_untouched()).map(|(id, state)| EndpointSummary {
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

/// The endpoints that feed a stream that is wanted.
fn selected(source: &Source, endpoints: &[Endpoint]) -> Vec<Endpoint> {
    endpoints.iter().filter(|endpoint| wanted(source, endpoint).next().is_some()).cloned().collect()
}

/// The streams of an endpoint that are wanted.
fn wanted<'e>(source: &'e Source, endpoint: &'e Endpoint) -> impl Iterator<Item = &'e StreamDef> {
    endpoint.streams().filter(|stream| match &source.streams {
        Selection::All => !endpoint.is_by_name(),
        Selection::Named(names) => names.iter().any(|wanted| wanted == stream.name()),
    })
}

/// The tables of a run. Endpoints that feed the same one, such as those of many accounts, share it.
#[derive(Default)]
struct Tables(HashMap<(TableId, Generation), (Schema, Arc<Table>)>);

impl Tables {
    /// The tables of an endpoint's streams; none for streams that are not wanted.
    fn of(&mut self, source: &Source, request: &Request<'_>, plan: &Plan) -> Vec<Option<Arc<Table>>> {
        let streams = request.endpoint.streams().zip(&plan.generations);
        let is_wanted = |stream: &StreamDef| request.wanted.streams.contains(stream.name());
        streams.map(|(stream, generation)| is_wanted(stream).then(|| self.table(source, stream, *generation))).collect()
    }

    fn table(&mut self, source: &Source, stream: &StreamDef, generation: Generation) -> Arc<Table> {
        let id = TableId { source: source.name.clone(), stream: stream.name().to_owned() };
        let make = |TableId { source, stream: name }: TableId| {
            let primary_key = stream.key().iter().map(ToString::to_string).collect();
            Arc::new(Table { source, stream: name, primary_key, schema: Decoder::arrow_schema(stream.schema()), generation })
        };
        let (schema, table) = self.0.entry((id.clone(), generation)).or_insert_with(|| (stream.schema().clone(), make(id.clone())));
        let is_same = schema == stream.schema() && table.primary_key.iter().eq(stream.key());
        if is_same { Arc::clone(table) } else { make(id) }
    }

    /// Each table once, in order.
    fn all(&self) -> Vec<Arc<Table>> {
        let tables: BTreeMap<TableId, &Arc<Table>> = self.0.values().map(|(_, table)| (table.id(), table)).collect();
        tables.into_values().cloned().collect()
    }
}
