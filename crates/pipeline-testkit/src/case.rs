//! Checks one case: what is recorded, killed after every page, and with every fault at every
//! request.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline_core::{BuildContext, Catalog, ConnectorConfig, Registry};

use self::judgement::{difference, judge, outcome, over};
use self::rendering::{records, requests, states};
use crate::fault::{Fault, Faulty};
use crate::fixture::{Fixture, snake_case};
use crate::gaps::Situation;
use crate::ledger::Store;
use crate::replay::Replay;
use crate::run::{Reading, Run, Setup};
use crate::secrets::Secrets;
use crate::snapshot::Snapshots;
use crate::suite::CaseReport;
use crate::vendor::Vendor;

mod judgement;
mod rendering;

pub(crate) use self::rendering::render_catalog;

/// Requests of a case that every fault is tried at, besides the last one.
const FAULTED_REQUESTS: usize = 5;

/// How often a request is answered again.
const ASKED_AGAIN: u32 = 8;

struct Case<'a> {
    registry: &'a Registry,
    fixture: &'a Fixture,
    secrets: &'a Secrets,
    report: CaseReport,
}

/// Checks one case.
pub(crate) fn check<C: ConnectorConfig>(
    registry: &Registry,
    fixture: &Fixture,
    secrets: &Secrets,
    snapshots: &mut Snapshots,
) -> CaseReport {
    let report = CaseReport::new(&fixture.name, fixture.origin.to_string());
    let mut case = Case {
        registry,
        fixture,
        secrets,
        report,
    };
    let outcome = case.check::<C>(snapshots);
    case.report.problems.extend(outcome.err());
    case.report
}

impl Case<'_> {
    fn check<C: ConnectorConfig>(&mut self, snapshots: &mut Snapshots) -> Result<(), String> {
        self.report.problems.extend(self.secrets.weakness());
        let replay = Arc::new(self.replay());
        let whole = self.setup::<C>(&replay).run(|_| replay.clone())?;
        self.report.pages = whole.pages().len();
        self.report.records = whole.progress.counts().values().sum();
        self.report.problems.extend(
            replay
                .unexpected()
                .into_iter()
                .map(|line| format!("nothing is recorded for {line}")),
        );
        self.report.problems.extend(
            replay
                .unused()
                .into_iter()
                .map(|line| format!("never asked for: {line}")),
        );
        self.expect_outcome(&whole);
        self.expect_no_leak("the recorded run", &whole);
        self.compare(&replay, &whole, snapshots);
        if self.report.problems.is_empty() {
            self.kill_after_every_page::<C>(&whole)?;
            if whole.error.is_none() {
                self.inject_faults::<C>(&whole, &replay.answers())?;
                self.check_gaps::<C>()?;
            }
        }
        Ok(())
    }

    /// Requests that come again are answered again, and show in their snapshot: a page that is
    /// damaged, and one that was read before and shows whether the vendor works at all.
    fn replay(&self) -> Replay {
        Replay::new(self.fixture.exchanges.clone(), self.secrets.clone()).repeating(ASKED_AGAIN)
    }

    fn reading<C: ConnectorConfig>(&self) -> Reading<'_> {
        Reading {
            registry: self.registry,
            connector: C::NAME,
            fixture: self.fixture,
        }
    }

    fn setup<C: ConnectorConfig>(&self, replay: &Arc<Replay>) -> Setup<'_> {
        Setup {
            reading: self.reading::<C>(),
            replay: replay.clone(),
            store: Arc::default(),
            kill_after: None,
        }
    }

    fn problem(&mut self, text: String) {
        self.report.problems.push(self.secrets.hide(&text));
    }

    fn expect_outcome(&mut self, whole: &Run) {
        let found = whole.error.as_ref().map(|error| error.kind);
        if found != self.fixture.expect_error {
            let expected = self
                .fixture
                .expect_error
                .map_or_else(|| "success".to_owned(), snake_case);
            self.problem(format!("expected {expected}, found {}", outcome(whole)));
        }
    }

    fn expect_no_leak(&mut self, what: &str, run: &Run) {
        if let Some(leak) = self.secrets.leak(&run.transcript) {
            self.problem(format!("{what} shows a secret: …{leak}…"));
        }
    }

    fn compare(&mut self, replay: &Replay, whole: &Run, snapshots: &mut Snapshots) {
        let is_of_case = |name: &str| self.fixture.streams.iter().any(|stream| stream == name);
        let contents = [
            ("requests", requests(replay, whole)),
            ("records", records(whole)),
            ("state", states(whole)),
            (
                "schema",
                whole
                    .catalog()
                    .map(|catalog| render_catalog(catalog, is_of_case))
                    .unwrap_or_default(),
            ),
        ];
        for (name, contents) in contents {
            if let Some(leak) = self.secrets.leak(&contents) {
                self.problem(format!("{name} would show a secret: …{leak}…"));
            } else if let Err(difference) = snapshots.check(&self.fixture.folder, name, &contents) {
                self.problem(difference);
            }
        }
    }

    /// Killed after any page and resumed from the stored state, a run ends as if it had not been
    /// killed.
    fn kill_after_every_page<C: ConnectorConfig>(&mut self, whole: &Run) -> Result<(), String> {
        for page in 1..=whole.pages().len() {
            let (replay, store) = (Arc::new(self.replay()), Arc::<Store>::default());
            let setup = Setup {
                kill_after: Some(page),
                store: Arc::clone(&store),
                ..self.setup::<C>(&replay)
            };
            let over = over(&setup.run(|_| replay.clone())?);
            if self.fixture.again.is_some() && !over.is_empty() {
                // A sync between the two was not recorded.
                continue;
            }
            // What was recorded for the second sync does not answer the first.
            let replay = if self.fixture.again.is_some() {
                replay
            } else {
                Arc::new(self.replay())
            };
            let setup = Setup {
                store,
                ..self.setup::<C>(&replay)
            };
            let resumed = if over.is_empty() {
                setup.run(|_| replay.clone())?
            } else {
                // The next sync of these endpoints asks for more than was recorded.
                setup.run(|_| Arc::new(Vendor::new(&self.fixture.exchanges, None, None)))?
            };
            self.report.kills += 1;
            let what = format!("killed after page {page} and resumed");
            self.expect_no_leak(&what, &resumed);
            for line in replay.unexpected() {
                self.problem(format!("{what}: nothing is recorded for {line}"));
            }
            if outcome(&resumed) != outcome(whole) {
                self.problem(format!(
                    "{what}: ended with {}, not with {}",
                    outcome(&resumed),
                    outcome(whole)
                ));
            } else if let Some(difference) = difference(whole, &resumed, &over) {
                self.problem(format!("{what}: {difference}"));
            }
        }
        Ok(())
    }

    fn inject_faults<C: ConnectorConfig>(
        &mut self,
        whole: &Run,
        answers: &[u16],
    ) -> Result<(), String> {
        let places: BTreeSet<usize> = (0..answers.len().min(FAULTED_REQUESTS))
            .chain(answers.len().checked_sub(1))
            .collect();
        for fault in Fault::ALL {
            for at in places.iter().filter(|at| fault.befalls(answers[**at])) {
                self.inject::<C>(fault, *at, whole)?;
            }
        }
        Ok(())
    }

    /// Read by the engine into a destination, sync after sync, with one request that goes wrong.
    fn check_gaps<C: ConnectorConfig>(&mut self) -> Result<(), String> {
        let found = Situation::new(self.reading::<C>(), self.secrets).check()?;
        self.report.faults += found.troubles;
        self.report.kills += found.kills;
        self.report.gaps = found.gaps;
        self.report.problems.extend(found.problems);
        Ok(())
    }

    fn inject<C: ConnectorConfig>(
        &mut self,
        fault: Fault,
        at: usize,
        whole: &Run,
    ) -> Result<(), String> {
        let replay = Arc::new(self.replay().repeating_tokens());
        let mut faulty = None;
        let run = self.setup::<C>(&replay).run(|clock| {
            let service = Arc::new(Faulty::new(replay.clone(), clock, fault, at));
            faulty = Some(service.clone());
            service
        })?;
        self.report.faults += 1;
        let what = format!("{fault:?} at request {}", at + 1);
        let refreshes = self.fixture.refreshes_tokens();
        let (attempts, pause) =
            faulty.map_or((0, None), |faulty| (faulty.faulted(), faulty.pause()));
        if let Some(problem) = judge(fault.expected(refreshes), at, whole, &run, pause) {
            self.problem(format!("{what}: {problem}"));
        }
        for line in replay.unexpected() {
            self.problem(format!("{what}: nothing is recorded for {line}"));
        }
        if attempts == 0 {
            self.problem(format!("{what}: the request was never sent"));
        } else if attempts > fault.most_attempts(refreshes) {
            self.problem(format!(
                "{what}: {attempts} attempts with credentials that were refused"
            ));
        }
        self.expect_no_leak(&what, &run);
        Ok(())
    }
}

/// The catalog that a connector declares, without a request.
pub(crate) fn declared_catalog<C: ConnectorConfig>(
    registry: &Registry,
    fixture: &Fixture,
) -> Result<Catalog, String> {
    let transport = Arc::new(Replay::new(Vec::new(), Secrets::default()));
    let context = BuildContext::default().transport(transport);
    let connector = registry
        .build(C::NAME, fixture.config.clone(), context)
        .map_err(|error| error.to_string())?;
    Ok(Catalog::of(connector.endpoints()))
}
