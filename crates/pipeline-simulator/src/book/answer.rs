//! Answers from a written-down account.

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::query::{BookQuery, Target};
use super::{Account, Book, Kept, RETENTION, scattered};
use crate::Vendor;
use crate::server::Service;
use crate::stripe::{error, json_body, rate_limited, refused, unknown_url};
use crate::stripe_query::{Refusal, refuse};

/// The id of the key's own account.
const OWN: &str = "acct_own";

/// Answers any request under `/v1/`; the key is known to be good. Things happen while the answer is
/// on its way.
pub(crate) fn answer(
    service: &Service,
    book: &mut Book,
    path: &str,
    pairs: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let (target, operation) = book.target(path, pairs).ok_or_else(|| unknown_url(path))?;
    let admitted = service.admit(Vendor::Stripe, &operation, |gate, now| {
        gate.stripe(&operation, now)
    });
    admitted.map_err(|reason| rate_limited(Some(reason)))?;
    if let Target::List { table, .. } | Target::Object { table, .. } = &target {
        crate::stripe::permitted(
            service,
            &book.definitions[*table].name,
            &book.definitions[*table].path,
        )?;
    }
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // A context is the way to the account, through the platform that it is connected to.
    let named = header("stripe-account")
        .or(header("stripe-context"))
        .unwrap_or_default();
    let name = named
        .rsplit('/')
        .next()
        .filter(|name| *name != OWN)
        .unwrap_or_default();
    let Some(account) = book.accounts.get(name) else {
        let message = format!(
            "The provided key 'sk_***' does not have access to account '{name}' (or that account \
             does not exist)."
        );
        return Err(error(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            &message,
            Some("account_invalid"),
            None,
        ));
    };
    let now = service.now();
    let body = match &target {
        Target::List { table, parent } => book
            .list_page(account, *table, parent.as_deref(), pairs)
            .map_err(refused)?,
        Target::Object { table, id } => book.object(account, *table, id, pairs)?,
        Target::Events => events_page(account, pairs, now).map_err(refused)?,
        Target::Event(id) => {
            let event = account
                .events
                .iter()
                .find(|event| event.id == *id && event.created > now - RETENTION);
            event
                .map(|event| event.body.clone())
                .ok_or_else(|| missing("event", id, "id"))?
        }
        Target::Account => {
            json!({ "id": if name.is_empty() { OWN } else { name }, "object": "account" })
        }
    };
    if matches!(target, Target::List { .. }) {
        for _ in 0..book.settings.changes_per_page {
            book.happen(now);
        }
    }
    Ok(json_body(
        StatusCode::OK,
        serde_json::to_vec(&body).unwrap_or_default(),
    ))
}

impl Book {
    fn list_page(
        &self,
        account: &Account,
        table: usize,
        parent: Option<&str>,
        pairs: &[(String, String)],
    ) -> Result<Value, Refusal> {
        let definition = &self.definitions[table];
        let query = BookQuery::parse(pairs, &definition.params, Some(definition))?;
        if let (Some(parent), Some(owner)) = (parent, &definition.parent) {
            let owners = &account.shelves[self.table(owner)];
            if self.is_written
                && owners
                    .find(parent)
                    .is_none_or(|position| owners.objects[position].gone)
            {
                return refuse(
                    Some("resource_missing"),
                    "id",
                    format!("No such {owner}: '{parent}'"),
                );
            }
        }
        let is_listed = |kept: &&Kept| {
            query.passes(kept) && parent.is_none_or(|parent| kept.parent.as_deref() == Some(parent))
        };
        let list = &account.shelves[table];
        let end = match &query.starting_after {
            None => list.objects.len(),
            Some(id) => match list
                .find(id)
                .filter(|position| is_listed(&&list.objects[*position]))
            {
                Some(position) => position,
                None => {
                    return refuse(
                        Some("resource_missing"),
                        "starting_after",
                        format!("No such {}: '{id}'", definition.object),
                    );
                }
            },
        };
        let mut rest = list.objects[..end].iter().rev().filter(is_listed);
        let data: Vec<Value> = rest
            .by_ref()
            .take(query.limit)
            .map(|kept| self.render(account, table, kept, &query.expand, false))
            .collect();
        Ok(
            json!({ "object": "list", "url": definition.path, "has_more": rest.next().is_some(), "data": data }),
        )
    }

    fn object(
        &self,
        account: &Account,
        table: usize,
        id: &str,
        pairs: &[(String, String)],
    ) -> Result<Value, Response> {
        let definition = &self.definitions[table];
        let query =
            BookQuery::parse(pairs, &["expand".to_owned()], Some(definition)).map_err(refused)?;
        let list = &account.shelves[table];
        match list.find(id).map(|position| &list.objects[position]) {
            Some(kept) if !kept.gone => Ok(self.render(account, table, kept, &query.expand, false)),
            Some(_) if definition.object == "customer" => {
                Ok(json!({ "id": id, "object": "customer", "deleted": true }))
            }
            _ => Err(missing(&definition.object, id, "id")),
        }
    }
}

fn events_page(account: &Account, pairs: &[(String, String)], now: i64) -> Result<Value, Refusal> {
    let params = [
        "created",
        "ending_before",
        "expand",
        "limit",
        "starting_after",
        "type",
        "types",
    ]
    .map(str::to_owned);
    let query = BookQuery::parse(pairs, &params, None)?;
    let mut listed: Vec<_> = account
        .events
        .iter()
        .filter(|event| {
            query.includes(event.created)
                && (query.types.is_empty() || query.types.contains(&event.kind))
        })
        .collect();
    // Within one second the order says nothing.
    listed.sort_by_key(|event| (std::cmp::Reverse(event.created), scattered(&event.id)));
    let start = match &query.starting_after {
        None => 0,
        Some(id) => match listed.iter().position(|event| event.id == *id) {
            Some(position) if listed[position].created > now - RETENTION => position + 1,
            Some(_) => {
                return refuse(
                    None,
                    "starting_after",
                    "This event is older than 30 days and cannot be used.".to_owned(),
                );
            }
            None => {
                return refuse(
                    Some("resource_missing"),
                    "starting_after",
                    format!("No such event: '{id}'"),
                );
            }
        },
    };
    let kept: Vec<_> = listed[start..]
        .iter()
        .filter(|event| event.created > now - RETENTION)
        .collect();
    let data: Vec<&Value> = kept
        .iter()
        .take(query.limit)
        .map(|event| &event.body)
        .collect();
    Ok(
        json!({ "object": "list", "url": "/v1/events", "has_more": kept.len() > query.limit, "data": data }),
    )
}

fn missing(object: &str, id: &str, param: &str) -> Response {
    let message = format!("No such {object}: '{id}'");
    error(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        &message,
        Some("resource_missing"),
        Some(param),
    )
}
