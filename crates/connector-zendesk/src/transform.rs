//! What becomes of records before they are stored: copies and secrets are left out, and nested ones
//! get rows of their own.

use std::collections::BTreeSet;

use pipeline_core::{Added, Error, ErrorKind, RawRecord, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Leaves out what is stored elsewhere: `fields` repeats `custom_fields`, and `metric_set` is a
/// stream of its own.
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
    let Some(id) = record
        .member("id")
        .filter(|id| !id.starts_with('"') && *id != "null")
    else {
        return Ok(record.clone());
    };
    let id = format!("\"{id}\"");
    changed(record, &Added::instead([("id", &*id)]))
}

/// The record without some of its members.
///
/// # Errors
/// When it is not an object: it may quote anything.
fn without(record: &RawRecord, names: &[&str]) -> Result<RawRecord> {
    changed(record, &Added::without(names))
}

/// The record with members more, or less.
///
/// # Errors
/// When it is not an object.
fn changed(record: &RawRecord, added: &Added) -> Result<RawRecord> {
    let changed = record.clone().with(added);
    if changed.parts().is_some() {
        Ok(changed)
    } else {
        Err(Error::new(
            ErrorKind::Decode,
            "a record is not a JSON object",
        ))
    }
}

/// Leaves out what proves to a receiver who sends: its headers, its credentials and the secret of
/// its signature.
pub(crate) fn webhook_without_secrets(webhook: &RawRecord) -> Result<RawRecord> {
    without(
        webhook,
        &["authentication", "custom_headers", "signing_secret"],
    )
}

/// The metrics inside a ticket, which are null when it is deleted.
#[expect(
    clippy::unnecessary_wraps,
    reason = "others that take its place can fail"
)]
pub(crate) fn metrics(ticket: &RawRecord) -> Result<Vec<RawRecord>> {
    let Some(json) = ticket
        .member("metric_set")
        .filter(|json| json.starts_with('{'))
    else {
        return Ok(Vec::new());
    };
    let metrics = RawRecord::upsert(json.to_owned());
    let is_told = metrics
        .member("ticket_id")
        .is_some_and(|ticket| ticket != "null");
    Ok(vec![match ticket.member("id").filter(|_| !is_told) {
        Some(id) => metrics.with_member("ticket_id", id),
        None => metrics,
    }])
}

/// What is looked at of users and identities.
#[derive(Deserialize)]
struct Person<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    permanently_deleted: Option<&'a RawValue>,
}

impl<'a> Person<'a> {
    /// None of what is no object.
    fn read(json: &'a RawValue) -> Option<Self> {
        serde_json::from_str(json.get()).ok()
    }
}

/// The identities of the users of a page.
///
/// All identities of a user come with it, so those that are missing are gone. Nothing is concluded
/// about a user of whom the page has none, but a permanently deleted one has none any more.
#[expect(
    clippy::unnecessary_wraps,
    reason = "others that take its place can fail"
)]
pub(crate) fn identities(page: &RawRecord) -> Result<Vec<RawRecord>> {
    let list = |name: &str| -> Vec<&RawValue> {
        page.member(name)
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    };
    let (users, identities) = (list("users"), list("identities"));
    let deleted = users.iter().filter_map(|user| {
        let user = Person::read(user)?;
        user.id
            .filter(|_| {
                user.permanently_deleted
                    .is_some_and(|flag| flag.get() == "true")
            })
            .map(RawValue::get)
    });
    let deleted: BTreeSet<&str> = deleted.collect();
    let owners: Vec<Option<&str>> = identities
        .iter()
        .map(|identity| Person::read(identity)?.user_id.map(RawValue::get))
        .collect();
    let told: BTreeSet<&str> = owners
        .iter()
        .flatten()
        .copied()
        .filter(|user| *user != "null")
        .collect();
    let mut rows: Vec<RawRecord> = deleted
        .union(&told)
        .map(|user| RawRecord::delete_matching(format!("{{\"user_id\":{user}}}")))
        .collect();
    let is_kept = |owner: Option<&str>| owner.is_none_or(|owner| !deleted.contains(owner));
    let kept = identities
        .iter()
        .zip(&owners)
        .filter(|(_, owner)| is_kept(**owner));
    rows.extend(kept.map(|(identity, _)| RawRecord::upsert(identity.get().to_owned())));
    Ok(rows)
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
fn elements(
    record: &RawRecord,
    array: &str,
    (name, value): (&str, &str),
) -> Result<Vec<RawRecord>> {
    let missing =
        |error| Error::new(ErrorKind::Decode, format!("`{array}` is no list")).with_source(error);
    let json = record.member(array).unwrap_or("[]");
    let added = Added::after([(name, value)]);
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(missing)?;
    let row = |element: &RawValue| {
        let element = RawRecord::upsert(element.get().to_owned());
        changed(&element, &added)
    };
    elements.into_iter().map(row).collect()
}

/// What the lists of a ticket need of it. A deleted ticket has none any more; one that is deleted
/// for good is remembered, because what it said goes.
pub(crate) fn ticket(ticket: &RawRecord) -> Result<Option<RawRecord>> {
    if ticket.member("status") != Some("\"deleted\"") {
        return only(ticket, &["id"]);
    }
    let is_scrubbed = ["subject", "raw_subject"]
        .iter()
        .any(|name| ticket.member(name) == Some(SCRUBBED));
    let id = ticket.member("id").filter(|_| is_scrubbed);
    Ok(id.map(|id| RawRecord::from_members([("id", id), ("subject", SCRUBBED)])))
}

/// What the subject of a ticket becomes when it is deleted for good.
const SCRUBBED: &str = "\"SCRUBBED\"";

/// True for a ticket that has lists of its own, of those that [`ticket`] keeps.
pub(crate) fn is_live(ticket: &RawRecord) -> bool {
    !is_scrubbed(ticket)
}

/// True for a ticket that was deleted for good, of those that [`ticket`] keeps.
pub(crate) fn is_scrubbed(ticket: &RawRecord) -> bool {
    ticket.member("subject") == Some(SCRUBBED)
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
    if has_votes(comment) {
        only(comment, &["id", "source_id", "post_id", "vote_count"])
    } else {
        Ok(None)
    }
}

fn only(record: &RawRecord, names: &[&str]) -> Result<Option<RawRecord>> {
    let members = record.members()?;
    let kept = members.iter().filter(|(name, _)| names.contains(&&**name));
    Ok(Some(RawRecord::from_members(
        kept.map(|(name, value)| (&**name, *value)),
    )))
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
