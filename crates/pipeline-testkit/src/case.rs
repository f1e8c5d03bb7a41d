//! Checks one case: what is recorded, killed after every page, and with every fault at every request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::{BuildContext, Catalog, ConnectorConfig, ErrorKind, Inside, Registry};

use crate::fault::{Expected, Fault, Faulty};
use crate::fixture::{Fixture, snake_case};
use crate::gaps::Situation;
use crate::json::pretty;
use crate::replay::Replay;
use crate::run::{PageRead, Progress, Run, Setup};
use crate::secrets::Secrets;
use crate::snapshot::Snapshots;
use crate::suite::CaseReport;

/// Records of a stream that a snapshot shows whole.
const SHOWN_RECORDS: usize = 5;

/// Pages after which a snapshot shows the state.
const SHOWN_STATES: usize = 20;

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
    let mut case = Case { registry, fixture, secrets, report };
    let outcome = case.check::<C>(snapshots);
    case.report.problems.extend(outcome.err());
    case.report
}

impl Case<'_> {
    fn check<C: ConnectorConfig>(&mut self, snapshots: &mut Snapshots) -> Result<(), String> {
        self.report.problems.extend(self.secrets.weakness());
        let replay = Arc::new(self.replay());
        let whole = self.setup::<C>(&replay).run(Progress::default(), |_| replay.clone())?;
        self.report.pages = whole.pages.len();
        self.report.records = whole.progress.counts().values().sum();
        self.report.problems.extend(replay.unexpected().into_iter().map(|line| format!("nothing is recorded for {line}")));
        self.report.problems.extend(replay.unused().into_iter().map(|line| format!("never asked for: {line}")));
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

    /// Requests that come again are answered again, and show in their snapshot: a page that is damaged, and one that was read
    /// before and shows whether the vendor works at all.
    fn replay(&self) -> Replay {
        Replay::new(self.fixture.exchanges.clone(), self.secrets.clone()).repeating(ASKED_AGAIN)
    }

    fn setup<C: ConnectorConfig>(&self, replay: &Arc<Replay>) -> Setup<'_> {
        Setup::new::<C>(self.registry, self.fixture, replay.clone())
    }

    fn problem(&mut self, text: String) {
        self.report.problems.push(self.secrets.hide(&text));
    }

    fn expect_outcome(&mut self, whole: &Run) {
        let found = whole.error.as_ref().map(pipeline_core::Error::kind);
        if found != self.fixture.expect_error {
            let expected = self.fixture.expect_error.map_or_else(|| "success".to_owned(), snake_case);
            self.problem(format!("expected {expected}, found {}", outcome(whole)));
        }
    }

    fn expect_no_leak(&mut self, what: &str, run: &Run) {
        if let Some(leak) = self.secrets.leak(&run.transcript) {
            self.problem(format!("{what} shows a secret: …{leak}…"));
        }
    }

    fn compare(&mut self, replay: &Replay, whole: &Run, snapshots: &mut Snapshots) {
        let contents = [
            ("requests", replay.requests().join("\n")),
            ("records", records(whole)),
            ("state", states(whole)),
            ("schema", render_catalog(&whole.catalog, |name| self.fixture.streams.iter().any(|stream| stream == name))),
        ];
        for (name, contents) in contents {
            if let Some(leak) = self.secrets.leak(&contents) {
                self.problem(format!("{name} would show a secret: …{leak}…"));
            } else if let Err(difference) = snapshots.check(&self.fixture.folder, name, &contents) {
                self.problem(difference);
            }
        }
    }

    /// Killed after any page and resumed from the stored state, a run ends as if it had not been killed.
    fn kill_after_every_page<C: ConnectorConfig>(&mut self, whole: &Run) -> Result<(), String> {
        for page in 1..=whole.pages.len() {
            let replay = Arc::new(self.replay());
            let setup = Setup { kill_after: Some(page), ..self.setup::<C>(&replay) };
            let killed = setup.run(Progress::default(), |_| replay.clone())?;
            let replay = Arc::new(self.replay());
            let resumed = self.setup::<C>(&replay).run(killed.progress, |_| replay.clone())?;
            self.report.kills += 1;
            let what = format!("killed after page {page} and resumed");
            for line in replay.unexpected() {
                self.problem(format!("{what}: nothing is recorded for {line}"));
            }
            if outcome(&resumed) != outcome(whole) {
                self.problem(format!("{what}: ended with {}, not with {}", outcome(&resumed), outcome(whole)));
            } else if resumed.progress != whole.progress {
                self.problem(format!("{what}: {}", difference(&whole.progress, &resumed.progress)));
            }
            self.expect_no_leak(&what, &resumed);
        }
        Ok(())
    }

    fn inject_faults<C: ConnectorConfig>(&mut self, whole: &Run, answers: &[u16]) -> Result<(), String> {
        let places: BTreeSet<usize> = (0..answers.len().min(FAULTED_REQUESTS)).chain(answers.len().checked_sub(1)).collect();
        for fault in Fault::ALL {
            for at in places.iter().filter(|at| fault.befalls(answers[**at])) {
                self.inject::<C>(fault, *at, whole)?;
            }
        }
        Ok(())
    }

    /// Read by the engine into a destination, sync after sync, with one request that goes wrong.
    fn check_gaps<C: ConnectorConfig>(&mut self) -> Result<(), String> {
        let found = Situation::new(self.registry, C::NAME, self.fixture, self.secrets).check()?;
        self.report.faults += found.troubles;
        self.report.kills += found.kills;
        self.report.gaps = found.gaps;
        self.report.problems.extend(found.problems);
        Ok(())
    }

    fn inject<C: ConnectorConfig>(&mut self, fault: Fault, at: usize, whole: &Run) -> Result<(), String> {
        let replay = Arc::new(self.replay().repeating_tokens());
        let mut faulty = None;
        let run = self.setup::<C>(&replay).run(Progress::default(), |clock| {
            let service = Arc::new(Faulty::new(replay.clone(), clock, fault, at));
            faulty = Some(service.clone());
            service
        })?;
        self.report.faults += 1;
        let what = format!("{fault:?} at request {}", at + 1);
        let refreshes = self.fixture.refreshes_tokens();
        let (attempts, pause) = faulty.map_or((0, None), |faulty| (faulty.faulted(), faulty.pause()));
        if let Some(problem) = judge(fault.expected(refreshes), at, whole, &run, pause) {
            self.problem(format!("{what}: {problem}"));
        }
        for line in replay.unexpected() {
            self.problem(format!("{what}: nothing is recorded for {line}"));
        }
        if attempts == 0 {
            self.problem(format!("{what}: the request was never sent"));
        } else if attempts > fault.most_attempts(refreshes) {
            self.problem(format!("{what}: {attempts} attempts with credentials that were refused"));
        }
        self.expect_no_leak(&what, &run);
        Ok(())
    }
}

/// What is wrong with a run that met a fault at request `at`.
fn judge(expected: Expected, at: usize, whole: &Run, run: &Run, pause: Option<Duration>) -> Option<String> {
    match expected {
        Expected::Same => same(whole, run),
        Expected::SameAfter(asked) => same(whole, run).or_else(|| {
            let early = pause.filter(|pause| *pause < asked)?;
            Some(format!("asked again after {early:?} although the vendor asked for {asked:?}"))
        }),
        _ if run.error.is_none() && !run.progress.passed_over.is_empty() => without_units(whole, run),
        Expected::SameOrFails(_) if run.error.is_none() => same(whole, run),
        Expected::WithoutPageOrFails(_) if run.error.is_none() => without_page(at, whole, run),
        Expected::Fails(kinds) | Expected::SameOrFails(kinds) | Expected::WithoutPageOrFails(kinds) => fails(kinds, at, whole, run),
    }
}

/// What could not be read was passed over by its name: everything that is there is right.
fn without_units(whole: &Run, run: &Run) -> Option<String> {
    // A record may be one of the units, and hold less than it would.
    let of_unit = |record: &str| {
        let names = run.progress.passed_over.iter().filter_map(|unit| unit.split_once(" of "));
        names.into_iter().any(|(id, _)| record.contains(&format!("\"id\":\"{id}\"")))
    };
    let is_part = run.progress.records.iter().all(|(stream, records)| {
        let mut rest = whole.progress.records.get(stream).into_iter().flatten();
        records.iter().filter(|record| !of_unit(record)).all(|record| rest.any(|known| known == record))
    });
    (!is_part).then(|| format!("{:?} were passed over, and not all other records are those that there are", run.progress.passed_over))
}

fn same(whole: &Run, run: &Run) -> Option<String> {
    match &run.error {
        Some(_) => Some(format!("expected the same records, found {}", outcome(run))),
        None => (run.progress != whole.progress).then(|| difference(&whole.progress, &run.progress)),
    }
}

fn fails(kinds: &[ErrorKind], at: usize, whole: &Run, run: &Run) -> Option<String> {
    if !run.error.as_ref().is_some_and(|error| kinds.contains(&error.kind())) {
        return Some(format!("expected {kinds:?}, found {}", outcome(run)));
    }
    let before = committed_before(at, whole);
    let found = run.progress.counts();
    let is_prefix =
        run.progress.records.iter().all(|(stream, records)| whole.progress.records.get(stream).is_some_and(|all| all.starts_with(records)));
    // Of requests under way at the same time others can have been answered that come before in the order of their pages.
    let has_more = |page: &PageRead| page.committed == found && before.iter().all(|(stream, count)| found.get(stream) >= Some(count));
    let is_page = found == before || (!is_one_by_one(whole) && whole.pages.iter().any(has_more));
    (!is_page || !is_prefix).then(|| format!("expected the records of the pages before, {before:?}, found {:?}", run.progress.counts()))
}

/// The list went on after the empty page: of every stream, only that page's records are missing.
fn without_page(at: usize, whole: &Run, run: &Run) -> Option<String> {
    let mut expected = whole.progress.counts();
    for page in whole.pages.iter().filter(|page| page.requests == at + 1) {
        for (stream, count) in &page.records {
            expected.entry(stream.clone()).and_modify(|total| *total -= count);
        }
    }
    expected.retain(|_, count| *count > 0);
    let found = run.progress.counts();
    // Bodies without a list of records are left as they are, a list may end at its first empty page, and one that knows its
    // total is read anew.
    let is_right = found == expected
        || run.progress.records == whole.progress.records
        || found == committed_before(at, whole)
        || is_read_anew(whole, run)
        || lacks_what_belongs_to_it(at, whole, run);
    (!is_right).then(|| format!("expected all but the empty page, {expected:?}, found {found:?}"))
}

/// Whether all records are there, and some of them more than once: their key merges them.
fn is_read_anew(whole: &Run, run: &Run) -> bool {
    let distinct = |run: &Run| -> BTreeSet<(String, String)> {
        let records = run.progress.records.iter();
        records.flat_map(|(stream, records)| records.iter().map(|record| (stream.clone(), record.clone()))).collect()
    };
    distinct(whole) == distinct(run)
}

/// Records committed before the data request number `at`, by stream.
fn committed_before(at: usize, whole: &Run) -> BTreeMap<String, usize> {
    whole.pages.iter().take_while(|page| page.requests <= at).last().map(|page| page.committed.clone()).unwrap_or_default()
}

/// Whether every request is a page.
fn is_one_by_one(whole: &Run) -> bool {
    whole.pages.iter().enumerate().all(|(index, page)| page.requests == index + 1)
}

/// Whether nothing is missing but records that came after the request: the empty page was one of records that have lists of
/// their own, which are then never asked for. Where every request is a page there are none such.
fn lacks_what_belongs_to_it(at: usize, whole: &Run, run: &Run) -> bool {
    if is_one_by_one(whole) {
        return false;
    }
    let before = committed_before(at, whole);
    whole.progress.records.iter().all(|(stream, all)| {
        let found = run.progress.records.get(stream).map_or(&[][..], Vec::as_slice);
        let mut rest = all.iter();
        let is_part = found.iter().all(|record| rest.any(|known| known == record));
        is_part && found.starts_with(&all[..before.get(stream).copied().unwrap_or_default()])
    })
}

fn outcome(run: &Run) -> String {
    run.error.as_ref().map_or_else(|| "success".to_owned(), |error| format!("{}: {error}", snake_case(error.kind())))
}

fn difference(expected: &Progress, found: &Progress) -> String {
    for (stream, records) in &expected.records {
        let others = found.records.get(stream).map_or(&[][..], Vec::as_slice);
        if records != others {
            let at = records.iter().zip(others).take_while(|(a, b)| a == b).count();
            return format!("stream {stream}: {} records instead of {}, different from record {} on", others.len(), records.len(), at + 1);
        }
    }
    match expected.states.iter().find(|(endpoint, state)| found.states.get(*endpoint) != Some(state)) {
        Some((endpoint, state)) => format!("endpoint {endpoint}: the state is {:?} instead of {state}", found.states.get(endpoint)),
        None if expected.passed_over != found.passed_over => {
            format!("passed over {:?}, and not {:?}", found.passed_over, expected.passed_over)
        }
        None => "records of streams that were not there".to_owned(),
    }
}

fn records(run: &Run) -> String {
    let mut out = String::new();
    for (stream, records) in &run.progress.records {
        let hash = records.iter().fold(blake3::Hasher::new(), |mut hasher, record| {
            hasher.update(record.as_bytes()).update(b"\n");
            hasher
        });
        _ = writeln!(out, "# {stream}: {} records, hash {}", records.len(), &hash.finalize().to_hex()[..16]);
        for record in records.iter().take(SHOWN_RECORDS) {
            _ = writeln!(out, "{}", pretty(record.as_bytes()));
        }
    }
    for (unit, reason) in &run.reasons {
        _ = writeln!(out, "# passed over {unit}: {reason}");
    }
    if let Some(error) = &run.error {
        _ = writeln!(out, "# ended with {}", outcome(run));
        _ = error.help().map(|help| writeln!(out, "# help: {help}"));
    }
    out
}

fn states(run: &Run) -> String {
    let mut out = String::new();
    let stops = run.pages.iter().enumerate().filter_map(|(index, page)| Some((index + 1, page, page.state.as_ref()?)));
    for (number, page, state) in stops.take(SHOWN_STATES) {
        let counts: Vec<String> = page.records.iter().map(|(stream, count)| format!("{count} {stream}")).collect();
        _ = writeln!(out, "# page {number}, endpoint {}: {}", page.endpoint, counts.join(", "));
        _ = writeln!(out, "{state}");
    }
    for (endpoint, state) in &run.progress.states {
        _ = writeln!(out, "# after all pages, endpoint {endpoint}\n{state}");
    }
    out
}

/// The streams of a catalog, one column a line.
pub(crate) fn render_catalog(catalog: &Catalog, wanted: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    for stream in catalog.streams.iter().filter(|stream| wanted(&stream.name)) {
        let cursor = stream.cursor.as_deref().unwrap_or("none");
        _ = writeln!(
            out,
            "{} from {}: {}, key [{}], cursor {cursor}",
            stream.name,
            stream.endpoint,
            stream.mode,
            stream.primary_key.join(", ")
        );
        if let Some(parent) = &stream.parent {
            _ = writeln!(out, "  parent: {parent}");
        }
        _ = writeln!(out, "  deletions: {}", stream.deletes);
        for field in stream.schema.fields() {
            let data_type = serde_json::to_string(&field.data_type).unwrap_or_default();
            _ = write!(out, "  {}: {}", field.name, data_type.trim_matches('"'));
            if let Some(Inside { member, name, entries }) = &field.inside {
                let place = entries.map_or_else(|| name.to_string(), |(key, value)| format!("{value} where {key} is {name}"));
                _ = write!(out, ", in {member}: {place}");
            }
            out.push('\n');
        }
    }
    out
}

/// The catalog that a connector declares, without a request.
pub(crate) fn declared_catalog<C: ConnectorConfig>(registry: &Registry, fixture: &Fixture) -> Result<Catalog, String> {
    let transport = Arc::new(Replay::new(Vec::new(), Secrets::default()));
    let context = BuildContext { transport: Some(transport), ..BuildContext::default() };
    let connector = registry.build(C::NAME, fixture.config.clone(), context).map_err(|error| error.to_string())?;
    Ok(Catalog::of(connector.endpoints()))
}
