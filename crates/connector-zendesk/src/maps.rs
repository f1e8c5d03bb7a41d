//! What becomes of records before they are stored: copies and secrets are left out, and nested ones get rows of their own.

use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde_json::value::RawValue;

/// Leaves out what is stored elsewhere: `fields` repeats `custom_fields`, and `metric_set` is a stream of its own.
pub(crate) fn lean_ticket(ticket: &RawRecord) -> Result<RawRecord> {
    without(ticket, &["fields", "metric_set"])
}

/// Leaves out what signs in to the service that a target sends to.
pub(crate) fn target_without_secrets(target: &RawRecord) -> Result<RawRecord> {
    without(target, &["password", "token", "api_token", "secret"])
}

/// Leaves out what a program signs in with.
pub(crate) fn client_without_secret(client: &RawRecord) -> Result<RawRecord> {
    without(client, &["secret"])
}

/// Leaves out the token: the rest says who has one, for what, and until when.
pub(crate) fn token_without_secrets(token: &RawRecord) -> Result<RawRecord> {
    without(token, &["token", "refresh_token"])
}

/// Writes an `id` that is a number as text: the vendor's reference has it in both ways.
pub(crate) fn textual_id(record: &RawRecord) -> Result<RawRecord> {
    let Some(id) = record.member("id").filter(|id| !id.starts_with('"') && *id != "null") else { return Ok(record.clone()) };
    let (members, id) = (record.members()?, format!("\"{id}\""));
    Ok(RawRecord::from_members(members.iter().map(|(name, value)| (&**name, if name == "id" { &*id } else { *value }))))
}

fn without(record: &RawRecord, names: &[&str]) -> Result<RawRecord> {
    let members = record.members()?;
    let kept = members.iter().filter(|(name, _)| !names.contains(&&**name));
    Ok(RawRecord::from_members(kept.map(|(name, value)| (&**name, *value))))
}

/// Child events of a ticket event, each with its type. Anything but a list of objects has none.
fn child_events(event: &RawRecord) -> Vec<(String, RawRecord)> {
    let children: Vec<&RawValue> = event.member("child_events").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let typed = |child: &RawValue| {
        let child = RawRecord::upsert(child.get().to_owned());
        Some((child.scalar("event_type")?, child))
    };
    children.into_iter().filter_map(typed).collect()
}

/// The comments among the children of a ticket event, each with what only the event knows: its ticket and time.
pub(crate) fn comments(event: &RawRecord) -> Result<Vec<RawRecord>> {
    const INHERITED: [&str; 3] = ["ticket_id", "timestamp", "via_reference_id"];
    let inherited = INHERITED.map(|name| (name, event.member(name)));
    let mut comments = Vec::new();
    for (_, comment) in child_events(event).into_iter().filter(|(kind, _)| kind == "Comment") {
        let members = comment.members()?;
        let missing = inherited.iter().filter(|(name, _)| !members.iter().any(|(known, _)| known == name));
        let missing = missing.filter_map(|(name, value)| Some((*name, (*value)?)));
        comments.push(RawRecord::from_members(members.iter().map(|(name, value)| (&**name, *value)).chain(missing)));
    }
    Ok(comments)
}

/// True for a ticket event that changed comments of the past in place, and does not show them.
fn rewrites_comments(event: &RawRecord) -> bool {
    const REWRITES: [&str; 3] = ["CommentRedactionEvent", "CommentPrivacyChange", "AttachmentRedactionEvent"];
    child_events(event).iter().any(|(kind, _)| REWRITES.contains(&kind.as_str()))
}

/// One row for each condition that routing can ask for, with the list that it stands in.
pub(crate) fn attribute_definitions(definitions: &RawRecord) -> Result<Vec<RawRecord>> {
    let mut rows = Vec::new();
    for (list, member) in [("\"all\"", "conditions_all"), ("\"any\"", "conditions_any")] {
        rows.extend(elements(definitions, member, ("condition", list))?);
    }
    Ok(rows)
}

/// The statuses that Zendesk brings and those that the account made, which stand in two lists.
pub(crate) fn agent_statuses(body: &RawRecord) -> Result<Vec<RawRecord>> {
    let mut rows = elements(body, "default", ("custom", "false"))?;
    rows.extend(elements(body, "custom", ("custom", "true"))?);
    Ok(rows)
}

/// The objects of an array, each with one more member.
fn elements(record: &RawRecord, array: &str, (name, value): (&str, &str)) -> Result<Vec<RawRecord>> {
    let missing = |error| Error::new(ErrorKind::Decode, format!("`{array}` is no list")).with_source(error);
    let json = record.member(array).unwrap_or("[]");
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(missing)?;
    let row = |element: &RawValue| {
        let element = RawRecord::upsert(element.get().to_owned());
        let members = element.members()?;
        Ok(RawRecord::from_members(members.iter().map(|(name, value)| (&**name, *value)).chain([(name, value)])))
    };
    elements.into_iter().map(row).collect()
}

/// What the lists of a ticket need of it. A deleted ticket has none any more.
pub(crate) fn live_ticket(ticket: &RawRecord) -> Result<Option<RawRecord>> {
    let is_deleted = ticket.member("status") == Some("\"deleted\"");
    if is_deleted { Ok(None) } else { only(ticket, &["id"]) }
}

/// What the lists of a side conversation need of it.
pub(crate) fn side_conversation(conversation: &RawRecord) -> Result<Option<RawRecord>> {
    only(conversation, &["id", "ticket_id"])
}

/// What the holidays of a schedule need of it.
pub(crate) fn schedule(schedule: &RawRecord) -> Result<Option<RawRecord>> {
    only(schedule, &["id"])
}

/// What the list of its followers needs of an article, a section, a topic or a post.
pub(crate) fn followed(content: &RawRecord) -> Result<Option<RawRecord>> {
    only(content, &["id"])
}

/// What the lists of an article need of it.
pub(crate) fn article(article: &RawRecord) -> Result<Option<RawRecord>> {
    only(article, &["id", "vote_count"])
}

/// What the lists of a post need of it.
pub(crate) fn post(post: &RawRecord) -> Result<Option<RawRecord>> {
    only(post, &["id", "comment_count", "vote_count"])
}

/// What the votes on a comment need of it.
pub(crate) fn comment(comment: &RawRecord) -> Result<Option<RawRecord>> {
    if has_votes(comment) { only(comment, &["id", "source_id", "post_id", "vote_count"]) } else { Ok(None) }
}

/// The ticket of an event that changed comments of the past in place.
pub(crate) fn rewritten_ticket(event: &RawRecord) -> Result<Option<RawRecord>> {
    if rewrites_comments(event) { only(event, &["ticket_id"]) } else { Ok(None) }
}

fn only(record: &RawRecord, names: &[&str]) -> Result<Option<RawRecord>> {
    let members = record.members()?;
    let kept = members.iter().filter(|(name, _)| names.contains(&&**name));
    Ok(Some(RawRecord::from_members(kept.map(|(name, value)| (&**name, *value)))))
}

/// True for what has comments.
pub(crate) fn has_comments(post: &RawRecord) -> bool {
    is_positive(post, "comment_count")
}

/// True for what has votes.
pub(crate) fn has_votes(record: &RawRecord) -> bool {
    is_positive(record, "vote_count")
}

/// A count that is absent may be anything, so it is asked for.
fn is_positive(record: &RawRecord, name: &str) -> bool {
    record.member(name) != Some("0")
}
