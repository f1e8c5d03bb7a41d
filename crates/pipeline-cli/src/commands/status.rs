//! `pipeline status`: what the destination contains and how the last runs ended. Sends no request
//! and needs no credential.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use pipeline_core::{Clock, RUN_CAPACITY, RunRecord, SystemClock};
use pipeline_engine::Status;
use serde_json::json;

use crate::args::Format;
use crate::config::Config;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::held::{Held, held};
use crate::output::runs::Fates;
use crate::output::table::{Align, TextTable};
use crate::output::{gaps, runs};
use crate::setup::Target;
use crate::{args, units};

/// How many commits are searched for the last one of each endpoint.
const COMMITS: usize = 1_000;

pub(super) async fn run(args: &args::Status, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let target = Target::of(&config, console)?;
    let (status, runs, fates) = match target.to_read().await? {
        Some(destination) => {
            let failed = |error| Failure::of_destination(&error);
            let status = destination.status(COMMITS).await.map_err(failed)?;
            let runs = destination.runs(RUN_CAPACITY).await.map_err(failed)?;
            let fates = Fates::of(&runs, &*destination).await;
            (status, runs, fates)
        }
        None => Default::default(),
    };
    let streams = held(&status, &runs);
    match args.output {
        Format::Json => {
            let now = SystemClock.now();
            let commit = status.commits.first().map(
                |commit| json!({ "sequence": commit.sequence, "at": commit.at, "run": commit.run }),
            );
            let last = runs.first().map(|run| runs::json(run, &fates, console));
            let streams: Vec<_> = streams
                .iter()
                .map(|stream| stream.json(now, console))
                .collect();
            console.print(&format!(
                "{:#}",
                json!({ "last_commit": commit, "last_run": last, "streams": streams })
            ));
        }
        Format::Human if streams.is_empty() && runs.is_empty() => {
            console.print(&format!(
                "No data yet in {}. Run `pipeline sync`.",
                target.shown()
            ));
        }
        Format::Human => console.print(&text(&status, &runs, &fates, &streams, console)),
    }
    Ok(Exit::Done)
}

fn text(
    status: &Status,
    runs: &[RunRecord],
    fates: &Fates,
    streams: &[Held<'_>],
    console: &Console,
) -> String {
    let now = SystemClock.now();
    let mut text = table(streams, now).render();
    failures(streams, console, &mut text);
    for (id, state) in &status.endpoints {
        gaps::write(id, &gaps::of_state(state), &mut text);
    }
    if let Some(commit) = status.commits.first() {
        let _ = writeln!(
            text,
            "\nLast commit: number {}, {}, by run {}",
            commit.sequence,
            units::instant(commit.at),
            commit.run
        );
    }
    if let Some(run) = runs.first() {
        let result = runs::result(run, fates);
        let _ = writeln!(
            text,
            "\nLast run: {}, started {}: {result}. `pipeline runs` lists all.",
            run.run,
            units::instant(run.started)
        );
        if let Some(error) = &run.error {
            let _ = writeln!(text, "  {}", console.redact(error));
        }
    }
    text
}

fn table(streams: &[Held<'_>], now: chrono::DateTime<chrono::Utc>) -> TextTable {
    use Align::{Left, Right};
    let columns = [
        ("SOURCE", Left),
        ("STREAM", Left),
        ("ROWS", Right),
        ("STATE", Left),
        ("LAST SUCCESS", Left),
        ("LAG", Right),
        ("UP TO", Left),
    ];
    let mut table = TextTable::new(columns);
    let dash = || "-".to_owned();
    for stream in streams {
        table.row([
            stream.source.to_owned(),
            stream.stream.to_owned(),
            units::number(stream.rows),
            stream.state(),
            stream.succeeded.map_or_else(dash, units::instant),
            stream
                .succeeded
                .map_or_else(dash, |at| units::ago(now - at)),
            stream.cursor.map_or_else(dash, units::instant),
        ]);
    }
    table
}

/// Why streams failed or cannot be read, each reason once.
fn failures(streams: &[Held<'_>], console: &Console, text: &mut String) {
    let mut seen = BTreeSet::new();
    for stream in streams {
        let Some((error, _)) = stream
            .error
            .filter(|(error, _)| seen.insert(gaps::without_request(error)))
        else {
            continue;
        };
        let same = streams.iter().filter(|other| {
            other.error.is_some_and(|(other, _)| {
                gaps::without_request(other) == gaps::without_request(error)
            })
        });
        let names: Vec<String> = same
            .map(|stream| format!("{}/{}", stream.source, stream.stream))
            .collect();
        let _ = writeln!(text, "\n{}:\n  {}", names.join(", "), console.redact(error));
    }
}
