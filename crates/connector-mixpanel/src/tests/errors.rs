//! What answers mean.

use pipeline_core::http::{Classifier, HeaderMap, HeaderName, ResponseView, StatusCode};

use super::request;
use crate::errors::MixpanelClassifier;

fn classify(path: &str, status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    let request = request(path);
    let status = StatusCode::from_u16(status).unwrap();
    let answer = ResponseView {
        request: &request,
        status,
        headers: &headers,
        body: body.as_bytes(),
    };
    let action = MixpanelClassifier.classify(&answer);
    let shown: String = body.chars().take(60).collect();
    format!(
        "{status} {path} {shown}\n    {}",
        action.map_or("default".to_owned(), |action| format!("{action:?}"))
    )
}

#[test]
fn answers_mean_what_their_text_says() {
    const EXPORT: &str = "/api/2.0/export";
    const QUERY: &str = "/api/query/engage";
    let tripped = |item| {
        [
            (
                "ratelimit-policy",
                r#""project";q=60;w=3600, "project-concurrency";q=5;qu="concurrent-requests""#,
            ),
            ("ratelimit", item),
        ]
    };
    let table = [
        classify(
            EXPORT,
            400,
            &[],
            r#"{"error": "to_date cannot be later than today"}"#,
        ),
        classify(EXPORT, 400, &[], "Unable to authenticate request"),
        classify(
            EXPORT,
            400,
            &[],
            r#"{"request": "/api/2.0/export", "error": "Timeout Error."}"#,
        ),
        classify(EXPORT, 400, &[], r#"{"error": "bad where"}"#),
        classify(
            QUERY,
            400,
            &[],
            "request for page in uncached query for params",
        ),
        classify(QUERY, 401, &[], ""),
        classify(
            QUERY,
            402,
            &[],
            r#"{"error": "Your plan does not allow API calls"}"#,
        ),
        classify(QUERY, 403, &[], r#"{"error": "no role"}"#),
        classify(EXPORT, 403, &[], "Date range exceeds 90 days into the past"),
        classify(
            QUERY,
            400,
            &[],
            r#"{"error": "Date range exceeds 90 days into the past"}"#,
        ),
        classify(QUERY, 404, &[], ""),
        classify(
            QUERY,
            429,
            &tripped(r#""project";r=0;t=3600, "project-concurrency";r=3"#),
            "Query rate limit exceeded 61/60",
        ),
        classify(
            QUERY,
            429,
            &tripped(r#""project";r=12, "project-concurrency";r=0;t=10"#),
            "Query rate limit exceeded 6/5",
        ),
        classify(QUERY, 429, &[], "Query rate limit exceeded"),
        classify(EXPORT, 429, &[("retry-after", "60")], ""),
        classify(QUERY, 500, &[], "<html>"),
        classify(QUERY, 200, &[], r#"{"status": "ok", "results": []}"#),
        classify(QUERY, 200, &[], "[]"),
        classify(
            QUERY,
            200,
            &[],
            r#"{"status": "error", "error": "Timeout Error."}"#,
        ),
        classify(
            QUERY,
            200,
            &[],
            r#"{"status": "error", "error": "something else"}"#,
        ),
        classify(QUERY, 200, &[], r#"{"error": {"code": 1}}"#),
        classify(EXPORT, 200, &[], r#"{"error": "judged line by line"}"#),
    ];
    insta::assert_snapshot!(table.join("\n"));
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
            "an error of Mixpanel's",
            r#"{"error":"There was a problem.","status":"error"}"#,
        ),
    ];
    let build = |context: &pipeline_core::BuildContext, base| {
        let key = pipeline_core::http::Bearer::new("key-0123456789".into());
        pipeline_core::http::HttpClient::builder(context, base)
            .authenticator(key)
            .classifier(MixpanelClassifier)
    };
    insta::assert_snapshot!(
        pipeline_testkit::every_status(build, "/api/query/cohorts/list?project_id=7", &bodies)
            .await
    );
}
