//! What goes with a ticket that is deleted for good.
//!
//! Zendesk scrubs such a ticket and what belongs to it, and says so by one thing alone: the ticket
//! comes once more in the export, with a subject that says so. The rows that quote it stand in
//! tables of other lists, so each of these is told by an endpoint of its own, which asks for
//! nothing: it walks the pages of the export that are read for the tickets themselves.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use pipeline_core::state::SliceState;
use pipeline_core::{Endpoint, Page, RawRecord, Reader, Result};

use crate::transform;

/// The list that says which tickets are gone for good.
pub(crate) const LIST: &str = "tickets";

/// What the names of the endpoints begin with; the stream follows.
const PREFIX: &str = "forgotten_";

/// The streams that hold what was said in a ticket, or who said it, and the column that names the
/// ticket. `tickets` itself brings the scrubbed row; lists that every sync reads whole lose what
/// the vendor does not list.
const STREAMS: [(&str, &str); 10] = [
    ("ticket_events", "ticket_id"),
    ("ticket_comments", "ticket_id"),
    ("ticket_field_history", "ticket_id"),
    ("satisfaction_ratings", "ticket_id"),
    ("calls", "ticket_id"),
    ("ticket_audits", "ticket_id"),
    ("side_conversations", "ticket_id"),
    ("side_conversation_events", "ticket_id"),
    ("conversation_log", "ticket_id"),
    ("tickets_search", "id"),
];

/// An endpoint for each of the streams, made of `export`, a copy of the tickets' list that feeds
/// nothing.
pub(crate) fn endpoints(known: &[Endpoint], export: &Endpoint) -> Vec<Endpoint> {
    let endpoint = |(stream, _): (&str, &str)| {
        let list = known
            .iter()
            .find(|endpoint| endpoint.streams().any(|def| def.name() == stream))?;
        let def = list.streams().find(|def| def.name() == stream)?.clone();
        let endpoint = export
            .clone()
            .named(format!("{PREFIX}{stream}"))
            .records("")
            .stream(def)
            .corrects();
        Some(if list.is_opt_in() {
            endpoint.opt_in()
        } else {
            endpoint
        })
    };
    STREAMS.into_iter().filter_map(endpoint).collect()
}

/// The column that names the ticket, for an endpoint of this module.
pub(crate) fn column(endpoint: &Endpoint) -> Option<&'static str> {
    let stream = endpoint.name().strip_prefix(PREFIX)?;
    STREAMS
        .into_iter()
        .find(|(name, _)| *name == stream)
        .map(|(_, column)| column)
}

/// Reads the pages of the tickets' list, and gives a tombstone for each ticket that is gone for
/// good.
pub(crate) fn read<'a>(
    reader: &Reader,
    tickets: &'a Endpoint,
    column: &'static str,
    slice: SliceState,
) -> BoxStream<'a, Result<Page>> {
    let tombstones = move |page: Page| {
        let tickets = page
            .records
            .iter()
            .flatten()
            .filter(|ticket| transform::is_scrubbed(ticket));
        let rows = tickets
            .filter_map(|ticket| Some(tombstone(column, ticket.member("id")?)))
            .collect();
        Page {
            records: vec![rows],
            ..page
        }
    };
    Box::pin(reader.read_kept(tickets, slice).map_ok(tombstones))
}

/// The tombstone of the row of a ticket, or of all rows that belong to it.
fn tombstone(column: &str, ticket: &str) -> RawRecord {
    let json = format!("{{\"{column}\":{ticket}}}");
    if column == "id" {
        RawRecord::delete(json)
    } else {
        RawRecord::delete_matching(json)
    }
}
