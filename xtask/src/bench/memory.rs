//! The most memory that a sync takes, whatever the vendor sends, by the budget that it was given.

mod rows;
mod server;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::rows::Row;
use self::server::Server;
use super::process::measure_any;
use super::report;
use crate::output::{Outcome, cargo_step, root};

/// Budgets that every row is measured with, in MiB.
const BUDGETS: [u64; 3] = [64, 256, 1024];

/// What a process may take beside its budget, in MiB: code, connections, what the destination keeps, and pages that are larger
/// than the budget alone has room for.
const BESIDE: f64 = 128.0;

/// Measures how much memory syncs of hostile answers take at most, with budgets of 64, 256 and 1,024 MiB.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only rows whose name contains this.
    #[arg(long)]
    row: Option<String>,
    /// Only this budget, in MiB.
    #[arg(long)]
    budget: Option<u64>,
    /// Where the rows go.
    #[arg(long, default_value = "sqlite")]
    destination: String,
    /// The command to measure, instead of the one that is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Prints the figures without writing them to BENCHMARKS.md.
    #[arg(long)]
    dry_run: bool,
}

/// What a row took with one budget.
struct Figure {
    peak: f64,
    wall: f64,
    exit: Option<i32>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let machine = report::machine();
    let binary = if let Some(binary) = &args.binary {
        binary.clone()
    } else {
        cargo_step(&["build", "--release", "--package", "pipeline-cli"])?;
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("release/pipeline")
    };
    let budgets = BUDGETS.into_iter().filter(|budget| args.budget.is_none_or(|only| only == *budget)).collect::<Vec<_>>();
    let mut lines = Vec::new();
    let mut beyond = Vec::new();
    for row in rows::all().into_iter().filter(|row| args.row.as_ref().is_none_or(|part| row.name.contains(part.as_str()))) {
        let server = Server::start(row.answer)?;
        let mut figures = Vec::new();
        for budget in &budgets {
            let figure = sync(&binary, &args.destination, &row, &server, *budget)?;
            eprintln!("{}, {budget} MiB: {:.0} MiB, {:.1} s, exit {:?}", row.name, figure.peak, figure.wall, figure.exit);
            if figure.peak > *budget as f64 + BESIDE {
                beyond.push(format!("{} with {budget} MiB: {:.0} MiB", row.name, figure.peak));
            }
            figures.push(figure);
        }
        lines.push((row.name, figures));
    }
    let text = text(&machine, &args.destination, &budgets, &lines);
    println!("\n{text}");
    if !args.dry_run && args.row.is_none() && args.budget.is_none() {
        report::write("Memory", &text)?;
    }
    if beyond.is_empty() { Ok(()) } else { Err(format!("more than the budget and {BESIDE} MiB: {}", beyond.join("; ")).into()) }
}

/// One sync of what the server sends into a new store.
fn sync(binary: &Path, destination: &str, row: &Row, server: &Server, budget: u64) -> Outcome<Figure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.toml");
    let streams = if row.streams.is_empty() { String::new() } else { format!("streams = {:?}\n", row.streams) };
    let configuration = format!(
        "[sync]\nmemory_budget_mb = {budget}\n\n[destination]\ntype = \"{destination}\"\npath = '{}'\n\n[sources.hostile]\n{}base_url = \"{}\"\n{streams}",
        folder.path().join("store").display(),
        row.source,
        server.url(),
    );
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(binary);
    command.arg("sync").arg("--config").arg(file).args(["--max-duration", row.longest]);
    let (cost, status) = measure_any(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    Ok(Figure { peak: cost.peak, wall: cost.wall, exit: status.code() })
}

fn text(machine: &str, destination: &str, budgets: &[u64], lines: &[(&str, Vec<Figure>)]) -> String {
    let mut out = format!(
        "`cargo xtask bench memory`: the most memory that a process took (`VmHWM`), in MiB, by `memory_budget_mb`; in brackets the\n\
         exit code and the seconds. At most {BESIDE} more than the budget is allowed. A server on the same machine sends whatever the row\n\
         says, compressed, and ignores how much is asked for; rows go to {destination}. Exit 4 is right where an answer cannot be held\n\
         or read, or time was up.\n\nMachine: {machine}.\n\n| what the vendor sends |"
    );
    for budget in budgets {
        let _ = write!(out, " {budget} |");
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(budgets.len()));
    for (name, figures) in lines {
        let _ = write!(out, "\n| {name} |");
        for Figure { peak, wall, exit } in figures {
            let exit = exit.map_or_else(|| "killed".to_owned(), |exit| exit.to_string());
            let _ = write!(out, " {peak:.0} ({exit}, {wall:.0} s) |");
        }
    }
    out.push('\n');
    out
}
