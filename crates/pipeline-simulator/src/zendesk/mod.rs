//! Zendesk: `/api/v2/...`.

mod answer;
pub(crate) mod auth;
pub(crate) mod brands;
pub(crate) mod changes;
pub(crate) mod events;
mod exports;
mod lists;
mod query;
pub(crate) mod table;
mod tickets;

use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use self::answer::{
    account_limited, backpressure, export_limited, forbidden, list_limited, no_help_center,
    not_found, unknown,
};
pub(crate) use self::answer::{error, invalid_token, throttled};
use self::query::Query;
use self::table::Pages;
use crate::Vendor;
use crate::limits::{Budget, ZendeskBudgets, ZendeskCall, whole_seconds};
use crate::server::Service;
use crate::world::{Row, World, draw};

/// Answers any request under `/api/v2/`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    uri: Uri,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let Some((brand, path)) = brands::of_path(&service, uri.path()) else {
        return unknown();
    };
    let path = path
        .trim_start_matches("/api/v2/")
        .trim_end_matches(".json");
    // Community lists exist at two paths.
    let path = path
        .strip_prefix("help_center/community/")
        .map_or_else(|| path.to_owned(), |rest| format!("community/{rest}"));
    let (query, target) = (
        Query {
            brand,
            pairs,
            path: path.clone(),
        },
        Target::of(&service.world, &path),
    );
    let mut budgets = None;
    let answer = auth::authenticate(&service, &headers)
        .and_then(|()| admit(&service, &path, &target).map(|left| budgets = Some(left)))
        .and_then(|()| relieve(&service))
        .and_then(|()| allow(&service, &path, &target))
        .and_then(|()| route(&service, &path, target, &query));
    let mut response = answer.unwrap_or_else(|refused| refused);
    if let Some(budgets) = budgets {
        announce(&path, &budgets, &mut response);
    }
    let id = format!("{:016x}", draw(service.state().stats.requests, 1));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// What a path leads to.
enum Target {
    /// A list, and the id of the record that it belongs to.
    List {
        table: usize,
        owner: Option<String>,
    },
    TicketEvents,
    Audits {
        ticket: String,
    },
    Comments {
        ticket: String,
    },
    Search,
    Definitions,
    Me,
    Settings,
    Token,
    Unknown,
}

impl Target {
    fn of(world: &World, path: &str) -> Target {
        let parts: Vec<&str> = path.split('/').collect();
        match *parts.as_slice() {
            ["incremental", "ticket_events"] => Target::TicketEvents,
            ["tickets", ticket, "audits"] => Target::Audits {
                ticket: ticket.to_owned(),
            },
            ["tickets", ticket, "comments"] => Target::Comments {
                ticket: ticket.to_owned(),
            },
            ["search", "export"] => Target::Search,
            ["routing", "attributes", "definitions"] => Target::Definitions,
            ["users", "me"] => Target::Me,
            ["account", "settings"] => Target::Settings,
            ["oauth", "tokens", "current"] => Target::Token,
            _ => Target::list(world, &parts).unwrap_or(Target::Unknown),
        }
    }

    fn list(world: &World, parts: &[&str]) -> Option<Target> {
        world.tables.iter().enumerate().find_map(|(table, known)| {
            let pattern: Vec<&str> = known.list.as_ref()?.path.split('/').collect();
            let fits = pattern.len() == parts.len()
                && pattern
                    .iter()
                    .zip(parts)
                    .all(|(known, part)| known.starts_with('{') || known == part);
            let owner = || {
                pattern
                    .iter()
                    .zip(parts)
                    .find(|(known, _)| **known == "{id}")
                    .map(|(_, part)| (*part).to_owned())
            };
            fits.then(|| Target::List {
                table,
                owner: owner(),
            })
        })
    }

    /// The stream's name.
    fn name<'w>(&self, world: &'w World) -> &'w str {
        match self {
            Target::List { table, .. } => &world.tables[*table].name,
            Target::TicketEvents => "ticket_events",
            Target::Audits { .. } => "ticket_audits",
            Target::Comments { .. } => "ticket_comments",
            Target::Search => "tickets_search",
            Target::Definitions => "attribute_definitions",
            Target::Me | Target::Settings | Target::Token | Target::Unknown => "",
        }
    }

    /// The limit of its own that a request counts against.
    fn limit<'w>(&self, world: &'w World) -> Option<&'w str> {
        match self {
            Target::List { table, .. } => world.tables[*table]
                .list
                .as_ref()?
                .limit
                .as_deref()
                .filter(|limit| *limit != "export"),
            Target::Audits { .. } => Some("ticket_audits"),
            Target::Search => Some("search_export"),
            _ => None,
        }
    }
}

/// Refuses what the plan doesn't have and what the credentials may not read.
fn allow(service: &Service, path: &str, target: &Target) -> Result<(), Response> {
    let account = &service.simulation.zendesk;
    if is_help_center(path) && !account.help_center {
        return Err(no_help_center());
    }
    let list = match target {
        Target::List { table, .. } => service.world.tables[*table].list.as_ref(),
        _ => None,
    };
    let is_paid = list
        .and_then(|list| list.plan)
        .is_none_or(|plan| plan.is_in(account.plan));
    if !is_paid
        || account
            .forbidden
            .iter()
            .any(|name| name == target.name(&service.world))
    {
        return Err(forbidden(list.is_some_and(|list| list.empty_403)));
    }
    Ok(())
}

/// Turns every so many requests away, as under load.
fn relieve(service: &Service) -> Result<(), Response> {
    let every = service.simulation.zendesk.backpressure_every;
    let mut state = service.state();
    state.relieved += 1;
    if every > 0 && state.relieved.is_multiple_of(every) {
        Err(backpressure())
    } else {
        Ok(())
    }
}

fn route(
    service: &Service,
    path: &str,
    target: Target,
    query: &Query,
) -> Result<Response, Response> {
    let world = &*service.world;
    match target {
        Target::List { table, owner } => {
            if world.tables[table].name == "brands" && !service.simulation.zendesk.brands.is_empty() {
                return Ok(brands::list(service, table));
            }
            let owner = owner.map(|id| owner_of(service, table, &id, path)).transpose()?;
            if owner.is_some_and(|owner| !brands::shows(service, query, owner)) {
                return Err(not_found());
            }
            match world.tables[table].list.as_ref().map(|list| list.pages) {
                Some(Pages::Export) => exports::by_cursor(service, table, owner.map(|owner| owner.index), query),
                Some(Pages::Time | Pages::TimeUntold) => exports::by_time(service, table, query),
                Some(Pages::Feed) => exports::feed(service, table, query),
                _ => lists::list(service, table, owner, query),
            }
        }
        Target::TicketEvents => exports::ticket_events(service, query),
        Target::Audits { ticket } => tickets::audits(service, tickets::find(service, &ticket)?, query),
        Target::Comments { ticket } => tickets::comments(service, tickets::find(service, &ticket)?, query),
        Target::Search => tickets::search(service, query),
        Target::Definitions => Ok(definitions()),
        Target::Me => Ok(me(world)),
        Target::Settings => Ok(axum::Json(json!({ "settings": { "active_features": {} } })).into_response()),
        Target::Token => {
            Ok(axum::Json(json!({ "token": { "id": 1, "scopes": ["read"], "expires_at": null, "user_id": 26_000_000_000_000_u64 } }))
                .into_response())
        }
        Target::Unknown => Err(unknown()),
    }
}

/// The record that a list belongs to.
fn owner_of(service: &Service, table: usize, id: &str, path: &str) -> Result<Row, Response> {
    let world = &*service.world;
    if path.starts_with("tickets/") && world.tables[table].name != "side_conversation_events" {
        let index = tickets::find(service, id)?;
        return Ok(Row {
            table: world.table("tickets"),
            index,
        });
    }
    let owner = world.tables[table]
        .parent
        .map(|(owner, ..)| owner)
        .or_else(|| world.tables[table].like_table());
    let owner = owner.ok_or_else(not_found)?;
    let index = world.tables[owner].index(id);
    index
        .map(|index| Row {
            table: owner,
            index,
        })
        .filter(|row| world.exists(*row))
        .ok_or_else(not_found)
}

fn is_help_center(path: &str) -> bool {
    path.starts_with("help_center/") || path.starts_with("community/")
}

/// Every request counts against the account, the Help Center's against a budget of their own; all
/// exports together have a budget besides, and so have some lists.
fn admit(service: &Service, path: &str, target: &Target) -> Result<ZendeskBudgets, Response> {
    let endpoint = target.limit(&service.world);
    let call = ZendeskCall {
        help_center: is_help_center(path),
        export: path.starts_with("incremental/"),
        endpoint,
    };
    let operation = operation(service, path, target);
    let admitted = service.admit(Vendor::Zendesk, &operation, |gate, now| {
        gate.zendesk(call, now)
    });
    admitted.map_err(|(budgets, wait)| {
        let mut response = match (budgets.account.remaining, call.export) {
            (0, _) => account_limited(),
            (_, true) => export_limited(),
            (_, false) => list_limited(),
        };
        announce(path, &budgets, &mut response);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        response
    })
}

/// The route, with braces where ids are.
fn operation(service: &Service, path: &str, target: &Target) -> String {
    let route = match target {
        Target::List { table, .. } => service.world.tables[*table]
            .list
            .as_ref()
            .map_or(path, |list| &list.path),
        Target::Audits { .. } => "tickets/{id}/audits",
        Target::Comments { .. } => "tickets/{id}/comments",
        _ => path,
    };
    format!("GET /api/v2/{route}")
}

/// No header shows the export budget: these are the account's numbers on every answer, in one of
/// the spellings in use. The Help Center doesn't tell when its minute ends.
fn announce(path: &str, budgets: &ZendeskBudgets, response: &mut Response) {
    let headers = response.headers_mut();
    let Budget {
        limit,
        remaining,
        reset,
    } = budgets.account;
    headers.insert("x-rate-limit", HeaderValue::from(limit));
    headers.insert("x-rate-limit-remaining", HeaderValue::from(remaining));
    if !is_help_center(path) {
        // The older spelling is as common as the newer one.
        let is_older = path.len() % 3 == 1;
        let names = if is_older {
            ["rate-limit", "rate-limit-remaining", "rate-limit-reset"]
        } else {
            ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]
        };
        for (name, value) in
            names
                .into_iter()
                .zip([u64::from(limit), u64::from(remaining), whole_seconds(reset)])
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
    // The only counter of a list that was ever seen in a header.
    if let Some((name, budget)) = budgets
        .endpoint
        .as_ref()
        .filter(|(name, _)| name == "tags_index")
    {
        let name = format!("zendesk-ratelimit-{}", name.replace('_', "-"));
        let value = format!(
            "total={}; remaining={}; resets={}",
            budget.limit,
            budget.remaining,
            whole_seconds(budget.reset)
        );
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

/// The first user, who is the administrator that the credentials belong to.
fn me(world: &World) -> Response {
    let mut text = Vec::new();
    world.write(
        Row {
            table: world.table("users"),
            index: 0,
        },
        &[],
        &mut text,
    );
    let mut user: Value = serde_json::from_slice(&text).unwrap_or_default();
    user["role"] = Value::from("admin");
    axum::Json(json!({ "user": user })).into_response()
}

fn definitions() -> Response {
    let definition = |subject: &str| json!({ "title": subject, "subject": subject, "type": "list", "group": "ticket", "nullable": true, "repeatable": false, "operators": [], "values": [] });
    let all = [definition("status"), definition("priority")];
    axum::Json(json!({ "definitions": { "conditions_all": all, "conditions_any": [definition("status")] } })).into_response()
}
