//! The suite of one connector: every case of its fixtures, its specification and its catalog.

use std::fmt;
use std::path::Path;

use pipeline_core::{ConnectorConfig, Registry};

use crate::case::{check, declared_catalog, render_catalog};
use crate::fixture::Fixture;
use crate::secrets::Secrets;
use crate::snapshot::{Snapshots, Update};
use crate::twice::Twice;

/// Makes the conformance suite of a connector: one test that runs every case in a folder below the
/// workspace's.
///
/// ```text
/// pipeline_testkit::connector_suite!(connector_acme::AcmeConfig, "fixtures/acme");
/// ```
#[macro_export]
macro_rules! connector_suite {
    ($config:ty, $folder:literal) => {
        #[test]
        fn connector_suite() {
            $crate::assert_suite::<$config>(::std::path::Path::new(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../",
                $folder
            )));
        }
    };
}

/// What became of one case.
#[derive(Debug)]
pub struct CaseReport {
    /// The case.
    pub case: String,
    /// Where its exchanges come from.
    pub origin: String,
    /// Pages read.
    pub pages: usize,
    /// Records read.
    pub records: usize,
    /// Kills that it was resumed from.
    pub kills: usize,
    /// Faults that it met.
    pub faults: usize,
    /// Units that could not be read for a while, were passed over, and were filled.
    pub gaps: usize,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl CaseReport {
    pub(crate) fn new(case: &str, origin: String) -> Self {
        Self {
            case: case.to_owned(),
            origin,
            pages: 0,
            records: 0,
            kills: 0,
            faults: 0,
            gaps: 0,
            problems: Vec::new(),
        }
    }
}

/// What became of a connector's cases.
#[derive(Debug)]
pub struct Report {
    /// The connector.
    pub connector: &'static str,
    /// Its cases.
    pub cases: Vec<CaseReport>,
    /// What is wrong with more than one case.
    pub problems: Vec<String>,
}

impl Report {
    /// True when nothing is wrong.
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.cases.iter().all(|case| case.problems.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .cases
            .iter()
            .map(|case| case.case.len())
            .max()
            .unwrap_or_default()
            .max(self.connector.len());
        writeln!(
            f,
            "{:width$}  {:10}  {:>5}  {:>7}  {:>5}  {:>6}  {:>4}  result",
            self.connector, "origin", "pages", "records", "kills", "faults", "gaps"
        )?;
        for case in &self.cases {
            let result = if case.problems.is_empty() {
                "ok"
            } else {
                "FAILED"
            };
            let CaseReport {
                case,
                origin,
                pages,
                records,
                kills,
                faults,
                gaps,
                ..
            } = case;
            writeln!(
                f,
                "{case:width$}  {origin:10}  {pages:>5}  {records:>7}  {kills:>5}  {faults:>6}  \
                 {gaps:>4}  {result}"
            )?;
        }
        for problem in &self.problems {
            writeln!(f, "{}: {problem}", self.connector)?;
        }
        for case in &self.cases {
            for problem in &case.problems {
                writeln!(f, "{}/{}: {problem}", self.connector, case.case)?;
            }
        }
        let failed = self
            .cases
            .iter()
            .filter(|case| !case.problems.is_empty())
            .count();
        writeln!(
            f,
            "fixture cases: {} passed; {failed} failed",
            self.cases.len() - failed
        )?;
        if self.passed() {
            return Ok(());
        }
        writeln!(
            f,
            "if a changed snapshot is right, run `cargo xtask test-fixtures {} --accept` and look \
             at the difference",
            self.connector
        )
    }
}

/// Runs the suite as a test, and prints the report to standard error.
///
/// # Panics
/// When anything is wrong.
pub fn assert_suite<C: ConnectorConfig>(folder: &Path) {
    let report = run_suite::<C>(folder, Update::from_env());
    eprintln!("{report}");
    assert!(
        report.passed(),
        "the fixtures of {} do not pass; see the report above",
        report.connector
    );
}

/// Runs every case in a connector's folder.
pub fn run_suite<C: ConnectorConfig>(folder: &Path, update: Update) -> Report {
    let mut registry = Registry::default();
    registry.add::<C>();
    let mut snapshots = Snapshots::new(update);
    let mut report = Report {
        connector: C::NAME,
        cases: Vec::new(),
        problems: Vec::new(),
    };
    let mut fixtures = Vec::new();
    match Fixture::load_all(folder) {
        Ok(cases) => cases.into_iter().for_each(|case| match case {
            Ok(fixture) => fixtures.push(fixture),
            Err(error) => report.problems.push(error),
        }),
        Err(error) => report.problems.push(error),
    }
    for fixture in &fixtures {
        report
            .cases
            .push(run_case::<C>(&registry, fixture, &mut snapshots));
    }
    report
        .problems
        .extend(specification::<C>(&registry, folder, &mut snapshots).err());
    report
        .problems
        .extend(catalog::<C>(&registry, folder, &fixtures, &mut snapshots));
    report.problems.extend(snapshots.unreferenced(folder));
    report
}

fn run_case<C: ConnectorConfig>(
    registry: &Registry,
    fixture: &Fixture,
    snapshots: &mut Snapshots,
) -> CaseReport {
    let secrets = registry
        .spec(C::NAME)
        .map(|schema| Secrets::of_case(schema, fixture))
        .unwrap_or_default();
    let mut case = check::<C>(registry, fixture, &secrets, snapshots);
    if case.problems.is_empty() && fixture.expect_error.is_none() {
        case.problems.extend(
            Twice {
                registry,
                connector: C::NAME,
                fixture,
            }
            .check(&secrets),
        );
    }
    case.problems.extend(debug_leak::<C>(fixture, &secrets));
    case
}

fn specification<C: ConnectorConfig>(
    registry: &Registry,
    folder: &Path,
    snapshots: &mut Snapshots,
) -> Result<(), String> {
    let schema = registry.spec(C::NAME).map_err(|error| error.to_string())?;
    let text = serde_json::to_string_pretty(schema).map_err(|error| error.to_string())?;
    snapshots.check(folder, "spec", &text)
}

/// What is wrong with the catalog, as the first case's configuration declares it: a difference from
/// its snapshot, and streams that no case reads to the end.
fn catalog<C: ConnectorConfig>(
    registry: &Registry,
    folder: &Path,
    fixtures: &[Fixture],
    snapshots: &mut Snapshots,
) -> Vec<String> {
    let Some(first) = fixtures.first() else {
        return vec![format!(
            "there is no case; write one into fixtures/{}/",
            C::NAME
        )];
    };
    let catalog = match declared_catalog::<C>(registry, first) {
        Ok(catalog) => catalog,
        Err(error) => return vec![error],
    };
    let is_read = |stream: &str| {
        fixtures.iter().any(|case| {
            case.expect_error.is_none() && case.streams.iter().any(|name| name == stream)
        })
    };
    let unread = catalog
        .streams
        .iter()
        .filter(|stream| !is_read(&stream.name));
    let unread =
        unread.map(|stream| format!("no case reads the stream {} without an error", stream.name));
    unread
        .chain(
            snapshots
                .check(folder, "catalog", &render_catalog(&catalog, |_| true))
                .err(),
        )
        .collect()
}

/// A configuration that prints its secrets, if it does.
fn debug_leak<C: ConnectorConfig>(fixture: &Fixture, secrets: &Secrets) -> Option<String> {
    let config: C = serde_json::from_value(fixture.config.clone()).ok()?;
    let leak = secrets.leak(&format!("{config:?}\n{config:#?}"))?;
    Some(format!(
        "the Debug of the configuration shows a secret: …{leak}…"
    ))
}
