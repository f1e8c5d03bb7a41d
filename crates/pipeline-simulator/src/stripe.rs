//! Stripe: `/v1/...`.

use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Vendor;
use crate::server::{Service, accepts_gzip};
use crate::stripe_query::{Query, Refusal, missing};
use crate::template::dedent;
use crate::world::{Row, Table, draw};

/// The version that answers carry when the request pins none.
const VERSION: &str = "2026-05-27.dahlia";

/// What a path names.
#[derive(Clone, Copy)]
enum Route<'a> {
    List(usize),
    Retrieve(usize, &'a str),
    Account(usize),
}

/// Answers any request under `/v1/`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    uri: Uri,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let mut response =
        answer(&service, uri.path(), &pairs, &headers).unwrap_or_else(|refused| refused);
    let request_id = format!("req_{:014x}", draw(service.state().stats.requests, 0) >> 8);
    let version = headers
        .get("stripe-version")
        .cloned()
        .unwrap_or(HeaderValue::from_static(VERSION));
    response.headers_mut().insert("stripe-version", version);
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert("request-id", request_id);
    }
    response
}

/// Both sides of the result are answers; the error is one that cuts the work short.
fn answer(
    service: &Service,
    path: &str,
    pairs: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response, Response> {
    authenticate(service, headers)?;
    if let Some(mut book) = service.book() {
        return crate::book::answer(service, &mut book, path, pairs, headers);
    }
    let is_computed = |route: &Route<'_>| match route {
        Route::List(table) => {
            service
                .lists()
                .is_of_all(&service.world.tables[*table].name, path, pairs)
        }
        Route::Retrieve(..) | Route::Account(_) => true,
    };
    let Some(route) = route(service, path).filter(is_computed) else {
        // A list that no object of the computed ones has an entry of.
        return crate::book::answer(service, &mut service.lists(), path, pairs, headers);
    };
    let world = &service.world;
    let (Route::List(ordinal) | Route::Retrieve(ordinal, _) | Route::Account(ordinal)) = route;
    let table = &world.tables[ordinal];
    let operation = match route {
        Route::Retrieve(..) => format!("GET {}/{{id}}", table.path),
        Route::List(_) | Route::Account(_) => format!("GET {}", table.path),
    };
    let admitted = service.admit(Vendor::Stripe, &operation, |gate, now| {
        gate.stripe(&operation, now)
    });
    admitted.map_err(|reason| rate_limited(Some(reason)))?;
    // Permission is checked before existence.
    permitted(service, &table.name, &table.path)?;
    match route {
        Route::List(_) => list(service, ordinal, pairs, headers).map_err(refused),
        Route::Account(_) => Ok(object(
            service,
            Row {
                table: ordinal,
                index: 0,
            },
            &[],
        )),
        Route::Retrieve(_, id) => {
            let index = table.index(id).ok_or_else(|| not_found(table, id))?;
            let expand: Vec<&str> = pairs
                .iter()
                .filter(|(name, _)| name.starts_with("expand"))
                .map(|(_, value)| value.as_str())
                .collect();
            Ok(object(
                service,
                Row {
                    table: ordinal,
                    index,
                },
                &expand,
            ))
        }
    }
}

fn route<'a>(service: &Service, path: &'a str) -> Option<Route<'a>> {
    let listed = |path: &str| {
        service
            .world
            .tables
            .iter()
            .position(|table| table.path == path)
    };
    match listed(path) {
        Some(table) if path == "/v1/account" => Some(Route::Account(table)),
        Some(table) => Some(Route::List(table)),
        None => {
            let (parent, id) = path.rsplit_once('/')?;
            Some(Route::Retrieve(
                listed(parent).filter(|_| parent != "/v1/account")?,
                id,
            ))
        }
    }
}

fn list(
    service: &Service,
    ordinal: usize,
    pairs: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let (world, table) = (&*service.world, &service.world.tables[ordinal]);
    let query = Query::parse(pairs, world, table)?;
    let page = query.page(world, ordinal)?;
    let expand: Vec<&str> = query.expand.iter().map(String::as_str).collect();
    let Table { path, .. } = table;
    let head = format!(
        "{{\n  \"object\": \"list\",\n  \"url\": \"{path}\",\n  \"has_more\": {},\n  \"data\": [",
        page.has_more
    );
    if let Some(written) = service.written.as_ref().filter(|_| accepts_gzip(headers)) {
        let page = written.page(
            ordinal,
            &page.indexes,
            &query.expand,
            format!("{head}\n    ").as_bytes(),
            b"\n  ]\n}\n",
        );
        if let Some(page) = page {
            let mut response = json_body(StatusCode::OK, page);
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            return Ok(response);
        }
    }
    let mut body = Vec::with_capacity(page.indexes.len() * 4096 + 256);
    body.extend_from_slice(head.as_bytes());
    let written = service
        .written
        .as_ref()
        .and_then(|written| written.list(ordinal, &page.indexes, &query.expand));
    if let Some(records) = written {
        body.extend_from_slice(b"\n    ");
        body.extend_from_slice(records);
    } else {
        for (position, index) in page.indexes.iter().enumerate() {
            body.extend_from_slice(if position == 0 { b"\n    " } else { b",\n    " });
            world.write(
                Row {
                    table: ordinal,
                    index: *index,
                },
                &expand,
                &mut body,
            );
        }
    }
    body.extend_from_slice(if page.indexes.is_empty() {
        b"]\n}\n"
    } else {
        b"\n  ]\n}\n"
    });
    Ok(json_body(StatusCode::OK, body))
}

fn object(service: &Service, row: Row, expand: &[&str]) -> Response {
    let mut listed = Vec::with_capacity(4096);
    service.world.write(row, expand, &mut listed);
    let mut body = dedent(&listed);
    body.push(b'\n');
    json_body(StatusCode::OK, body)
}

/// The key comes as a bearer token or as the user name of Basic authentication.
fn authenticate(service: &Service, headers: &HeaderMap) -> Result<(), Response> {
    let header = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let key = if let Some(encoded) = header.strip_prefix("Basic ") {
        let text = STANDARD
            .decode(encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default();
        text.split(':').next().unwrap_or_default().to_owned()
    } else {
        header
            .strip_prefix("Bearer ")
            .unwrap_or_default()
            .to_owned()
    };
    if key.is_empty() {
        let message = "You did not provide an API key. You need to provide your API key in the \
                       Authorization header, using Bearer auth (e.g. 'Authorization: Bearer \
                       YOUR_SECRET_KEY').";
        return Err(error(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            message,
            None,
            None,
        ));
    }
    let expired = {
        let state = service.state();
        state
            .expiring
            .get(&key)
            .is_some_and(|from| state.stats.requests >= *from)
    };
    if expired {
        let message = "Expired API Key provided: sk_****";
        return Err(error(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            message,
            Some("api_key_expired"),
            None,
        ));
    }
    let stripe = &service.simulation.stripe;
    let mode = if stripe.live { "k_live_" } else { "k_test_" };
    if stripe.keys.contains(&key) && key.get(1..).is_some_and(|rest| rest.starts_with(mode)) {
        Ok(())
    } else {
        Err(invalid_key())
    }
}

pub(crate) fn permitted(service: &Service, name: &str, path: &str) -> Result<(), Response> {
    let stripe = &service.simulation.stripe;
    if service
        .state()
        .forbidden
        .iter()
        .any(|forbidden| forbidden == name)
    {
        let permission = name.trim_end_matches('s');
        let message = format!(
            "The provided key 'rk_***' does not have the required permissions for this endpoint. \
             Having the 'rak_{permission}_read' permission would allow this request to continue."
        );
        let code = Some("more_permissions_required");
        return Err(error(
            StatusCode::FORBIDDEN,
            "invalid_request_error",
            &message,
            code,
            None,
        ));
    }
    if stripe.live && path.starts_with("/v1/test_helpers/") {
        let message =
            "This endpoint is only available in testmode. Try using your test keys instead.";
        return Err(error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            message,
            None,
            None,
        ));
    }
    if stripe.not_enabled.iter().any(|missing| missing == name) {
        let product = if path.starts_with("/v1/issuing/") {
            "Issuing"
        } else {
            name
        };
        let message = format!("Your account is not set up to use {product}.");
        return Err(error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            &message,
            None,
            None,
        ));
    }
    Ok(())
}

pub(crate) fn refused(refusal: Refusal) -> Response {
    let Refusal {
        code,
        message,
        param,
    } = refusal;
    error(
        StatusCode::BAD_REQUEST,
        "invalid_request_error",
        &message,
        code,
        Some(&param),
    )
}

fn not_found(table: &Table, id: &str) -> Response {
    let message = missing(table, id);
    error(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        &message,
        Some("resource_missing"),
        Some("id"),
    )
}

pub(crate) fn unknown_url(path: &str) -> Response {
    let message = format!("Unrecognized request URL (GET: {path}).");
    error(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        &message,
        None,
        None,
    )
}

/// The answer to a key that isn't known or was revoked. Real answers show the ends of the key; this
/// one none of it.
pub(crate) fn invalid_key() -> Response {
    let message = "Invalid API Key provided: sk_****";
    error(
        StatusCode::UNAUTHORIZED,
        "invalid_request_error",
        message,
        None,
        None,
    )
}

/// 429. There is no `Retry-After`, and the reason may be absent.
pub(crate) fn rate_limited(reason: Option<&'static str>) -> Response {
    let message = "Request rate limit exceeded.";
    let code = Some("rate_limit");
    let mut response = error(
        StatusCode::TOO_MANY_REQUESTS,
        "invalid_request_error",
        message,
        code,
        None,
    );
    if let Some(reason) = reason {
        response.headers_mut().insert(
            "stripe-rate-limited-reason",
            HeaderValue::from_static(reason),
        );
    }
    response
}

/// The envelope of all errors of version 1 of the API.
pub(crate) fn error(
    status: StatusCode,
    kind: &str,
    message: &str,
    code: Option<&str>,
    param: Option<&str>,
) -> Response {
    let mut error = json!({ "message": message, "type": kind });
    if let Some(code) = code {
        error["code"] = Value::from(code);
        error["doc_url"] = Value::from(format!(
            "https://stripe.com/docs/error-codes/{}",
            code.replace('_', "-")
        ));
    }
    if let Some(param) = param {
        error["param"] = Value::from(param);
    }
    let body = serde_json::to_vec_pretty(&json!({ "error": error })).unwrap_or_default();
    json_body(status, body)
}

pub(crate) fn json_body(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
