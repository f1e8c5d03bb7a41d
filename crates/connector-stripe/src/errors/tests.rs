//! Every answer of the reference, and what it leads to.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use pipeline_core::http::{
    Classifier, HeaderMap, HeaderName, HeaderValue, Method, Request, ResponseView, StatusCode,
};

use url::Url;

use super::StripeAnswers;

/// What is done with an answer to a list of charges.
fn action(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> String {
    action_on("charges", status, headers, body)
}

/// What is done with an answer to the list at a path.
fn action_on(
    path: &str,
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: &str,
) -> String {
    let url: Url = format!("https://api.stripe.com/v1/{path}").parse().unwrap();
    let mut request = Request::new(Method::GET, url.clone());
    request.query = url.query_pairs().into_owned().collect();
    request.url.set_query(None);
    let pair = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    let headers: HeaderMap = headers.iter().map(pair).collect();
    let answer = ResponseView {
        request: &request,
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers,
        body: body.as_bytes(),
    };
    StripeAnswers
        .classify(&answer)
        .map_or("no opinion".to_owned(), |action| format!("{action:?}"))
}

fn error(code: &str, param: &str, message: &str) -> String {
    serde_json::json!({ "error": { "type": "invalid_request_error", "code": code, "param": param, "message": message } }).to_string()
}

/// Answers without headers of their own.
fn refusals() -> Vec<(&'static str, u16, String)> {
    let message = |message: &str| {
        serde_json::json!({ "error": { "type": "invalid_request_error", "message": message } })
            .to_string()
    };
    vec![
        ("a page", 200, r#"{"object":"list","data":[]}"#.to_owned()),
        (
            "cursor deleted",
            400,
            error(
                "resource_missing",
                "starting_after",
                "No such charge: 'ch_1'",
            ),
        ),
        (
            "cursor deleted, newer versions",
            404,
            error(
                "resource_missing",
                "starting_after",
                "No such charge: 'ch_1'",
            ),
        ),
        (
            "other object missing",
            404,
            error("resource_missing", "id", "No such charge: 'ch_1'"),
        ),
        (
            "other parameter names nothing",
            400,
            error("resource_missing", "customer", "No such customer: 'cus_1'"),
        ),
        (
            "unknown parameter",
            400,
            error(
                "parameter_unknown",
                "created",
                "Received unknown parameter: created",
            ),
        ),
        (
            "rate limit of old versions",
            400,
            error("rate_limit", "", "Too many requests"),
        ),
        (
            "product",
            400,
            message(
                "Your account is not set up to use Issuing. Please visit the dashboard to get started.",
            ),
        ),
        (
            "product, other words",
            400,
            message("Treasury is not enabled for this account."),
        ),
        (
            "wrong key",
            401,
            message("Invalid API Key provided: sk_test_*****4567"),
        ),
        (
            "expired key",
            401,
            error(
                "api_key_expired",
                "",
                "Expired API Key provided: rk_live_*****4567",
            ),
        ),
        (
            "permission as 401, unnamed",
            401,
            message("This API call cannot be made with this key: it lacks a permission."),
        ),
        (
            "permission as 401",
            401,
            message("This key lacks the permission 'rak_payout_read'."),
        ),
        (
            "permission",
            403,
            message(
                "The provided key 'rk_live_*****4567' does not have access. Having the 'rak_charge_read' permission would help.",
            ),
        ),
        (
            "platform control",
            403,
            message(
                "The key 'rk_live_*****4567' can't access account risk_acct; see its settings.",
            ),
        ),
        (
            "permission, newer words",
            403,
            message(
                "The provided key 'rk_live_*****4567' does not have the required permissions. Enabling \"Prices Read\" (`plan_read`) would.",
            ),
        ),
        (
            "product, unknown URL",
            400,
            message(
                "Unrecognized request URL (GET: /v1/x). (Hint: Have you onboarded to Treasury?)",
            ),
        ),
        (
            "product, unknown URL, newer versions",
            404,
            message("Unrecognized request URL (GET: /v1/x)."),
        ),
        (
            "mode",
            400,
            message(
                "This endpoint is only available in testmode. Try using your test keys instead.",
            ),
        ),
        (
            "missing without a code",
            404,
            message("No such charge: 'ch_1'"),
        ),
        (
            "parameter of ours",
            400,
            error("parameter_missing", "customer", "Must provide customer."),
        ),
        (
            "value of ours",
            400,
            error("parameter_invalid_integer", "limit", "Invalid integer: x"),
        ),
        (
            "expansion of ours",
            400,
            error(
                "",
                "expand[0]",
                "This property cannot be expanded (data.x).",
            ),
        ),
        ("unknown", 400, message("There was a problem.")),
        ("without a word", 400, message("")),
        (
            "an error in a success",
            200,
            message("There was a problem."),
        ),
        (
            "a page that holds errors",
            200,
            r#"{"object":"list","error":{"message":"no"},"data":[]}"#.to_owned(),
        ),
        ("a redirect", 302, String::new()),
        (
            "card",
            402,
            error("card_declined", "", "Your card was declined."),
        ),
        ("conflict", 409, error("", "", "Conflict")),
        (
            "dependency",
            424,
            error("", "", "External dependency failed"),
        ),
        (
            "lock",
            429,
            error(
                "lock_timeout",
                "",
                "This object cannot be accessed right now",
            ),
        ),
        (
            "too fast, unexplained",
            429,
            error("rate_limit", "", "Too many requests"),
        ),
        ("their fault", 500, error("", "", "Something went wrong")),
        ("proxy", 502, "<html>Bad gateway</html>".to_owned()),
        ("teapot", 418, String::new()),
        (
            "null members",
            400,
            r#"{"error":{"type":"invalid_request_error","code":null,"message":"No","param":null}}"#
                .to_owned(),
        ),
    ]
}

#[test]
fn every_answer_has_its_action() {
    let mut table = String::new();
    for (name, status, body) in refusals() {
        writeln!(table, "{status} {name}: {}", action(status, &[], &body)).unwrap();
    }
    for (path, status, param) in [
        ("invoices/in_1/lines", 404, "id"),
        ("accounts/acct_1/persons", 404, "account"),
        ("setup_attempts?setup_intent=seti_1", 400, "setup_intent"),
        ("subscription_items?subscription=sub_1", 404, "subscription"),
        ("invoices/in_1/lines", 400, "starting_after"),
        ("entitlements/active_entitlements?customer=cus_1", 404, "id"),
        ("charges?customer=cus_1", 404, "payment_intent"),
        ("charges/ch_1", 404, "id"),
    ] {
        let action = action_on(
            path,
            status,
            &[],
            &error("resource_missing", param, "No such object"),
        );
        writeln!(table, "{status} {path} without its `{param}`: {action}").unwrap();
    }
    for (path, code) in [
        ("customers/cus_1/tax_ids", "parameter_unknown"),
        ("customers/cus_1/tax_ids", "parameter_invalid_string_blank"),
        ("charges/ch_1", "url_invalid"),
        ("charges", "url_invalid"),
    ] {
        writeln!(
            table,
            "400 {path} {code}: {}",
            action_on(path, 400, &[], &error(code, "id", "No"))
        )
        .unwrap();
    }
    for path in [
        "charges",
        "customers/cus_1/sources",
        "subscription_items",
        "charges/ch_1",
        "nothing/known",
    ] {
        let headers = [("stripe-rate-limited-reason", "endpoint-concurrency")];
        writeln!(table, "429 {path}: {}", action_on(path, 429, &headers, "")).unwrap();
    }
    for reason in [
        "endpoint-rate",
        "endpoint-concurrency",
        "global-rate",
        "global-concurrency",
        "resource-specific",
    ] {
        let headers = [("stripe-rate-limited-reason", reason)];
        writeln!(
            table,
            "429 {reason}: {}",
            action(429, &headers, &error("rate_limit", "", "Too many requests"))
        )
        .unwrap();
    }
    for (status, should_retry) in [
        (500, "false"),
        (409, "false"),
        (429, "false"),
        (400, "true"),
        (401, "true"),
        (200, "false"),
    ] {
        writeln!(
            table,
            "{status} should retry {should_retry}: {}",
            action(status, &[("stripe-should-retry", should_retry)], "")
        )
        .unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn no_action_repeats_any_part_of_a_key() {
    for (name, status, body) in refusals() {
        let action = action(status, &[], &body);
        assert!(
            !action.contains("4567") && !action.contains("_live_"),
            "{name}: {action}"
        );
    }
}

/// Whatever the status: a run ends with what the vendor did, never with a defect of the program's.
#[tokio::test(start_paused = true)]
async fn a10_no_status_is_a_defect_of_the_program() {
    let bodies = [
        ("nothing", ""),
        ("an object", "{}"),
        ("a web page", "<html><title>Bad gateway</title></html>"),
        ("prose", "no"),
        (
            "an error of Stripe's",
            r#"{"error":{"type":"invalid_request_error","message":"There was a problem."}}"#,
        ),
    ];
    let build = |context: &pipeline_core::BuildContext, base| {
        let key = pipeline_core::http::Bearer::new("key-0123456789".into());
        pipeline_core::http::HttpClient::builder(context, base)
            .authenticator(key)
            .classifier(StripeAnswers)
    };
    insta::assert_snapshot!(
        pipeline_testkit::every_status(build, "/v1/charges?limit=100", &bodies).await
    );
}
