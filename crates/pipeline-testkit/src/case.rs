//! Checks one case: what is recorded, killed after every page, and with every fault at every
//! request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::state::{EndpointState, Position};
use pipeline_core::{BuildContext, Catalog, ConnectorConfig, ErrorKind, Inside, Registry};

use crate::fault::{Expected, Fault, Faulty};
use crate::fixture::{Fixture, snake_case};
use crate::gaps::Situation;
use crate::json::pretty;
use crate::ledger::Store;
use crate::replay::Replay;
use crate::run::{Reading, Run, Setup, units};
use crate::secrets::Secrets;
use crate::snapshot::Snapshots;
use crate::suite::CaseReport;
use crate::tape::PageRead;
use crate::vendor::Vendor;

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

/// What is wrong with a run that met a fault at request `at`.
fn judge(
    expected: Expected,
    at: usize,
    whole: &Run,
    run: &Run,
    pause: Option<Duration>,
) -> Option<String> {
    match expected {
        Expected::Same => same(whole, run),
        Expected::SameAfter(asked) => same(whole, run).or_else(|| {
            let early = pause.filter(|pause| *pause < asked)?;
            Some(format!(
                "asked again after {early:?} although the vendor asked for {asked:?}"
            ))
        }),
        _ if run.error.is_none() && !run.missing.is_empty() => without_units(whole, run),
        Expected::SameOrFails(_) if run.error.is_none() => same(whole, run),
        Expected::WithoutPageOrFails(_) if run.error.is_none() => without_page(at, whole, run),
        Expected::Fails(kinds)
        | Expected::SameOrFails(kinds)
        | Expected::WithoutPageOrFails(kinds) => fails(kinds, at, whole, run),
    }
}

/// What could not be read was passed over by its name: everything that is there is right.
fn without_units(whole: &Run, run: &Run) -> Option<String> {
    // A record may be one of the units, and hold less than it would.
    let of_unit = |row: &str| {
        let mut ids = run
            .missing
            .keys()
            .filter_map(|unit| unit.split_once(" of "));
        ids.any(|(id, _)| row.contains(&format!("\"id\": {id:?}")))
    };
    let is_part = run.progress.rows.iter().all(|(stream, rows)| {
        let mut rest = whole.progress.rows.get(stream).into_iter().flatten();
        rows.iter()
            .filter(|row| !of_unit(row))
            .all(|row| rest.any(|known| known == row))
    });
    (!is_part).then(|| {
        format!(
            "{:?} were passed over, and not all other rows are those that there are",
            run.missing
        )
    })
}

fn same(whole: &Run, run: &Run) -> Option<String> {
    match &run.error {
        Some(_) => Some(format!("expected the same records, found {}", outcome(run))),
        None => difference(whole, run, &BTreeSet::new()),
    }
}

fn fails(kinds: &[ErrorKind], at: usize, whole: &Run, run: &Run) -> Option<String> {
    if !run
        .error
        .as_ref()
        .is_some_and(|error| kinds.contains(&error.kind))
    {
        return Some(format!("expected {kinds:?}, found {}", outcome(run)));
    }
    let before = committed_before(at, whole);
    let found = run.progress.counts();
    let is_prefix = run.progress.rows.iter().all(|(stream, rows)| {
        whole
            .progress
            .rows
            .get(stream)
            .is_some_and(|all| all.starts_with(rows))
    });
    // Of requests under way at the same time others can have been answered that come before in the
    // order of their pages.
    let has_more = |page: &PageRead| {
        page.committed == found
            && before
                .iter()
                .all(|(stream, count)| found.get(stream) >= Some(count))
    };
    let is_page = found == before || (!is_one_by_one(whole) && whole.pages().iter().any(has_more));
    (!is_page || !is_prefix).then(|| {
        format!(
            "expected the records of the pages before, {before:?}, found {:?}",
            run.progress.counts()
        )
    })
}

/// The list went on after the empty page: of every stream, only that page's records are missing.
fn without_page(at: usize, whole: &Run, run: &Run) -> Option<String> {
    // Bodies without a list of records are left as they are, a list may end at its first empty
    // page, and one that knows its total is read anew.
    let mut expected = whole.progress.counts();
    for (stream, count) in whole
        .pages()
        .iter()
        .filter(|page| page.requests == at + 1)
        .flat_map(|page| &page.records)
    {
        expected
            .entry(stream.clone())
            .and_modify(|total| *total = total.saturating_sub(*count));
    }
    expected.retain(|_, count| *count > 0);
    // Without what planning learns, the same rows can have other values.
    let is_right = run.progress.counts() == expected
        || lacks_rows_of_page_alone(at, whole, run)
        || run.progress.rows == whole.progress.rows
        || run.progress.counts() == committed_before(at, whole)
        || is_read_anew(whole, run)
        || lacks_what_belongs_to_it(at, whole, run);
    (!is_right).then(|| {
        format!(
            "expected all but the empty page, found {:?}",
            run.progress.counts()
        )
    })
}

/// Whether no rows are missing but those of the page, and nothing is there besides.
fn lacks_rows_of_page_alone(at: usize, whole: &Run, run: &Run) -> bool {
    let committed = |page: usize, stream: &String| {
        whole
            .pages()
            .get(page)
            .and_then(|page| page.committed.get(stream))
            .copied()
            .unwrap_or(0)
    };
    let is_emptied = |page: &usize| whole.pages()[*page].requests == at + 1;
    let emptied: Vec<usize> = (0..whole.pages().len()).filter(is_emptied).collect();
    whole.progress.rows.iter().all(|(stream, all)| {
        let found = run.progress.rows.get(stream).map_or(&[][..], Vec::as_slice);
        let first = |page: usize| {
            page.checked_sub(1)
                .map_or(0, |before| committed(before, stream))
        };
        let is_of_page = |row: usize| {
            emptied
                .iter()
                .any(|page| (first(*page)..committed(*page, stream)).contains(&row))
        };
        let is_right = all
            .iter()
            .enumerate()
            .all(|(index, row)| found.contains(row) || is_of_page(index));
        is_right && found.len() <= all.len() && found.iter().all(|row| all.contains(row))
    })
}

/// Whether all records are there, and some of them more than once: their key merges them.
fn is_read_anew(whole: &Run, run: &Run) -> bool {
    let distinct = |run: &Run| -> BTreeSet<(String, String)> {
        let rows = run.progress.rows.iter();
        rows.flat_map(|(stream, rows)| rows.iter().map(|row| (stream.clone(), row.clone())))
            .collect()
    };
    distinct(whole) == distinct(run)
}

/// Records committed before the data request number `at`, by stream.
fn committed_before(at: usize, whole: &Run) -> BTreeMap<String, usize> {
    whole
        .pages()
        .iter()
        .take_while(|page| page.requests <= at)
        .last()
        .map(|page| page.committed.clone())
        .unwrap_or_default()
}

/// Whether every request is a page.
fn is_one_by_one(whole: &Run) -> bool {
    whole
        .pages()
        .iter()
        .enumerate()
        .all(|(index, page)| page.requests == index + 1)
}

/// Whether nothing is missing but records that came after the request: the empty page was one of
/// records that have lists of their own, which are then never asked for. Where every request is a
/// page there are none such.
fn lacks_what_belongs_to_it(at: usize, whole: &Run, run: &Run) -> bool {
    if is_one_by_one(whole) {
        return false;
    }
    let before = committed_before(at, whole);
    whole.progress.rows.iter().all(|(stream, all)| {
        let found = run.progress.rows.get(stream).map_or(&[][..], Vec::as_slice);
        let mut rest = all.iter();
        let is_part = found.iter().all(|row| rest.any(|known| known == row));
        is_part && found.starts_with(&all[..before.get(stream).copied().unwrap_or_default()])
    })
}

fn outcome(run: &Run) -> String {
    run.error.as_ref().map_or_else(
        || "success".to_owned(),
        |error| format!("{}: {}", snake_case(error.kind), error.message),
    )
}

/// The endpoints that were read to their end, or to that of a slice, when the run was killed: who
/// resumes begins their next sync, which reads the newest records, or all of them, once more.
fn over(killed: &Run) -> BTreeSet<String> {
    let states = killed.progress.states.iter();
    // Where one of several slices is read, what is new since then is planned beside the others.
    let has_read_one = |state: &EndpointState| {
        state
            .slices
            .values()
            .any(|slice| slice.position == Position::End)
    };
    // A refresh that is cut by time ends at the present of who resumes it; any other is published
    // as it is.
    let goes_on = |state: &EndpointState| {
        !state.refreshing || state.slices.values().any(|slice| slice.window.is_some())
    };
    let is_over = |state: &EndpointState| {
        goes_on(state) && (state.unfinished().next().is_none() || has_read_one(state))
    };
    states
        .filter(|(_, state)| is_over(state))
        .map(|(endpoint, _)| endpoint.clone())
        .collect()
}

/// What is not the same after two runs: what was committed and in which order, what readers see,
/// the states, and what is missing. Of endpoints whose next sync has begun only readers must see
/// the same.
fn difference(expected: &Run, found: &Run, over: &BTreeSet<String>) -> Option<String> {
    let of_over = |page: &&PageRead| {
        over.iter()
            .any(|endpoint| endpoint.split('@').next() == Some(&*page.endpoint))
    };
    let read_again = expected
        .pages()
        .iter()
        .filter(of_over)
        .flat_map(|page| &page.records);
    let read_again: BTreeSet<&String> = read_again.map(|(stream, _)| stream).collect();
    for (stream, rows) in expected
        .progress
        .rows
        .iter()
        .filter(|(stream, _)| !read_again.contains(stream))
    {
        let others = found
            .progress
            .rows
            .get(stream)
            .map_or(&[][..], Vec::as_slice);
        if rows != others {
            let at = rows.iter().zip(others).take_while(|(a, b)| a == b).count();
            return Some(format!(
                "stream {stream}: {} records instead of {}, different from record {} on",
                others.len(),
                rows.len(),
                at + 1
            ));
        }
    }
    let (states, others) = (
        states_to_compare(expected, over),
        states_to_compare(found, over),
    );
    if let Some((endpoint, state)) = states
        .iter()
        .find(|(endpoint, state)| others.get(*endpoint) != Some(state))
    {
        return Some(format!(
            "endpoint {endpoint}: the state is {:?} instead of {state}",
            others.get(endpoint)
        ));
    }
    if let Some(stream) = expected
        .tables
        .keys()
        .find(|stream| expected.tables.get(*stream) != found.tables.get(*stream))
    {
        return Some(format!("stream {stream}: readers see other rows"));
    }
    if units(expected) != units(found) {
        return Some(format!(
            "passed over {:?}, and not {:?}",
            units(found),
            units(expected)
        ));
    }
    (expected.progress.rows.len() != found.progress.rows.len())
        .then(|| "records of streams that were not there".to_owned())
}

/// The states, but for how often plans were made and units asked for, which is not the same after a
/// kill.
fn states_to_compare(run: &Run, over: &BTreeSet<String>) -> BTreeMap<String, String> {
    let states = run
        .progress
        .states
        .clone()
        .into_iter()
        .filter(|(endpoint, _)| !over.contains(endpoint));
    let comparable = |(endpoint, mut state): (String, EndpointState)| {
        state.plan = 0;
        state.gaps.values_mut().for_each(|gap| gap.attempts = 0);
        (endpoint, state.to_json())
    };
    states.map(comparable).collect()
}

/// The requests, one a line; each further sync under a headline.
fn requests(replay: &Replay, whole: &Run) -> String {
    let mut lines = replay.requests();
    for (number, begun) in whole.begun.iter().enumerate().skip(1).rev() {
        lines.insert(*begun, headline(number));
    }
    lines.join("\n")
}

fn headline(sync: usize) -> String {
    format!("# sync {}", sync + 1)
}

fn records(run: &Run) -> String {
    let mut out = String::new();
    for (number, records) in run.seen.records.iter().enumerate() {
        if number > 0 {
            _ = writeln!(out, "{}", headline(number));
        }
        for (stream, records) in records {
            let hash = records
                .iter()
                .fold(blake3::Hasher::new(), |mut hasher, record| {
                    hasher.update(record.as_bytes()).update(b"\n");
                    hasher
                });
            _ = writeln!(
                out,
                "# {stream}: {} records, hash {}",
                records.len(),
                &hash.finalize().to_hex()[..16]
            );
            for record in records.iter().take(SHOWN_RECORDS) {
                _ = writeln!(out, "{}", pretty(record.as_bytes()));
            }
        }
        for remark in run.remarks.get(number).into_iter().flatten() {
            _ = writeln!(out, "# {remark}");
        }
    }
    for (unit, reason) in &run.missing {
        _ = writeln!(out, "# passed over {unit}: {reason}");
    }
    if let Some(error) = &run.error {
        _ = writeln!(out, "# ended with {}", outcome(run));
        _ = error
            .help
            .as_ref()
            .map(|help| writeln!(out, "# help: {help}"));
    }
    out
}

fn states(run: &Run) -> String {
    let mut out = String::new();
    let stops = run
        .pages()
        .iter()
        .enumerate()
        .filter_map(|(index, page)| Some((index + 1, page, page.state.as_ref()?)));
    let mut sync = 0;
    for (number, page, state) in stops.take(SHOWN_STATES) {
        if page.sync != sync {
            sync = page.sync;
            _ = writeln!(out, "{}", headline(sync));
        }
        let counts: Vec<String> = page
            .records
            .iter()
            .map(|(stream, count)| format!("{count} {stream}"))
            .collect();
        _ = writeln!(
            out,
            "# page {number}, endpoint {}: {}",
            page.endpoint,
            counts.join(", ")
        );
        _ = writeln!(out, "{state}");
    }
    for (endpoint, state) in &run.progress.states {
        _ = writeln!(
            out,
            "# after all pages, endpoint {endpoint}\n{}",
            state.to_json()
        );
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
            if let Some(Inside {
                member,
                name,
                entries,
            }) = &field.inside
            {
                let place = entries.map_or_else(
                    || name.to_string(),
                    |(key, value)| format!("{value} where {key} is {name}"),
                );
                _ = write!(out, ", in {member}: {place}");
            }
            out.push('\n');
        }
    }
    out
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
