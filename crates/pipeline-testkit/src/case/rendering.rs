//! What the snapshots of a case contain.

use std::fmt::Write;

use pipeline_core::{Catalog, Inside};

use super::judgement::outcome;
use crate::json::pretty;
use crate::replay::Replay;
use crate::run::Run;

/// Records of a stream that a snapshot shows whole.
const SHOWN_RECORDS: usize = 5;

/// Pages after which a snapshot shows the state.
const SHOWN_STATES: usize = 20;

/// The requests, one a line; each further sync under a headline.
pub(super) fn requests(replay: &Replay, whole: &Run) -> String {
    let mut lines = replay.requests();
    for (number, begun) in whole.begun.iter().enumerate().skip(1).rev() {
        lines.insert(*begun, headline(number));
    }
    lines.join("\n")
}

fn headline(sync: usize) -> String {
    format!("# sync {}", sync + 1)
}

pub(super) fn records(run: &Run) -> String {
    let mut out = String::new();
    for (number, records) in run.seen.records.iter().enumerate() {
        if number > 0 {
            _ = writeln!(out, "{}", headline(number));
        }
        for (stream, records) in records {
            let hash = records
                .iter()
                .fold(blake3::Hasher::new(), |mut hasher, record| {
                    hasher.update(record.as_bytes()).update(b"\n");
                    hasher
                });
            _ = writeln!(
                out,
                "# {stream}: {} records, hash {}",
                records.len(),
                &hash.finalize().to_hex()[..16]
            );
            for record in records.iter().take(SHOWN_RECORDS) {
                _ = writeln!(out, "{}", pretty(record.as_bytes()));
            }
        }
        for remark in run.remarks.get(number).into_iter().flatten() {
            _ = writeln!(out, "# {remark}");
        }
    }
    for (unit, reason) in &run.missing {
        _ = writeln!(out, "# passed over {unit}: {reason}");
    }
    if let Some(error) = &run.error {
        _ = writeln!(out, "# ended with {}", outcome(run));
        _ = error
            .help
            .as_ref()
            .map(|help| writeln!(out, "# help: {help}"));
    }
    out
}

pub(super) fn states(run: &Run) -> String {
    let mut out = String::new();
    let stops = run
        .pages()
        .iter()
        .enumerate()
        .filter_map(|(index, page)| Some((index + 1, page, page.state.as_ref()?)));
    let mut sync = 0;
    for (number, page, state) in stops.take(SHOWN_STATES) {
        if page.sync != sync {
            sync = page.sync;
            _ = writeln!(out, "{}", headline(sync));
        }
        let counts: Vec<String> = page
            .records
            .iter()
            .map(|(stream, count)| format!("{count} {stream}"))
            .collect();
        _ = writeln!(
            out,
            "# page {number}, endpoint {}: {}",
            page.endpoint,
            counts.join(", ")
        );
        _ = writeln!(out, "{state}");
    }
    for (endpoint, state) in &run.progress.states {
        _ = writeln!(
            out,
            "# after all pages, endpoint {endpoint}\n{}",
            state.to_json()
        );
    }
    out
}

/// The streams of a catalog, one column a line.
pub(crate) fn render_catalog(catalog: &Catalog, wanted: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    for stream in catalog.streams.iter().filter(|stream| wanted(&stream.name)) {
        let cursor = stream.cursor.as_deref().unwrap_or("none");
        _ = writeln!(
            out,
            "{} from {}: {}, key [{}], cursor {cursor}",
            stream.name,
            stream.endpoint,
            stream.mode,
            stream.primary_key.join(", ")
        );
        if let Some(parent) = &stream.parent {
            _ = writeln!(out, "  parent: {parent}");
        }
        _ = writeln!(out, "  deletions: {}", stream.deletes);
        for field in stream.schema.fields() {
            let data_type = serde_json::to_string(&field.data_type).unwrap_or_default();
            _ = write!(out, "  {}: {}", field.name, data_type.trim_matches('"'));
            if let Some(Inside {
                member,
                name,
                entries,
            }) = &field.inside
            {
                let place = entries.map_or_else(
                    || name.to_string(),
                    |(key, value)| format!("{value} where {key} is {name}"),
                );
                _ = write!(out, ", in {member}: {place}");
            }
            out.push('\n');
        }
    }
    out
}
