//! `pipeline status`: what the destination holds. Asks no vendor and needs no credential.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Clock, Status, SystemClock};
use serde_json::{Value, json};

use crate::args::{self, Format};
use crate::config::Config;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::gaps::{self, Missing};
use crate::output::table::{Align, Table};
use crate::{setup, units};

/// How many commits are searched for the last one of each endpoint.
const COMMITS: usize = 1_000;

pub(super) async fn run(args: &args::Status, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let status = if config.destination.exists() {
        setup::destination(&config)?.status(COMMITS).await.map_err(|error| Failure::of_destination(&error))?
    } else {
        Status::default()
    };
    let rows = entries(&status, SystemClock.now());
    match args.output {
        Format::Json => {
            let json = |entry: &Entry<'_>| entry.json(console);
            let commits = status.commits.first().map(|commit| json!({ "sequence": commit.sequence, "at": commit.at, "run": commit.run }));
            console.print(&format!("{:#}", json!({ "last_commit": commits, "streams": rows.iter().map(json).collect::<Vec<_>>() })));
        }
        Format::Human if rows.is_empty() => console.print("Nothing is there yet: run `pipeline sync`."),
        Format::Human => console.print(&text(&status, &rows)),
    }
    Ok(Exit::Done)
}

/// One stream at the destination.
struct Entry<'a> {
    source: &'a str,
    stream: &'a str,
    endpoint: &'a str,
    rows: u64,
    committed: Option<DateTime<Utc>>,
    cursor: Option<DateTime<Utc>>,
    lag: Option<chrono::TimeDelta>,
    unfinished: usize,
    missing: Vec<Missing<'a>>,
}

fn entries(status: &Status, now: DateTime<Utc>) -> Vec<Entry<'_>> {
    let mut committed: BTreeMap<&EndpointId, DateTime<Utc>> = BTreeMap::new();
    for commit in &status.commits {
        for change in &commit.changes {
            committed.entry(change.endpoint()).or_insert(commit.at);
        }
    }
    let rows = |source: &str, stream: &str| {
        let table = status.rows.iter().find(|(id, _)| id.source == source && id.stream == stream);
        table.map_or(0, |(_, rows)| *rows)
    };
    let streams = |(id, state): &'_ (EndpointId, EndpointState)| {
        let names = if state.streams.is_empty() { [id.name().to_owned()].into() } else { state.streams.clone() };
        (names, state.unfinished().count(), state.freshness())
    };
    let mut entries: Vec<Entry<'_>> = Vec::new();
    // Of several endpoints that feed a table the lists tell how complete it is, and a feed of changes adds nothing to that.
    let is_feed = |(_, state): &&(EndpointId, EndpointState)| state.slices.values().any(|slice| slice.window.is_none());
    // What is forgotten says nothing of the rows that others read since.
    let mut endpoints: Vec<_> = status.endpoints.iter().filter(|(_, state)| !state.is_untouched()).collect();
    endpoints.sort_by_key(|endpoint| (endpoint.1.streams.len(), is_feed(endpoint)));
    for endpoint in endpoints {
        let (id, (names, unfinished, cursor)) = (&endpoint.0, streams(endpoint));
        for name in names {
            let stream = status.rows.iter().find(|(table, _)| table.source == id.source && table.stream == name);
            if let Some(known) = entries.iter_mut().find(|known| known.source == id.source && known.stream == name) {
                known.missing.extend(gaps::of_state(&endpoint.1));
                if !is_feed(&endpoint) {
                    known.unfinished += unfinished;
                    known.cursor = known.cursor.min(cursor);
                    known.lag = known.lag.max(cursor.map(|cursor| now - cursor));
                }
                continue;
            }
            entries.push(Entry {
                source: &id.source,
                rows: rows(&id.source, &name),
                stream: stream.map_or(id.name(), |(table, _)| &table.stream),
                endpoint: id.name(),
                committed: committed.get(id).copied(),
                cursor,
                lag: cursor.map(|cursor| now - cursor),
                unfinished,
                missing: gaps::of_state(&endpoint.1),
            });
        }
    }
    entries.sort_by(|one, other| (one.source, one.stream).cmp(&(other.source, other.stream)));
    entries
}

impl Entry<'_> {
    fn state(&self) -> String {
        let mut parts = Vec::new();
        if self.unfinished > 0 {
            parts.push(format!("{} slices left", self.unfinished));
        }
        if !self.missing.is_empty() {
            parts.push(format!("{} missing", units::number(self.missing.len() as u64)));
        }
        if parts.is_empty() { "complete".to_owned() } else { parts.join(", ") }
    }

    fn json(&self, console: &Console) -> Value {
        json!({
            "source": self.source,
            "stream": self.stream,
            "endpoint": self.endpoint,
            "rows": self.rows,
            "last_commit": self.committed,
            "cursor": self.cursor,
            "lag_seconds": self.lag.map(|lag| lag.num_seconds()),
            "unfinished_slices": self.unfinished,
            "missing": gaps::listed(&self.missing, console),
        })
    }
}

fn text(status: &Status, rows: &[Entry<'_>]) -> String {
    use Align::{Left, Right};
    let columns =
        [("SOURCE", Left), ("STREAM", Left), ("ROWS", Right), ("LAST COMMIT", Left), ("UP TO", Left), ("LAG", Right), ("STATE", Left)];
    let mut table = Table::new(columns);
    let dash = || "-".to_owned();
    for entry in rows {
        table.row([
            entry.source.to_owned(),
            entry.stream.to_owned(),
            units::number(entry.rows),
            entry.committed.map_or_else(dash, units::instant),
            entry.cursor.map_or_else(dash, units::instant),
            entry.lag.map_or_else(dash, units::ago),
            entry.state(),
        ]);
    }
    let last = status.commits.first().map_or(String::new(), |commit| {
        format!("\nLast of {} commits: {} by run {}\n", commit.sequence, units::instant(commit.at), commit.run)
    });
    let mut missing = String::new();
    for (id, state) in &status.endpoints {
        gaps::tell(id, &gaps::of_state(state), &mut missing);
    }
    table.render() + &missing + &last
}
