//! Runs the connectors' suites on their fixtures.

use pipeline_testkit::Update;

use crate::connectors::CONNECTORS;
use crate::output::{Outcome, root};

/// Runs every case in `fixtures/`, killed after every page and with every fault, and compares with the snapshots.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The connector; all unless given.
    connector: Option<String>,
    /// Writes snapshots that differ and deletes those that nothing is compared with.
    #[arg(long)]
    accept: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let is_wanted = |name: &str| args.connector.as_deref().is_none_or(|wanted| wanted == name);
    let wanted: Vec<_> = CONNECTORS.iter().filter(|(name, _)| is_wanted(name)).collect();
    if wanted.is_empty() {
        let known: Vec<_> = CONNECTORS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no such connector; known are {}", known.join(", ")).into());
    }
    let update = if args.accept { Update::Always } else { Update::from_env() };
    let (mut passed, mut failed) = (0, 0);
    let mut is_clean = true;
    for (name, suite) in wanted {
        let report = suite(&root().join("fixtures").join(name), update);
        eprintln!("{report}");
        let broken = report.cases.iter().filter(|case| !case.problems.is_empty()).count();
        passed += report.cases.len() - broken;
        failed += broken;
        is_clean &= report.passed();
    }
    eprintln!("fixture cases: {passed} passed; {failed} failed");
    if is_clean { Ok(()) } else { Err("the fixtures do not pass".into()) }
}
