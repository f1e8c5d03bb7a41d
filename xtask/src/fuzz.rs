//! Runs the fuzz targets.

use std::path::PathBuf;
use std::process::Command;

use crate::output::{Outcome, all, cargo, heading, root, step};

/// Feeds what is read from outside with texts that no vendor sends, for a while.
///
/// Needs no nightly compiler and no cargo-fuzz: libFuzzer comes with a crate, and the compiler's
/// own pass counts the edges.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Targets, such as `split`; all when none are named.
    targets: Vec<String>,
    /// How long each target runs; 0: only the inputs of `fuzz/corpus`.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// What counts the edges of the control flow, and the values that are compared, for libFuzzer.
const COVERAGE: &str = "--cfg fuzzing -C passes=sancov-module -C \
                        llvm-args=-sanitizer-coverage-level=4 -C \
                        llvm-args=-sanitizer-coverage-inline-8bit-counters -C \
                        llvm-args=-sanitizer-coverage-pc-table -C \
                        llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1";

/// Megabytes that a target may take: an input that needs more is a finding.
const MEMORY: u32 = 1024;
/// Seconds that one input may take.
const PATIENCE: u32 = 10;

/// Runs the task. A target that finds something does not keep the others from being run.
pub(crate) fn run(args: &Args) -> Outcome {
    if !cfg!(target_os = "linux") {
        heading("SKIPPED: fuzz targets are built on Linux only");
        return Ok(());
    }
    let known = targets()?;
    if let Some(unknown) = args.targets.iter().find(|target| !known.contains(target)) {
        return Err(format!(
            "unknown fuzz target `{unknown}`; known are {}",
            known.join(", ")
        )
        .into());
    }
    let chosen: Vec<_> = known
        .iter()
        .filter(|target| args.targets.is_empty() || args.targets.contains(target))
        .collect();
    let binaries = build(&chosen)?;
    all(chosen
        .into_iter()
        .map(|target| fuzz(target, &binaries.join(target), args.seconds)))
}

/// The names of the targets, sorted.
fn targets() -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(root().join("fuzz/targets"))?;
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry?.path();
        Ok::<_, std::io::Error>(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        )
    };
    let mut names: Vec<String> = entries
        .map(stem)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    names.sort();
    Ok(names)
}

/// Builds these targets; returns their folder.
fn build(targets: &[&String]) -> Outcome<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), PathBuf::from)
        .join("fuzz");
    // A target is named, so that build scripts and macros are not built for the fuzzer.
    let version = Command::new("rustc").arg("-vV").output()?;
    let version = String::from_utf8(version.stdout)?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("rustc does not name its host")?;
    let mut command = cargo(&[
        "build",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target",
        host,
    ]);
    command.args(targets.iter().flat_map(|target| ["--bin", target.as_str()]));
    // Every dependency is built anew, so that its edges are counted too.
    step(
        "fuzz targets (the first build takes ten minutes)",
        command
            .env("RUSTFLAGS", COVERAGE)
            .env("CARGO_TARGET_DIR", &folder),
    )?;
    Ok(folder.join(host).join("release"))
}

/// Runs one target. New inputs stay outside of the repository; those that fail are kept in
/// `fuzz/artifacts`.
fn fuzz(target: &str, binary: &PathBuf, seconds: u64) -> Outcome {
    let seeds = root().join("fuzz/corpus").join(target);
    let artifacts = root().join("fuzz/artifacts").join(target);
    std::fs::create_dir_all(&artifacts)?;
    let found = tempfile::tempdir()?;
    let mut command = Command::new(binary);
    // No seconds at all would be no limit for libFuzzer.
    command.arg(if seconds == 0 {
        "-runs=0".to_owned()
    } else {
        format!("-max_total_time={seconds}")
    });
    command.args([
        format!("-rss_limit_mb={MEMORY}"),
        format!("-timeout={PATIENCE}"),
    ]);
    command.args([
        "-max_len=65536",
        "-verbosity=0",
        "-print_funcs=0",
        "-print_final_stats=1",
        "-close_fd_mask=1",
    ]);
    command
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(found.path())
        .arg(seeds);
    step(&format!("fuzz {target}, {seconds} s"), &mut command)
}
