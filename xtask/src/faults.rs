//! Runs the fault matrix: its own scenarios, and the tests elsewhere that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::output::{Outcome, cargo, heading, root, step};

/// Runs the tests of the fault matrix, plays random mixtures of faults, or writes docs/faults.md.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Codes of faults, such as A03; all when none are named.
    codes: Vec<String>,
    /// Writes docs/faults.md and runs nothing.
    #[arg(long, conflicts_with = "codes")]
    write: bool,
    /// Runs nothing: only checks that every test that the matrix names exists.
    #[arg(long, conflicts_with_all = ["codes", "write"])]
    check: bool,
    /// Plays this number of random mixtures of faults, and nothing else.
    #[arg(long, conflicts_with_all = ["codes", "write", "check"])]
    seeds: Option<u64>,
    /// The first mixture.
    #[arg(long, default_value_t = 0, requires = "seeds")]
    first: u64,
}

impl Args {
    /// The check alone.
    pub(crate) fn check() -> Self {
        Self {
            check: true,
            ..Self::default()
        }
    }
}

/// A test elsewhere, as the matrix names it.
struct Reference {
    code: String,
    target: Target,
    name: String,
}

/// A test binary: a package, and the option of cargo that selects the target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    package: String,
    option: String,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.write {
        fs::write(root().join("docs/faults.md"), matrix(&[], &["--document"])?)?;
        eprintln!("docs/faults.md is written");
        return Ok(());
    }
    if let Some(seeds) = args.seeds {
        let mut mixtures = harness(&["mix".to_owned()]);
        return step(
            "random mixtures of faults",
            mixtures.args(["--mix", &seeds.to_string(), &args.first.to_string()]),
        );
    }
    let references = references(&args.codes)?;
    let binaries = build(&references, &args.codes)?;
    let mut failures = missing(&references, &binaries)?;
    let targets = by_target(&references);
    if !args.check {
        let scenarios = step(
            "scenarios of the fault matrix",
            harness(&args.codes).args(&args.codes),
        );
        failures.extend(scenarios.err().map(|error| error.to_string()));
        for (target, names) in &targets {
            let title = format!(
                "{} tests of {} {}",
                names.len(),
                target.package,
                target.option
            );
            let run = step(
                &title,
                test_binary(&binaries, target)?
                    .args(["--exact", "--quiet"])
                    .args(names),
            );
            failures.extend(run.err().map(|error| error.to_string()));
        }
    }
    let named: usize = targets.values().map(BTreeSet::len).sum();
    heading(&format!(
        "the fault matrix names {named} tests elsewhere; {} of them exist",
        named.saturating_sub(failures.len())
    ));
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; ").into())
    }
}

/// Which packages are built. For the whole matrix it is what `cargo xtask test` builds, so that
/// nothing is built twice.
fn scope(codes: &[String], packages: &BTreeSet<&str>) -> Vec<String> {
    if codes.is_empty() {
        return vec!["--workspace".to_owned()];
    }
    packages
        .iter()
        .map(|package| format!("--package={package}"))
        .collect()
}

/// The binary of the fault matrix, before its own arguments.
fn harness(codes: &[String]) -> Command {
    let mut command = cargo(&["test", "--quiet", "--all-features", "--test=faults"]);
    command
        .args(scope(codes, &BTreeSet::from(["pipeline-cli"])))
        .arg("--");
    command
}

/// What the matrix prints when it is run with this argument.
fn matrix(codes: &[String], args: &[&str]) -> Outcome<String> {
    let output = harness(codes)
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the fault matrix cannot be built".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The tests elsewhere that prove these codes, all when none are given.
fn references(codes: &[String]) -> Outcome<Vec<Reference>> {
    let text = matrix(codes, &["--references"])?;
    let mut references = Vec::new();
    for line in text.lines() {
        let [code, package, option, name] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("not a reference: {line}").into());
        };
        if codes.is_empty() || codes.iter().any(|wanted| wanted.eq_ignore_ascii_case(code)) {
            let target = Target {
                package: package.to_owned(),
                option: option.to_owned(),
            };
            references.push(Reference {
                code: code.to_owned(),
                target,
                name: name.to_owned(),
            });
        }
    }
    Ok(references)
}

fn by_target(references: &[Reference]) -> BTreeMap<Target, BTreeSet<&str>> {
    let mut targets: BTreeMap<Target, BTreeSet<&str>> = BTreeMap::new();
    for reference in references {
        targets
            .entry(reference.target.clone())
            .or_default()
            .insert(&reference.name);
    }
    targets
}

/// Builds test binaries; returns where they are.
fn build(references: &[Reference], codes: &[String]) -> Outcome<BTreeMap<Target, PathBuf>> {
    if references.is_empty() {
        return Ok(BTreeMap::new());
    }
    let packages = references
        .iter()
        .map(|reference| reference.target.package.as_str())
        .collect();
    let options: BTreeSet<&str> = references
        .iter()
        .map(|reference| reference.target.option.as_str())
        .collect();
    let mut command = cargo(&[
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--all-features",
    ]);
    let output = command
        .args(scope(codes, &packages))
        .args(options)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the tests that the matrix names cannot be built".into());
    }
    let messages = cargo_metadata::Message::parse_stream(&output.stdout[..]).filter_map(Result::ok);
    Ok(messages.filter_map(binary).collect())
}

/// The test binary that a message of cargo's is about.
fn binary(message: cargo_metadata::Message) -> Option<(Target, PathBuf)> {
    let cargo_metadata::Message::CompilerArtifact(artifact) = message else {
        return None;
    };
    let executable = artifact.executable.filter(|_| artifact.profile.test)?;
    let name = &artifact.target.name;
    let option = match artifact.target.kind.first()? {
        cargo_metadata::TargetKind::Lib => "--lib".to_owned(),
        cargo_metadata::TargetKind::Bin => format!("--bin={name}"),
        cargo_metadata::TargetKind::Test => format!("--test={name}"),
        _ => return None,
    };
    let package = artifact.manifest_path.parent()?.file_name()?.to_owned();
    Some((Target { package, option }, executable.into_std_path_buf()))
}

/// A test binary as cargo would start it: in its package's folder.
fn test_binary(binaries: &BTreeMap<Target, PathBuf>, target: &Target) -> Outcome<Command> {
    let binary = binaries
        .get(target)
        .ok_or_else(|| format!("{} has no tests at {}", target.package, target.option))?;
    let folder = root().join("crates").join(&target.package);
    let mut command = Command::new(binary);
    command
        .current_dir(&folder)
        .env("CARGO_MANIFEST_DIR", folder)
        .env("INSTA_UPDATE", "no");
    Ok(command)
}

/// A sentence for each reference that names no test.
fn missing(references: &[Reference], binaries: &BTreeMap<Target, PathBuf>) -> Outcome<Vec<String>> {
    let mut lists: BTreeMap<&Target, BTreeSet<String>> = BTreeMap::new();
    for Reference { target, .. } in references {
        if !lists.contains_key(target) {
            let output = test_binary(binaries, target)?.arg("--list").output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            lists.insert(
                target,
                text.lines()
                    .filter_map(|line| Some(line.strip_suffix(": test")?.to_owned()))
                    .collect(),
            );
        }
    }
    let is_missing = |reference: &&Reference| !lists[&reference.target].contains(&reference.name);
    let missing = references.iter().filter(is_missing);
    Ok(missing
        .map(|Reference { code, target, name }| {
            format!(
                "{code}: {} {} has no test `{name}`",
                target.package, target.option
            )
        })
        .collect())
}
