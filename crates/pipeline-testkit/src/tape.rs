//! What is seen of a run: the pages that the connector yields, and which of them were committed. It
//! ends the run after a page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_core::state::{Position, SliceState};
use pipeline_core::{Advance, Catalog, Endpoint, Op, Page, Plan, RawRecord};
use tokio::sync::Notify;

use crate::json::compact;
use crate::replay::Replay;

/// One page that was committed, or read when more of its response follows.
#[derive(Debug)]
pub(crate) struct PageRead {
    pub(crate) endpoint: String,
    /// The sync that it was read in, from 0.
    pub(crate) sync: usize,
    /// Records on it, by stream.
    pub(crate) records: Vec<(String, usize)>,
    /// The state afterwards; none when a sync cannot stop at the page.
    pub(crate) state: Option<String>,
    /// Data requests answered until then.
    pub(crate) requests: usize,
    /// Rows committed until then.
    pub(crate) committed: BTreeMap<String, usize>,
}

/// Positions of endpoints at which they caught up: what comes later is the next sync's, which is
/// not recorded.
pub(crate) type CaughtUp = BTreeSet<(String, String)>;

/// What a run yields, as its connector and its destination see it.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    replay: Option<Arc<Replay>>,
    streams: Vec<String>,
    /// The run ends after this number of pages.
    kill_after: Option<usize>,
    killed: Notify,
    seen: Mutex<SeenPages>,
}

#[derive(Debug, Default)]
pub(crate) struct SeenPages {
    pub(crate) pages: Vec<PageRead>,
    /// Records of the committed pages, as text, of each sync and stream.
    pub(crate) records: Vec<BTreeMap<String, Vec<String>>>,
    /// The streams, with what the connector learned of the account.
    pub(crate) catalog: Option<Catalog>,
    pub(crate) caught_up: CaughtUp,
    /// Records that were read and are not committed.
    staged: Vec<(String, String)>,
    /// What the last page says of the next, until it is committed.
    advance: Option<Advance>,
}

impl Tape {
    /// Watches the streams of a case, whose requests are answered by `replay`. The run ends after
    /// `kill_after` pages.
    pub(crate) fn new(
        replay: Arc<Replay>,
        streams: &[String],
        caught_up: CaughtUp,
        kill_after: Option<usize>,
    ) -> Self {
        let seen = Mutex::new(SeenPages {
            caught_up,
            ..SeenPages::default()
        });
        Self {
            replay: Some(replay),
            streams: streams.to_vec(),
            kill_after,
            killed: Notify::new(),
            seen,
        }
    }

    fn seen(&self) -> MutexGuard<'_, SeenPages> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the page was read that kills the run.
    pub(crate) async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Never returns when the run is to end here.
    pub(crate) async fn die_if_due(&self) {
        let is_due = self
            .kill_after
            .is_some_and(|pages| self.seen().pages.len() >= pages);
        if is_due {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Records that a sync begins.
    pub(crate) fn begin(&self) {
        self.seen().records.push(BTreeMap::new());
    }

    /// Records that a sync is over: the next one resumes where it caught up.
    pub(crate) fn end(&self) {
        let mut seen = self.seen();
        seen.give_up();
        seen.caught_up.clear();
    }

    /// Records what can be read, as long as nothing was learned of the account.
    pub(crate) fn declared(&self, endpoints: &[Endpoint]) {
        self.seen().catalog = Some(Catalog::of(endpoints));
    }

    /// Records what was learned of the account.
    pub(crate) fn opened(&self, plan: &Plan) {
        self.seen().catalog = Some(Catalog::of(&plan.endpoints));
    }

    /// The page that an endpoint yields where it has caught up in this sync.
    pub(crate) fn caught_up(&self, endpoint: &Endpoint, slice: &SliceState) -> Option<Page> {
        let Position::At(position) = &slice.position else {
            return None;
        };
        let is_known = self
            .seen()
            .caught_up
            .contains(&(endpoint.name().to_owned(), position.clone()));
        let records = endpoint.streams().map(|_| Vec::new()).collect();
        is_known.then(|| Page::new(records, Some(Advance::CaughtUp(position.clone()))))
    }

    /// Records a page that the engine is about to get.
    pub(crate) fn page_read(&self, endpoint: &Endpoint, page: &Page) {
        let records = self.wanted(endpoint, page);
        let requests = self
            .replay
            .as_ref()
            .map(|replay| replay.answers().len())
            .unwrap_or_default();
        let mut seen = self.seen();
        if seen.advance.is_some() {
            seen.give_up();
        }
        let committed = seen
            .pages
            .last()
            .map(|page| page.committed.clone())
            .unwrap_or_default();
        let (endpoint, sync) = (
            endpoint.name().to_owned(),
            seen.records.len().saturating_sub(1),
        );
        seen.pages.push(PageRead {
            endpoint,
            sync,
            records: count(&records),
            state: None,
            requests,
            committed,
        });
        seen.staged.extend(records);
        seen.advance.clone_from(&page.advance);
    }

    /// Records that what was read is committed, and ends the run if that is due.
    pub(crate) async fn page_committed(&self, state: String, committed: BTreeMap<String, usize>) {
        self.seen().commit(state, committed);
        self.die_if_due().await;
    }

    /// The page's records of the streams of the case, as text.
    fn wanted(&self, endpoint: &Endpoint, page: &Page) -> Vec<(String, String)> {
        let streams = endpoint.streams().zip(&page.records);
        let wanted =
            streams.filter(|(stream, _)| self.streams.iter().any(|name| name == stream.name()));
        wanted
            .flat_map(|(stream, records)| {
                records
                    .iter()
                    .map(|record| (stream.name().to_owned(), text(record)))
            })
            .collect()
    }

    /// What was seen.
    pub(crate) fn take(&self) -> SeenPages {
        std::mem::take(&mut self.seen())
    }
}

impl SeenPages {
    /// Forgets a page that was never committed: it was given up, or asked for only to see whether
    /// the vendor answers.
    fn give_up(&mut self) {
        self.staged.clear();
        if self.advance.take().is_some() {
            self.pages.pop();
        }
    }

    fn commit(&mut self, state: String, committed: BTreeMap<String, usize>) {
        let Some(page) = self.pages.last_mut() else {
            return;
        };
        if let Some(Advance::CaughtUp(position)) = self.advance.take() {
            self.caught_up.insert((page.endpoint.clone(), position));
        }
        (page.state, page.committed) = (Some(state), committed);
        if let Some(records) = self.records.last_mut() {
            for (stream, record) in self.staged.drain(..) {
                records.entry(stream).or_default().push(record);
            }
        }
    }
}

fn text(record: &RawRecord) -> String {
    let mark = match record.op() {
        Op::Upsert => "",
        Op::Delete => "deleted ",
        Op::DeleteMatching => "deleted all with ",
        Op::Reject => "rejected ",
    };
    format!("{mark}{}", compact(&record.as_bytes()))
}

fn count(records: &[(String, String)]) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (stream, _) in records {
        match counts.iter_mut().find(|(known, _)| known == stream) {
            Some((_, count)) => *count += 1,
            None => counts.push((stream.clone(), 1)),
        }
    }
    counts
}
