//! The endpoints and the streams that they feed.

use pipeline_core::paginate::{CursorField, More, TimeWindow};
use pipeline_core::{Deletes, Endpoint, RawRecord, Result, StreamDef, TimeFormat};

use crate::export::{ExportCursor, ExportStart, START_TIME};
use crate::limits::{EXPORT, SUPPORT};
use crate::schema;

/// Everything that is read, in the order in which it is worth reading.
pub(crate) fn endpoints(page_size: u32) -> Vec<Endpoint> {
    vec![tickets(page_size), users(page_size), organizations(page_size), groups()]
}

/// One export feeds tickets and their metrics: its pages are the scarce resource. By default it leaves out tickets of
/// AI agents. Its order is that of `generated_timestamp`; `updated_at` misses changes made by the system.
fn tickets(page_size: u32) -> Endpoint {
    let deleted = Deletes::Marked { field: "status", value: "deleted" };
    export("tickets", "/api/v2/incremental/tickets/cursor", page_size)
        .query("include", "metric_sets")
        .query("support_type_scope", "all")
        .paginate(ExportCursor::new())
        .cursor("generated_timestamp", TimeFormat::UnixSeconds)
        .feeds(StreamDef::new("tickets", schema::ticket()).primary_key(["id"]).deletes(deleted).map(lean_ticket), "tickets")
        .feeds(StreamDef::new("ticket_metrics", schema::ticket_metric()).primary_key(["id"]), "tickets/*/metric_set")
}

fn users(page_size: u32) -> Endpoint {
    let deleted = Deletes::Marked { field: "active", value: "false" };
    export("users", "/api/v2/incremental/users/cursor", page_size)
        .query("include", "identities")
        .paginate(ExportCursor::new())
        .cursor("updated_at", TimeFormat::Rfc3339)
        .feeds(StreamDef::new("users", schema::user()).primary_key(["id"]).deletes(deleted), "users")
        .feeds(StreamDef::new("user_identities", schema::user_identity()).primary_key(["id"]), "identities")
}

fn organizations(page_size: u32) -> Endpoint {
    let deleted = Deletes::Stamped { field: "deleted_at" };
    export("organizations", "/api/v2/incremental/organizations", page_size)
        .paginate(TimeWindow { since: START_TIME, until: "end_time", done: "end_of_stream" })
        .cursor("updated_at", TimeFormat::Rfc3339)
        .feeds(StreamDef::new("organizations", schema::organization()).primary_key(["id"]).deletes(deleted), "organizations")
}

/// Deleted groups are listed only on demand.
fn groups() -> Endpoint {
    let deleted = Deletes::Marked { field: "deleted", value: "true" };
    Endpoint::get("groups", "/api/v2/groups")
        .query("exclude_deleted", "false")
        .query("page[size]", "100")
        .paginate(CursorField {
            param: "page[after]",
            token: "meta/after_cursor",
            more: Some(More::WhenTrue("meta/has_more")),
            first_page_only: &[],
            resumable: false,
        })
        .buckets([SUPPORT])
        .feeds(StreamDef::new("groups", schema::group()).primary_key(["id"]).deletes(deleted), "groups")
}

fn export(name: &'static str, path: &'static str, page_size: u32) -> Endpoint {
    Endpoint::get(name, path).query("per_page", page_size.to_string()).slices(ExportStart::new()).incremental().buckets([EXPORT, SUPPORT])
}

/// Leaves out what is stored elsewhere: `fields` repeats `custom_fields`, and `metric_set` is a stream of its own.
pub(crate) fn lean_ticket(record: &RawRecord) -> Result<RawRecord> {
    let members = record.members()?;
    let kept = members.iter().filter(|(name, _)| name != "fields" && name != "metric_set");
    Ok(RawRecord::from_members(kept.map(|(name, value)| (&**name, *value))))
}
