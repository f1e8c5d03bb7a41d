//! Mixpanel: the Query API's profiles and cohorts, the App API's `me`, and what the raw export
//! shares with them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query as Pairs, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::limits::{Budget, whole_seconds};
use crate::server::Service;
use crate::world::{Row, World, draw};
use crate::{Vendor, mixpanel_answers};

/// Profiles on a page unless asked otherwise, and at most.
const PROFILES: u64 = 1000;

/// Parameters by name.
pub(crate) type Parameters = HashMap<String, String>;

/// `/api/query/...`: parameters come in the URL, as a form or as JSON; the body wins.
pub(crate) async fn query(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    Pairs(mut query): Pairs<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    query.extend(parameters(&body));
    let answer = authenticate(&service, &query, &headers).and_then(|()| match path.as_str() {
        "engage" => engage(&service, &query),
        "cohorts/list" => cohorts(&service),
        path => counted(&service, &format!("GET /api/query/{path}"))
            .and_then(|()| mixpanel_answers::query(&service, path, &query)),
    });
    answer.unwrap_or_else(|refused| refused)
}

/// A body is a JSON object or a form, whatever its declared type.
pub(crate) fn parameters(body: &[u8]) -> Parameters {
    if let Ok(Value::Object(members)) = serde_json::from_slice(body) {
        let text = |value: Value| {
            if let Value::String(text) = value {
                text
            } else {
                value.to_string()
            }
        };
        return members
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect();
    }
    let uri = format!("/?{}", String::from_utf8_lossy(body))
        .parse()
        .unwrap_or_default();
    Pairs::try_from_uri(&uri)
        .map(|Pairs(pairs)| pairs)
        .unwrap_or_default()
}

fn engage(service: &Service, query: &Parameters) -> Result<Response, Response> {
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
    let (page, size) = (
        number("page").unwrap_or(0),
        number("page_size").unwrap_or(PROFILES).clamp(1, PROFILES),
    );
    let session = query
        .get("session_id")
        .filter(|session| !session.is_empty());
    let session = match session {
        // Pages of an open session aren't counted.
        Some(session) if known(service, session) => session.clone(),
        None if page == 0 => {
            counted(service, "POST /api/query/engage")?;
            let mut state = service.state();
            state.sessions += 1;
            format!("{}-{}", service.simulation.until, state.sessions)
        }
        _ => {
            return Err(error(
                StatusCode::BAD_REQUEST,
                "request for page in uncached query for params",
            ));
        }
    };
    let world = &*service.world;
    let table = world.table("engage");
    let members = members(world, table, query)?;
    let total = members.len() as u64;
    let skipped = usize::try_from(page.saturating_mul(size)).unwrap_or(usize::MAX);
    let indexes: Vec<u64> = members
        .into_iter()
        .skip(skipped)
        .take(usize::try_from(size).unwrap_or(0))
        .collect();
    let mut body = b"{\"results\":[".to_vec();
    world.write_all(table, &indexes, &[], &mut body);
    let mut tail =
        json!({ "page": page, "page_size": size, "session_id": session, "status": "ok" });
    if page == 0 {
        tail["total"] = Value::from(total);
    }
    body.extend_from_slice(b"],");
    body.extend_from_slice(tail.to_string().trim_start_matches('{').as_bytes());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The profiles that are asked for: all, or a fourth of them for each cohort.
fn members(world: &World, table: usize, query: &Parameters) -> Result<Vec<u64>, Response> {
    let all = 0..world.tables[table].count();
    let Some(filter) = query.get("filter_by_cohort") else {
        return Ok(all.collect());
    };
    let cohort = serde_json::from_str::<Value>(filter)
        .ok()
        .and_then(|filter| filter["id"].as_u64());
    let cohort = cohort.ok_or_else(|| {
        error(
            StatusCode::BAD_REQUEST,
            "filter_by_cohort must be a JSON object with an id",
        )
    })?;
    Ok(all
        .filter(|index| {
            draw(
                world.key(Row {
                    table,
                    index: *index,
                }),
                cohort,
            )
            .is_multiple_of(4)
        })
        .collect())
}

/// Whether a session was opened here.
fn known(service: &Service, session: &str) -> bool {
    let number = session
        .strip_prefix(&format!("{}-", service.simulation.until))
        .and_then(|text| text.parse::<u64>().ok());
    number.is_some_and(|number| (1..=service.state().sessions).contains(&number))
}

/// An array without an envelope.
fn cohorts(service: &Service) -> Result<Response, Response> {
    counted(service, "POST /api/query/cohorts/list")?;
    let world = &*service.world;
    let table = world.table("cohorts");
    let indexes: Vec<u64> = (0..world.tables[table].count()).collect();
    let mut body = b"[".to_vec();
    world.write_all(table, &indexes, &[], &mut body);
    body.push(b']');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /api/app/me`: what the account may see. It costs no Query budget.
pub(crate) async fn me(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    if !is_authentic(&service, &headers) {
        return invalid_credentials();
    }
    let project = service.simulation.mixpanel.project_id.to_string();
    let organization = json!({ "id": 1, "name": "Simulated" });
    let entry = json!({
        "name": "Simulated Shop", "organization_id": 1, "timezone": service.world.history.zone(), "domain": "mixpanel.com",
        "has_workspaces": false, "type": "PROJECT",
    });
    let results = json!({ "organizations": { "1": organization }, "projects": { project: entry }, "workspaces": {} });
    axum::Json(json!({ "status": "ok", "results": results })).into_response()
}

/// Takes one request from the hour's quota.
fn counted(service: &Service, operation: &str) -> Result<(), Response> {
    let admitted = service.admit(
        Vendor::Mixpanel,
        operation,
        crate::limits::Gate::mixpanel_query,
    );
    admitted.map_err(|budget| quota_exceeded(service, operation, budget))
}

fn quota_exceeded(service: &Service, operation: &str, budget: Budget) -> Response {
    let (limit, wait) = (budget.limit, whole_seconds(budget.reset));
    let project = service.simulation.mixpanel.project_id;
    let text = format!(
        "Query rate limit exceeded for project {project}: {}/{limit} queries per hour",
        limit + 1
    );
    let request = operation.trim_start_matches("POST ");
    let body = json!({ "request": format!("{request}?project_id={project}"), "error": text });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, axum::Json(body)).into_response();
    rate_headers(
        service,
        &mut response,
        &format!("\"project\";r=0;t={wait}"),
        wait,
    );
    response
}

/// Says what the project's limits are, and what is left of them.
pub(crate) fn rate_headers(service: &Service, response: &mut Response, left: &str, wait: u64) {
    let limits = service.simulation.limits;
    let hour = limits
        .mixpanel_query_hour
        .map(|limit| format!("\"project\";q={limit};w=3600"));
    let at_once = limits
        .mixpanel_queries_at_once
        .map(|limit| format!("\"project-concurrency\";q={limit};qu=\"concurrent-requests\""));
    let policy = hour
        .into_iter()
        .chain(at_once)
        .collect::<Vec<_>>()
        .join(", ");
    for (name, value) in [
        ("ratelimit-policy", policy),
        ("ratelimit", left.to_owned()),
        ("retry-after", wait.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Whether the credentials are those of the service account.
pub(crate) fn is_authentic(service: &Service, headers: &HeaderMap) -> bool {
    let project = &service.simulation.mixpanel;
    let expected = format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", project.username, project.secret))
    );
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

/// A service account has to name the project with every request but `me`.
pub(crate) fn authenticate(
    service: &Service,
    query: &Parameters,
    headers: &HeaderMap,
) -> Result<(), Response> {
    if !is_authentic(service, headers) {
        return Err(invalid_credentials());
    }
    match query.get("project_id") {
        Some(id) if *id == service.simulation.mixpanel.project_id.to_string() => Ok(()),
        Some(_) => Err(error(StatusCode::NOT_FOUND, "project not found")),
        None => Err(error(
            StatusCode::BAD_REQUEST,
            "project_id is required for service accounts",
        )),
    }
}

/// 401 to wrong, revoked or expired credentials.
pub(crate) fn invalid_credentials() -> Response {
    error(StatusCode::UNAUTHORIZED, "Unable to authenticate request")
}

/// 429 of the raw export, whose body isn't documented beyond the status.
pub(crate) fn throttled(retry_after: u64) -> Response {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded");
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// The usual error body.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    (
        status,
        axum::Json(json!({ "error": text, "status": "error" })),
    )
        .into_response()
}
