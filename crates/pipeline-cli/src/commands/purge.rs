//! `pipeline purge`: removes deleted rows from the destination's files on disk. Needs no
//! credential.

use std::sync::Arc;

use pipeline_core::{Clock, SystemClock};
use pipeline_engine::{Purge, Purged};
use serde_json::json;

use crate::args::Format;
use crate::config::{Config, suggest};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::table::{Align, TextTable};
use crate::setup::Target;
use crate::{args, units};

pub(super) async fn run(args: &args::Purge, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let target = Target::of(&config, console)?;
    if !target.is_persistent() {
        return Err(Failure::usage(
            format!("{} stores no data to purge", target.location()),
            "purge the data where its reader stores it",
        ));
    }
    let purged = if target.exists().await? {
        let destination = target.open().await?;
        let purge = wanted(args);
        let status = destination
            .status(0)
            .await
            .map_err(|error| Failure::of_destination(&error))?;
        let known: Vec<String> = status
            .rows
            .iter()
            .map(|(table, _)| format!("{}/{}", table.source, table.stream))
            .collect();
        if let Some(what) = args
            .what
            .as_deref()
            .filter(|_| !status.rows.iter().any(|(table, _)| purge.wants(table)))
        {
            let help = suggest(what, "tables", known.iter().map(String::as_str));
            return Err(Failure::usage(
                format!("unknown source or stream `{what}`"),
                &help,
            ));
        }
        destination
            .purge(&purge)
            .await
            .map_err(|error| Failure::of_destination(&error))?
    } else {
        Purged::default()
    };
    match args.output {
        Format::Json => console.print(&format!(
            "{:#}",
            json!({ "dry_run": args.dry_run, "purged": purged })
        )),
        Format::Human => console.print(&text(&purged, args.dry_run)),
    }
    Ok(Exit::Done)
}

fn wanted(args: &args::Purge) -> Purge {
    let (source, stream) = match args.what.as_deref().map(|what| {
        what.split_once('/')
            .map_or((what, None), |(source, stream)| (source, Some(stream)))
    }) {
        Some((source, stream)) => (Some(source.to_owned()), stream.map(str::to_owned)),
        None => (None, None),
    };
    Purge {
        source,
        stream,
        versions: args.versions,
        dry_run: args.dry_run,
        run: "purge".to_owned(),
        at: SystemClock.now(),
    }
}

fn text(purged: &Purged, dry_run: bool) -> String {
    let mut table = TextTable::new([
        ("SOURCE", Align::Left),
        ("STREAM", Align::Left),
        ("ROWS", Align::Right),
        ("NOTE", Align::Left),
    ]);
    let concerned = purged
        .tables
        .iter()
        .filter(|purged| purged.rows > 0 || purged.skipped.is_some());
    for entry in concerned.clone() {
        let note = entry
            .skipped
            .as_ref()
            .map_or_else(String::new, |reason| format!("skipped: {reason}"));
        table.row([
            entry.table.source.clone(),
            entry.table.stream.clone(),
            units::number(entry.rows),
            note,
        ]);
    }
    let rows: u64 = purged.tables.iter().map(|purged| purged.rows).sum();
    let rows = units::count(rows, "row");
    let last = if dry_run {
        format!("Would remove {rows}.")
    } else {
        let [before, after] = [purged.bytes_before, purged.bytes_after].map(units::number);
        format!("Removed {rows}. The files take {after} bytes ({before} before).")
    };
    if concerned.count() == 0 {
        last
    } else {
        format!("{}\n{last}", table.render())
    }
}
