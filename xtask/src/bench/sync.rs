//! How fast a sync is, beside what it cannot be faster than.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::floors::Measured;
use super::process::{Cost, Running, measure};
use super::report;
use crate::output::{Outcome, cargo_step, heading, root};

const DESTINATIONS: [&str; 3] = ["parquet", "jsonl", "sqlite"];

/// Measures a sync of charges from the simulator, which runs in a process of its own, and what no
/// sync can beat.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Charges in the simulated account, 3.6 KB each.
    #[arg(long, default_value_t = 200_000)]
    charges: u64,
    /// Times that everything is measured; the report has the medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Prints the figures without writing them to BENCHMARKS.md.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let machine = report::machine();
    cargo_step(&[
        "build",
        "--release",
        "--package",
        "xtask",
        "--package",
        "pipeline-cli",
    ])?;
    let bench = Bench {
        folder: tempfile::tempdir()?,
        binaries: root().join("target/release"),
    };
    let few = bench.peak_of_a_quarter(args.charges)?;
    let (_plain, plain) = bench.serve(args.charges, false)?;
    let (_gzip, gzip) = bench.serve(args.charges, true)?;
    let mut rounds = Vec::new();
    for round in 1..=args.rounds.max(1) {
        heading(&format!("round {round} of {}", args.rounds.max(1)));
        rounds.push(bench.round(&plain, &gzip)?);
    }
    let text = Report {
        args,
        machine,
        rounds,
        few,
    }
    .text();
    println!("\n{text}");
    if args.dry_run {
        Ok(())
    } else {
        report::write("Sync", &text)
    }
}

struct Bench {
    folder: tempfile::TempDir,
    binaries: PathBuf,
}

/// Everything measured once.
struct Round {
    plain: Served,
    gzip: Served,
    split: Measured,
    decode: Measured,
}

/// What was measured of the pages as they are served in one way.
struct Served {
    fetch: Measured,
    syncs: [Cost; DESTINATIONS.len()],
}

impl Bench {
    fn xtask(&self) -> Command {
        let mut command = Command::new(self.binaries.join("xtask"));
        command.arg("bench");
        command
    }

    /// Starts the simulator, and waits for its URL.
    fn serve(&self, charges: u64, gzip: bool) -> Outcome<(Running, String)> {
        let mut command = self.xtask();
        command
            .args(["serve", "--charges", &charges.to_string()])
            .args(gzip.then_some("--gzip"))
            .stdout(Stdio::piped());
        let mut server = Running(command.spawn()?);
        let output = server
            .0
            .stdout
            .take()
            .ok_or("the simulator has no output")?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        Ok((server, url.trim().to_owned()))
    }

    fn round(&self, plain: &str, gzip: &str) -> Outcome<Round> {
        Ok(Round {
            plain: self.served("fetch", plain)?,
            gzip: self.served("fetch-gzip", gzip)?,
            split: self.floor("split", plain)?,
            decode: self.floor("decode", plain)?,
        })
    }

    fn served(&self, floor: &str, url: &str) -> Outcome<Served> {
        let fetch = self.floor(floor, url)?;
        eprintln!(
            "{floor} {:.2} s, {:.2} s of processor time",
            fetch.cost.wall, fetch.cost.cpu
        );
        let mut syncs = [Cost::default(); DESTINATIONS.len()];
        for (destination, cost) in DESTINATIONS.iter().zip(&mut syncs) {
            *cost = self.sync(destination, url)?;
            eprintln!(
                "{destination} {:.2} s, {:.2} s of processor time, {:.0} MiB",
                cost.wall, cost.cpu, cost.peak
            );
        }
        Ok(Served { fetch, syncs })
    }

    fn floor(&self, floor: &str, url: &str) -> Outcome<Measured> {
        let output = self
            .xtask()
            .args(["floor", floor, "--url", url])
            .stderr(Stdio::inherit())
            .output()?;
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout)?)
        } else {
            Err(format!("the floor `{floor}` failed").into())
        }
    }

    /// One sync of all charges into a new store.
    fn sync(&self, destination: &str, url: &str) -> Outcome<Cost> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let file = folder.path().join("pipeline.toml");
        std::fs::write(&file, configuration(destination, folder.path(), url))?;
        let mut command = Command::new(self.binaries.join("pipeline"));
        measure(
            command
                .arg("sync")
                .arg("--config")
                .arg(file)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
    }

    /// The most memory of a sync of a quarter of the charges to Parquet.
    fn peak_of_a_quarter(&self, charges: u64) -> Outcome<f64> {
        let (_server, url) = self.serve(charges / 4, false)?;
        Ok(self.sync("parquet", &url)?.peak)
    }
}

/// Reads charges without a limit that could bind.
fn configuration(destination: &str, folder: &Path, url: &str) -> String {
    let store = folder.join("store");
    format!(
        r#"[destination]
type = "{destination}"
path = '{}'

[sources.payments]
connector = "stripe"
streams = ["charges"]
api_key = "sk_test_sim"
base_url = "{url}"
rate_share = 1.0
account_rps = 1000000
list_rps = 1000000
"#,
        store.display()
    )
}

struct Report<'a> {
    args: &'a Args,
    machine: String,
    rounds: Vec<Round>,
    /// MiB at a quarter of the records.
    few: f64,
}

impl Report<'_> {
    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    fn text(&self) -> String {
        let fetched = self.rounds[0].plain.fetch;
        let size = fetched.bytes as f64 / fetched.records as f64;
        let mut out = format!(
            "`cargo xtask bench sync --charges {} --rounds {}`, medians. {} charges of {size:.0} \
             bytes, pretty-printed, 100 a page, from a\nsimulator on the same machine, in a \
             process of its own whose processor time is not counted but competes. A vendor \
             sends\npages with gzip to clients that accept it, as this one does; the simulator has \
             compressed them beforehand.\n\nMachine: {}.\n\n| | records/s as a share of fetch | \
             records/s | CPU s per million | peak MiB |\n|---|---|---|---|---|\n",
            self.args.charges, self.args.rounds, fetched.records, self.machine
        );
        self.rows(&mut out, "with gzip", "and decompression", |round| {
            &round.gzip
        });
        self.rows(&mut out, "plain", "alone", |round| &round.plain);
        let speed = |measured: &Measured| measured.bytes as f64 / measured.cost.cpu / 1e6;
        let (split, decode) = (
            self.median(|round| speed(&round.split)),
            self.median(|round| speed(&round.decode)),
        );
        let _ = write!(
            out,
            "\nOn one core: cutting pages into records {split:.0} MB/s, cutting and decoding them \
             into Arrow {decode:.0} MB/s.\nA sync of a quarter of the charges to Parquet peaks at \
             {:.0} MiB.\n",
            self.few
        );
        out
    }

    /// The rows of the pages as they are served in one way.
    fn rows(&self, out: &mut String, kind: &str, floor: &str, served: fn(&Round) -> &Served) {
        let records = self.rounds[0].plain.fetch.records as f64;
        let fetch = self.median(|round| served(round).fetch.cost.wall);
        let mut row = |name: &str, cost: &dyn Fn(&Served) -> Cost| {
            let of = |figure: fn(&Cost) -> f64| self.median(|round| figure(&cost(served(round))));
            let (wall, cpu, peak) = (
                of(|cost| cost.wall),
                of(|cost| cost.cpu) * 1e6 / records,
                of(|cost| cost.peak),
            );
            let peak = if peak > 0.0 {
                format!("{peak:.0}")
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "| {kind}: {name} | {:.2} | {:.0} | {cpu:.1} | {peak} |",
                fetch / wall,
                records / wall
            );
        };
        row(
            &format!("fetch {floor}, 12 requests at once, nothing parsed"),
            &|served| served.fetch.cost,
        );
        for (index, destination) in DESTINATIONS.iter().enumerate() {
            row(&format!("sync to {destination}"), &|served| {
                served.syncs[index]
            });
        }
    }
}
