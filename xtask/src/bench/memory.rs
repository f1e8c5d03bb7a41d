//! The most memory that a sync takes, whatever the vendor sends, by the budget that it was given.

mod rows;
mod server;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use self::rows::Row;
use self::server::Server;
use super::process::measure_any;
use super::report;
use crate::output::{Outcome, cargo_step, root};

/// Budgets that every row is measured with, in MiB.
const BUDGETS: [u64; 3] = [64, 256, 1024];

/// Where the rows go.
const DESTINATIONS: [&str; 3] = ["sqlite", "parquet", "jsonl"];

/// What a process may take beside its budget, in MiB: code, connections, what the destination
/// keeps, and pages that are larger than the budget alone has room for.
const BESIDE: f64 = 128.0;

/// Measures how much memory syncs of hostile answers take at most, with budgets of 64, 256 and
/// 1,024 MiB.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only rows whose name contains this.
    #[arg(long)]
    row: Option<String>,
    /// Only this budget, in MiB.
    #[arg(long)]
    budget: Option<u64>,
    /// Only this destination.
    #[arg(long)]
    destination: Option<String>,
    /// Stops every sync after this number of seconds.
    #[arg(long, default_value_t = 60)]
    longest: u64,
    /// Syncs that are measured at the same time. More of them take longer each, and as much memory.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// The command to measure, instead of the one that is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Prints the figures without writing them to BENCHMARKS.md.
    #[arg(long)]
    dry_run: bool,
}

/// One sync that is measured.
struct Cell {
    /// The row's place among those that are measured.
    row: usize,
    destination: &'static str,
    /// MiB.
    budget: u64,
}

/// What a sync took.
struct Figure {
    /// MiB.
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
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root().join("target"), PathBuf::from)
            .join("release/pipeline")
    };
    let rows: Vec<Row> = rows::all()
        .into_iter()
        .filter(|row| {
            args.row
                .as_ref()
                .is_none_or(|part| row.name.contains(part.as_str()))
        })
        .collect();
    let servers = rows
        .iter()
        .map(|row| Server::start(row.answer))
        .collect::<Outcome<Vec<_>>>()?;
    let cells = cells(args, rows.len());
    let figures = measure(&cells, args.at_once, |cell| {
        let row = &rows[cell.row];
        let figure = sync(&binary, cell, row, &servers[cell.row], args.longest)?;
        let (peak, wall, exit) = (figure.peak, figure.wall, shown(figure.exit));
        eprintln!(
            "{}, {}, {} MiB: {peak:.0} MiB, {wall:.1} s, exit {exit}",
            row.name, cell.destination, cell.budget
        );
        Ok(figure)
    })?;
    let text = text(args, &machine, &rows, &cells, &figures);
    println!("\n{text}");
    let is_whole = args.row.is_none() && args.budget.is_none() && args.destination.is_none();
    if !args.dry_run && is_whole {
        report::write("Memory", &text)?;
    }
    let is_beyond = |(cell, figure): &(&Cell, &Figure)| figure.peak > allowed(cell.budget);
    let name = |(cell, figure): (&Cell, &Figure)| {
        format!(
            "{}, {}, {} MiB: {:.0} MiB",
            rows[cell.row].name, cell.destination, cell.budget, figure.peak
        )
    };
    let beyond: Vec<String> = cells
        .iter()
        .zip(&figures)
        .filter(is_beyond)
        .map(name)
        .collect();
    if beyond.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "more than the budget and {BESIDE} MiB: {}",
            beyond.join("; ")
        )
        .into())
    }
}

/// What is measured: each row with each destination and each budget.
fn cells(args: &Args, rows: usize) -> Vec<Cell> {
    let destinations = DESTINATIONS
        .into_iter()
        .filter(|name| args.destination.as_ref().is_none_or(|only| only == name));
    let budgets = BUDGETS
        .into_iter()
        .filter(|budget| args.budget.is_none_or(|only| only == *budget));
    let columns: Vec<_> = destinations
        .flat_map(|destination| budgets.clone().map(move |budget| (destination, budget)))
        .collect();
    let row = |row| {
        columns.iter().map(move |&(destination, budget)| Cell {
            row,
            destination,
            budget,
        })
    };
    (0..rows).flat_map(row).collect()
}

/// Measures some cells at the same time; the figures come in the order of the cells.
fn measure(
    cells: &[Cell],
    at_once: usize,
    sync: impl Fn(&Cell) -> Outcome<Figure> + Sync,
) -> Outcome<Vec<Figure>> {
    let (waiting, measured) = (Mutex::new(cells.iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some((index, cell)) = next else { return };
            let figure = sync(cell).map_err(|error| error.to_string());
            measured
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((index, figure));
        }
    };
    std::thread::scope(|scope| (0..at_once.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut measured = measured
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    measured.sort_by_key(|(index, _)| *index);
    measured
        .into_iter()
        .map(|(_, figure)| figure.map_err(Into::into))
        .collect()
}

/// One sync of what the server sends into a new store.
fn sync(binary: &Path, cell: &Cell, row: &Row, server: &Server, longest: u64) -> Outcome<Figure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.toml");
    let streams = if row.streams.is_empty() {
        String::new()
    } else {
        format!("streams = {:?}\n", row.streams)
    };
    let configuration = format!(
        "[sync]\nmemory_budget_mb = {}\n\n[destination]\ntype = \"{}\"\npath = \
         '{}'\n\n[sources.hostile]\n{}base_url = \"{}\"\n{streams}",
        cell.budget,
        cell.destination,
        folder.path().join("store").display(),
        row.source,
        server.url(),
    );
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(binary);
    command
        .arg("sync")
        .arg("--config")
        .arg(file)
        .args(["--max-duration", &format!("{longest}s")]);
    let (cost, status) = measure_any(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    Ok(Figure {
        peak: cost.peak,
        wall: cost.wall,
        exit: status.code(),
    })
}

fn allowed(budget: u64) -> f64 {
    budget as f64 + BESIDE
}

fn shown(exit: Option<i32>) -> String {
    exit.map_or_else(|| "killed".to_owned(), |exit| exit.to_string())
}

fn text(args: &Args, machine: &str, rows: &[Row], cells: &[Cell], figures: &[Figure]) -> String {
    let mut out = format!(
        "`cargo xtask bench memory --longest {} --at-once {}`: the most memory that a process took \
         (`VmHWM`), in MiB, by destination and\n`memory_budget_mb`. At most {BESIDE} more than the \
         budget is allowed; what is beyond is bold. In brackets the exit code where it is\nnot 0: \
         4 is right where an answer cannot be held or read, or the {} s were over. A server on the \
         same machine sends what the\nrow says, compressed, and ignores how much is asked \
         for.\n\nMachine: {machine}.\n\n| what the vendor sends |",
        args.longest, args.at_once, args.longest
    );
    let columns = if rows.is_empty() {
        0
    } else {
        cells.len() / rows.len()
    };
    for Cell {
        destination,
        budget,
        ..
    } in &cells[..columns]
    {
        let _ = write!(out, " {destination} {budget} |");
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(columns));
    for (row, name) in rows.iter().map(|row| row.name).enumerate() {
        let _ = write!(out, "\n| {name} |");
        for (cell, Figure { peak, exit, .. }) in cells
            .iter()
            .zip(figures)
            .filter(|(cell, _)| cell.row == row)
        {
            let bold = if *peak > allowed(cell.budget) {
                "**"
            } else {
                ""
            };
            let exit = if *exit == Some(0) {
                String::new()
            } else {
                format!(" ({})", shown(*exit))
            };
            let _ = write!(out, " {bold}{peak:.0}{bold}{exit} |");
        }
    }
    out.push('\n');
    out
}
