//! Deleted means deleted: what Zendesk redacts, scrubs or deletes for good is in no byte of the
//! database after the sync that hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::account::Account;

/// What must be found nowhere.
const SECRET: &str = "4111 1111 1111 1111";

const TIME: &str = "2026-11-01T10:00:00Z";

/// An account of which a function knows all answers: of a path, by the number of the sync. What it
/// does not know is an empty list.
fn scripted(
    answer: impl Fn(&str, usize) -> Option<Value> + Send + Sync + 'static,
) -> (Account, Arc<AtomicUsize>) {
    let mut account = Account::new(Simulation {
        zendesk: ZendeskWorld::default(),
        ..Simulation::default()
    });
    let sync = Arc::new(AtomicUsize::new(1));
    let number = Arc::clone(&sync);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, _: Arc<Simulator>| {
            let (path, query) = (
                request.uri().path().to_owned(),
                request.uri().query().unwrap_or_default().to_owned(),
            );
            let number = number.load(Ordering::Relaxed);
            // What an export has told it does not tell again.
            let is_onward =
                number == 1 && (query.contains("cursor=") || query.contains("start_time=1"));
            let body = if is_onward {
                empty(&path)
            } else {
                answer(&path, number).unwrap_or_else(|| empty(&path))
            };
            let status = if body.is_null() { 404 } else { 200 };
            async move {
                reply(
                    status,
                    &[("content-type", "application/json")],
                    body.to_string(),
                )
            }
            .boxed()
        },
    ));
    (account, sync)
}

/// The answer of a list without records; null where there is none.
fn empty(path: &str) -> Value {
    let key = path.rsplit('/').next().unwrap_or_default();
    match path {
        _ if path.ends_with("/tickets/cursor") => {
            json!({ "tickets": [], "after_cursor": null, "after_url": null, "end_of_stream": true })
        }
        _ if path.ends_with("/users/cursor") => {
            json!({ "users": [], "identities": [], "after_cursor": null, "after_url": null, "end_of_stream": true })
        }
        _ if path.contains("/incremental/") => {
            json!({ key: [], "count": 0, "end_time": 1_761_991_200, "next_page": null, "end_of_stream": true })
        }
        _ if path.contains("/tickets/") && key == "comments" => Value::Null,
        _ => json!({ key: [], "meta": { "has_more": false }, "links": {} }),
    }
}

fn tickets(tickets: &Value) -> Value {
    json!({ "tickets": tickets, "after_cursor": "MTc2MTk5MTIwMC4wfHw1fA==", "after_url": null, "end_of_stream": true })
}

fn users(users: &Value, identities: &Value) -> Value {
    json!({ "users": users, "identities": identities, "after_cursor": "MTc2MTk5MTIwMC4wfHw3fA==", "after_url": null, "end_of_stream": true })
}

fn events(id: u64, children: &Value) -> Value {
    let event = json!({ "id": id, "ticket_id": 5, "timestamp": 1_761_991_200, "created_at": TIME, "updater_id": 7, "event_type": "Audit", "child_events": children });
    json!({ "ticket_events": [event], "count": 1, "end_time": 1_761_991_200, "next_page": null, "end_of_stream": true })
}

/// Syncs twice, and fails when the second sync leaves the secret in any byte of the database. It
/// must be there before.
async fn assert_gone(
    streams: &[&str],
    answer: impl Fn(&str, usize) -> Option<Value> + Send + Sync + 'static,
) -> Account {
    let (account, sync) = scripted(answer);
    account.complete(streams).await;
    assert!(holds_secret(&account), "nothing to be forgotten was stored");
    sync.store(2, Ordering::Relaxed);
    account.complete(streams).await;
    assert!(
        !holds_secret(&account),
        "the database still holds what was deleted"
    );
    account
}

fn holds_secret(account: &Account) -> bool {
    Connection::open(account.database())
        .unwrap()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM;")
        .unwrap();
    let bytes = std::fs::read(account.database()).unwrap();
    bytes
        .windows(SECRET.len())
        .any(|window| window == SECRET.as_bytes())
}

/// Every way in which Zendesk takes back what a comment said, and every member of a comment that
/// may say it.
#[tokio::test(start_paused = true)]
async fn what_a_comment_said_is_gone_once_it_is_redacted() {
    let said = [
        json!({ "event_type": "Comment", "body": SECRET, "html_body": SECRET, "plain_body": SECRET }),
        json!({ "event_type": "Comment", "body": "see the scan", "attachments": [{ "id": 1, "file_name": SECRET }] }),
        json!({ "event_type": "VoiceComment", "body": "a call", "data": { "transcription_text": SECRET, "recording_url": SECRET } }),
        json!({ "event_type": "VoiceComment", "body": "a call", "formatted_from": SECRET, "formatted_to": SECRET }),
    ];
    let redactions = [
        "CommentRedactionEvent",
        "AttachmentRedactionEvent",
        "VoiceCommentRedactionEvent",
        "CommentPrivacyChange",
    ];
    for (said, redaction) in said
        .iter()
        .flat_map(|said| redactions.map(|redaction| (said.clone(), redaction)))
    {
        let answer = move |path: &str, sync: usize| {
            let mut comment = said.clone();
            comment["id"] = 901.into();
            match (path, sync) {
                ("/api/v2/incremental/ticket_events", 1) => Some(events(
                    900,
                    &json!([comment, { "id": 902, "event_type": "Change", "status": "open" }]),
                )),
                ("/api/v2/incremental/ticket_events", _) => Some(events(
                    910,
                    &json!([{ "id": 911, "event_type": redaction, "comment_id": 901 }]),
                )),
                ("/api/v2/tickets/5/comments", _) => {
                    let now = json!({ "id": 901, "body": "▇▇▇▇", "html_body": "▇▇▇▇", "plain_body": "▇▇▇▇", "attachments": [], "ticket_id": null });
                    Some(json!({ "comments": [now], "meta": { "has_more": false }, "links": {} }))
                }
                _ => None,
            }
        };
        let account = assert_gone(
            &["ticket_events", "ticket_comments", "ticket_field_history"],
            answer,
        )
        .await;
        assert_eq!(account.rows("ticket_comments", "id", "body")["901"], "▇▇▇▇");
        assert_eq!(
            account.rows("ticket_comments", "id", "ticket_id")["901"],
            "5",
            "a child takes its parent's id"
        );
        assert_eq!(
            account.rows("ticket_field_history", "field", "value")["status"],
            "open"
        );
    }
}

/// Texts that no comment repeats are in no row of the events in the first place.
#[tokio::test(start_paused = true)]
async fn events_quote_nobody() {
    let quoting = [
        json!({ "event_type": "Comment", "body": SECRET }),
        json!({ "event_type": "Notification", "subject": SECRET, "body": SECRET }),
        json!({ "event_type": "Tweet", "body": SECRET }),
        json!({ "event_type": "SMS", "body": SECRET }),
        json!({ "event_type": "External", "value": SECRET }),
        json!({ "event_type": "ChatStartedEvent", "history": [{ "message": SECRET }] }),
        json!({ "event_type": "SatisfactionRating", "body": SECRET }),
        json!({ "event_type": "Create", "description": SECRET }),
        json!({ "event_type": "Change", "description": "x", "previous_value": SECRET }),
        json!({ "event_type": "Create", "field_name": "description", "value": SECRET }),
    ];
    let children = Value::Array(
        quoting
            .into_iter()
            .zip(901..)
            .map(|(mut child, id)| {
                child["id"] = id.into();
                child
            })
            .collect(),
    );
    let (account, _) = scripted(move |path, _| {
        path.ends_with("/ticket_events")
            .then(|| events(900, &children))
    });
    account
        .complete(&["ticket_events", "ticket_field_history"])
        .await;
    assert!(!holds_secret(&account));
    let children = &account.rows("ticket_events", "id", "child_events")["900"];
    assert_eq!(
        children.matches("event_type").count(),
        10,
        "every child is there: {children}"
    );
}

#[tokio::test(start_paused = true)]
async fn everything_that_quotes_a_ticket_goes_when_it_is_deleted_for_good() {
    let streams = [
        "tickets",
        "ticket_metrics",
        "ticket_events",
        "ticket_comments",
        "ticket_field_history",
        "ticket_audits",
        "side_conversations",
        "side_conversation_events",
        "conversation_log",
        "satisfaction_ratings",
        "tickets_search",
        "calls",
    ];
    let list = |key: &str, record: Value| {
        Some(
            json!({ key: [record], "meta": { "has_more": false }, "links": {}, "next_page": null }),
        )
    };
    let answer = move |path: &str, sync: usize| match path {
        "/api/v2/incremental/tickets/cursor" if sync == 1 => Some(tickets(&json!([
            { "id": 5, "subject": SECRET, "description": SECRET, "status": "open", "generated_timestamp": 1_761_991_200, "metric_set": { "id": 50, "ticket_id": null } },
            { "id": 6, "subject": "another", "status": "open", "generated_timestamp": 1_761_991_200, "metric_set": null },
        ]))),
        "/api/v2/incremental/tickets/cursor" => Some(tickets(&json!([
            { "id": 5, "subject": "SCRUBBED", "raw_subject": "SCRUBBED", "description": "X", "status": "deleted", "generated_timestamp": 1_762_078_000 },
            { "id": 6, "subject": "another", "status": "deleted", "generated_timestamp": 1_762_078_000 },
        ]))),
        "/api/v2/incremental/ticket_events" if sync == 1 => Some(events(
            900,
            &json!([
                { "id": 901, "event_type": "Comment", "body": SECRET },
                { "id": 902, "event_type": "Create", "subject": SECRET },
            ]),
        )),
        "/api/v2/tickets/5/audits" => list(
            "audits",
            json!({ "id": 900, "ticket_id": null, "events": [{ "id": 901, "type": "Comment", "body": SECRET }] }),
        ),
        "/api/v2/tickets/6/audits" => {
            list("audits", json!({ "id": 800, "ticket_id": 6, "events": [] }))
        }
        "/api/v2/tickets/5/side_conversations" => list(
            "side_conversations",
            json!({ "id": "s", "subject": SECRET }),
        ),
        "/api/v2/tickets/5/side_conversations/s/events" => list(
            "events",
            json!({ "id": "e", "message": { "body": SECRET } }),
        ),
        "/api/v2/tickets/5/conversation_log" => list(
            "events",
            json!({ "id": "c", "content": { "body": SECRET } }),
        ),
        "/api/v2/satisfaction_ratings" if sync == 1 => list(
            "satisfaction_ratings",
            json!({ "id": 3, "ticket_id": 5, "comment": SECRET, "updated_at": TIME }),
        ),
        "/api/v2/search/export" if sync == 1 => list(
            "results",
            json!({ "id": 5, "subject": SECRET, "updated_at": TIME }),
        ),
        "/api/v2/search/export" => {
            Some(json!({ "results": [], "meta": { "has_more": false }, "links": {} }))
        }
        "/api/v2/channels/voice/stats/incremental/calls" if sync == 1 => Some(
            json!({ "calls": [{ "id": 4, "ticket_id": 5, "post_call_summary": SECRET, "updated_at": TIME }], "count": 1, "end_time": 1_761_991_200, "next_page": null }),
        ),
        _ if path.ends_with("/side_conversations") || path.ends_with("/conversation_log") => Some(
            json!({ "side_conversations": [], "events": [], "meta": { "has_more": false }, "next_page": null }),
        ),
        _ => None,
    };
    let account = assert_gone(&streams, answer).await;
    assert_eq!(account.rows("tickets", "id", "subject")["5"], "SCRUBBED");
    assert_eq!(
        account.rows("ticket_metrics", "id", "ticket_id")["50"],
        "5",
        "a null id takes the ticket's"
    );
    assert_eq!(
        account
            .rows("ticket_audits", "id", "ticket_id")
            .into_iter()
            .collect::<Vec<_>>(),
        [("800".to_owned(), "6".to_owned())]
    );
    for table in [
        "ticket_events",
        "ticket_comments",
        "side_conversations",
        "satisfaction_ratings",
        "tickets_search",
        "calls",
    ] {
        assert!(account.rows(table, "id", "id").is_empty(), "{table}");
    }
}

/// A ticket that is only in the bin keeps what belongs to it, for it may come back.
#[tokio::test(start_paused = true)]
async fn a_deleted_ticket_keeps_its_comments_until_it_is_deleted_for_good() {
    let answer = |path: &str, sync: usize| match path {
        "/api/v2/incremental/tickets/cursor" => Some(tickets(
            &json!([{ "id": 5, "subject": "SCRUBBED", "status": if sync == 1 { "open" } else { "solved" }, "generated_timestamp": 1_761_991_200 + sync }]),
        )),
        "/api/v2/incremental/ticket_events" if sync == 1 => Some(events(
            900,
            &json!([{ "id": 901, "event_type": "Comment", "body": "hello" }]),
        )),
        _ => None,
    };
    let (account, sync) = scripted(answer);
    account.complete(&["tickets", "ticket_comments"]).await;
    sync.store(2, Ordering::Relaxed);
    account.complete(&["tickets", "ticket_comments"]).await;
    assert_eq!(
        account.rows("ticket_comments", "id", "body")["901"],
        "hello",
        "the subject alone proves nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn identities_of_a_person_who_is_deleted_for_good_are_gone() {
    let person = |more: &Value| {
        let mut person = json!({ "id": 7, "updated_at": TIME });
        person
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        person
    };
    let identity = json!({ "id": 70, "user_id": 7, "type": "email", "value": SECRET });
    let answer = move |path: &str, sync: usize| match (path, sync) {
        ("/api/v2/incremental/users/cursor", 1) => Some(users(
            &json!([person(&json!({ "name": SECRET, "active": true }))]),
            &json!([identity]),
        )),
        ("/api/v2/incremental/users/cursor", _) => {
            let gone = person(
                &json!({ "name": "Permanently Deleted User", "email": null, "active": false, "permanently_deleted": true }),
            );
            Some(users(&json!([gone]), &json!([])))
        }
        _ => None,
    };
    assert_gone(&["users", "user_identities"], answer).await;
}

/// All identities of a user come with it, so that one which is missing was removed. A page without
/// any says nothing.
#[tokio::test(start_paused = true)]
async fn identities_that_are_removed_go_and_none_goes_without_proof() {
    let identities = |values: &[(u64, u64, &str)]| {
        json!(
            values
                .iter()
                .map(|(id, user, value)| json!({ "id": id, "user_id": user, "value": value }))
                .collect::<Vec<_>>()
        )
    };
    let answer = move |path: &str, sync: usize| {
        let both = json!([{ "id": 7, "active": true, "updated_at": TIME }, { "id": 8, "active": true, "updated_at": TIME }]);
        let mut page = match sync {
            1 => users(
                &both,
                &identities(&[
                    (70, 7, SECRET),
                    (71, 7, "kept@example.com"),
                    (80, 8, "other@example.com"),
                ]),
            ),
            _ => users(&both, &identities(&[(71, 7, "kept@example.com")])),
        };
        if sync == 3 {
            page.as_object_mut().unwrap().remove("identities");
        }
        (path == "/api/v2/incremental/users/cursor").then_some(page)
    };
    let account = assert_gone(&["users", "user_identities"], answer).await;
    let left: Vec<String> = account
        .rows("user_identities", "id", "value")
        .into_keys()
        .collect();
    assert_eq!(left, ["71", "80"]);
}

/// Users come although an answer lacks the identities that were asked for.
#[tokio::test(start_paused = true)]
async fn users_come_without_identities() {
    for identities in [None, Some(Value::Null), Some(json!({}))] {
        let answer = move |path: &str, _| {
            let mut page = users(
                &json!([{ "id": 7, "name": "a", "active": true, "updated_at": TIME }]),
                &json!([]),
            );
            match &identities {
                Some(odd) => page["identities"] = odd.clone(),
                None => drop(page.as_object_mut().unwrap().remove("identities")),
            }
            path.ends_with("/users/cursor").then_some(page)
        };
        let (account, _) = scripted(answer);
        account.complete(&["users", "user_identities"]).await;
        assert_eq!(account.rows("users", "id", "name")["7"], "a");
    }
}

/// An export that still shows the events of a scrubbed ticket does not bring them back when
/// everything is read again.
#[tokio::test(start_paused = true)]
async fn a_full_refresh_brings_nothing_back() {
    let answer = |path: &str, sync: usize| match path {
        "/api/v2/incremental/tickets/cursor" => {
            let (subject, status) = if sync == 1 {
                (SECRET, "open")
            } else {
                ("SCRUBBED", "deleted")
            };
            Some(tickets(
                &json!([{ "id": 5, "subject": subject, "status": status, "generated_timestamp": 1_761_991_200 + sync }]),
            ))
        }
        "/api/v2/incremental/ticket_events" if sync != 2 => Some(events(
            900,
            &json!([{ "id": 901, "event_type": "Comment", "body": SECRET }, { "id": 902, "event_type": "Create", "subject": SECRET }]),
        )),
        _ => None,
    };
    let streams = [
        "tickets",
        "ticket_events",
        "ticket_comments",
        "ticket_field_history",
    ];
    let mut account = assert_gone(&streams, answer).await;
    account.full_refresh = true;
    account.complete(&streams).await;
    assert!(
        !holds_secret(&account),
        "the second answer says nothing of the events"
    );
    let (mut account, sync) = scripted(answer);
    account.complete(&streams).await;
    sync.store(2, Ordering::Relaxed);
    account.complete(&streams).await;
    sync.store(3, Ordering::Relaxed);
    account.full_refresh = true;
    account.complete(&streams).await;
    assert!(
        !holds_secret(&account),
        "the third answer shows the events again"
    );
}

/// The audits of a ticket quote its comments. They are read again although the export of tickets
/// lags behind.
#[tokio::test(start_paused = true)]
async fn audits_are_read_again_after_a_redaction() {
    let answer = |path: &str, sync: usize| match path {
        "/api/v2/incremental/tickets/cursor" if sync == 1 => Some(tickets(
            &json!([{ "id": 5, "subject": "s", "status": "open", "generated_timestamp": 1_761_991_200 }]),
        )),
        "/api/v2/incremental/ticket_events" => {
            let kind = if sync == 1 {
                "Comment"
            } else {
                "CommentRedactionEvent"
            };
            Some(events(
                900 + sync as u64,
                &json!([{ "id": 950 + sync, "event_type": kind, "comment_id": 951 }]),
            ))
        }
        "/api/v2/tickets/5/audits" => {
            let body = if sync == 1 { SECRET } else { "▇▇▇▇" };
            let audit = json!({ "id": 901, "ticket_id": null, "events": [{ "id": 951, "type": "Comment", "body": body }] });
            Some(json!({ "audits": [audit], "meta": { "has_more": false }, "links": {} }))
        }
        _ => None,
    };
    let account = assert_gone(&["tickets", "ticket_events", "ticket_audits"], answer).await;
    assert_eq!(account.rows("ticket_audits", "id", "ticket_id")["901"], "5");
}
