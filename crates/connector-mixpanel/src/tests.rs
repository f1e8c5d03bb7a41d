//! The pure rules: what answers mean, what lines mean, how a scan is walked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use pipeline_core::http::{Answer, Classifier, HeaderMap, HeaderName, Method, Request, StatusCode};
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{RawRecord, RecordPath, split};

use crate::classify::MixpanelClassifier;
use crate::line;
use crate::profiles::{SessionPages, profile};

fn request(path: &str) -> Request {
    Request::new(Method::POST, format!("https://mixpanel.com{path}").parse().unwrap())
}

fn classify(path: &str, status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let headers: HeaderMap = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
    let request = request(path);
    let status = StatusCode::from_u16(status).unwrap();
    let answer = Answer { request: &request, status, headers: &headers, body: body.as_bytes() };
    let action = MixpanelClassifier.classify(&answer);
    let shown: String = body.chars().take(60).collect();
    format!("{status} {path} {shown}\n    {}", action.map_or("default".to_owned(), |action| format!("{action:?}")))
}

#[test]
fn answers_mean_what_their_text_says() {
    const EXPORT: &str = "/api/2.0/export";
    const QUERY: &str = "/api/query/engage";
    let tripped =
        |item| [("ratelimit-policy", r#""project";q=60;w=3600, "project-concurrency";q=5;qu="concurrent-requests""#), ("ratelimit", item)];
    let table = [
        classify(EXPORT, 400, &[], r#"{"error": "to_date cannot be later than today"}"#),
        classify(EXPORT, 400, &[], "Unable to authenticate request"),
        classify(EXPORT, 400, &[], r#"{"request": "/api/2.0/export", "error": "Timeout Error."}"#),
        classify(EXPORT, 400, &[], r#"{"error": "bad where"}"#),
        classify(QUERY, 400, &[], "request for page in uncached query for params"),
        classify(QUERY, 401, &[], ""),
        classify(QUERY, 402, &[], r#"{"error": "Your plan does not allow API calls"}"#),
        classify(QUERY, 403, &[], r#"{"error": "no role"}"#),
        classify(EXPORT, 403, &[], "Date range exceeds 90 days into the past"),
        classify(QUERY, 404, &[], ""),
        classify(QUERY, 429, &tripped(r#""project";r=0;t=3600, "project-concurrency";r=3"#), "Query rate limit exceeded 61/60"),
        classify(QUERY, 429, &tripped(r#""project";r=12, "project-concurrency";r=0;t=10"#), "Query rate limit exceeded 6/5"),
        classify(QUERY, 429, &[], "Query rate limit exceeded"),
        classify(EXPORT, 429, &[("retry-after", "60")], ""),
        classify(QUERY, 500, &[], "<html>"),
        classify(QUERY, 200, &[], r#"{"status": "ok", "results": []}"#),
        classify(QUERY, 200, &[], "[]"),
        classify(QUERY, 200, &[], r#"{"status": "error", "error": "Timeout Error."}"#),
        classify(QUERY, 200, &[], r#"{"status": "error", "error": "something else"}"#),
        classify(QUERY, 200, &[], r#"{"error": {"code": 1}}"#),
        classify(EXPORT, 200, &[], r#"{"error": "judged line by line"}"#),
    ];
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_line_is_an_event_or_the_export_is_broken() {
    let lines: [&[u8]; 14] = [
        br#"{"event":"A","properties":{"time":1}}"#,
        "{\"event\":\"A\",\"properties\":{\"note\":\"x\u{2028}y\u{85}z\\u000b\"}}".as_bytes(),
        b"{\"event\":\"A\",\"properties\":{\"cut\":\"\xe2\x82\"}}",
        br#"{"event":"terminated early","properties":{}}"#,
        b"terminated early",
        b"Export terminated early",
        br#"{"error":"#,
        br#"{"error":"Timeout Error."}"#,
        br#"{"event":"A"}"#,
        br#"{"event":7,"properties":{}}"#,
        br#"{"event":"A","properties":[]}"#,
        br#"{"event":"A","properties":{"n":NaN}}"#,
        b"[]",
        b"internal error",
    ];
    let verdict = |line: &&[u8]| {
        let verdict = line::check(line)
            .map_or_else(|error| format!("{} (temporary: {})", error.message(), error.is_temporary()), |()| "ok".to_owned());
        format!("{}: {verdict}", String::from_utf8_lossy(line).escape_default())
    };
    insta::assert_snapshot!(lines.iter().map(verdict).collect::<Vec<_>>().join("\n"));
}

fn event(properties: &str) -> RawRecord {
    line::event(&RawRecord::upsert(format!(r#"{{"event":"Buy","properties":{{{properties}}}}}"#))).unwrap()
}

#[test]
fn an_event_is_lifted_out_of_its_line() {
    let lines = [
        r#"{"event":"Buy","properties":{"time":1763630101123,"distinct_id":"u-17","$insert_id":"ab","mp_processing_time_ms":1763630102337,"big":2033513821949367296}}"#,
        r#"{"event":"Buy","properties":{"time":1763630101,"distinct_id":42,"$insert_id":""},"dataset":"old","time":5}"#,
        "{\"event\":\"B\u{2028}\",\"properties\":{\"time\":1763630101.5,\"distinct_id\":true,\"properties\":\"mine\"}}",
        r#"{"event":"Buy","properties":{}}"#,
        r#"{"event":"Buy","properties":{"distinct_id":{"odd":1},"time":"soon"}}"#,
    ];
    let shown = lines.map(|line| format!("{:?}", line::event(&RawRecord::upsert(line)).unwrap()));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_property_cut_within_a_character_costs_that_character_only() {
    let record = line::event(&RawRecord::upsert(&b"{\"event\":\"A\",\"properties\":{\"cut\":\"ab\xe2\x82\"}}"[..])).unwrap();
    assert_eq!(record.member("properties"), Some("{\"cut\":\"ab\u{fffd}\"}"));
}

#[test]
fn an_event_keeps_its_key_when_it_is_exported_again() {
    let key = |properties: &str| event(properties).scalar("event_key").unwrap();
    let same = [
        (r#""time":1763630101123,"distinct_id":"A","$insert_id":"i""#, r#""time":1763630101,"distinct_id":"A","$insert_id":"i""#),
        (
            r#""time":1,"distinct_id":"A","$insert_id":"i""#,
            r#""time":1,"distinct_id":"U","$insert_id":"i","$distinct_id_before_identity":"A","$is_reshuffled":true"#,
        ),
        (r#""time":1,"distinct_id":"A","$insert_id":"i","p":1"#, r#""time":1,"distinct_id":"A","$insert_id":"i","p":2"#),
        (
            r#""time":1,"distinct_id":"A","p":1,"mp_processing_time_ms":5"#,
            r#""p":1,"time":1,"distinct_id":"U","mp_processing_time_ms":9,"$distinct_id_before_identity":"A""#,
        ),
    ];
    for (before, after) in same {
        assert_eq!(key(before), key(after), "{before} and {after}");
    }
    let different = [
        (r#""time":1,"distinct_id":"A","$insert_id":"i""#, r#""time":1,"distinct_id":"A","$insert_id":"j""#),
        (r#""time":1,"distinct_id":"A","$insert_id":"i""#, r#""time":2,"distinct_id":"A","$insert_id":"i""#),
        (r#""time":1,"distinct_id":"A","$insert_id":"i""#, r#""time":1,"distinct_id":"B","$insert_id":"i""#),
        (r#""time":1,"distinct_id":"Ai""#, r#""time":1,"distinct_id":"A","$insert_id":"i""#),
        (r#""time":1,"distinct_id":"A","p":1"#, r#""time":1,"distinct_id":"A","p":2"#),
    ];
    for (one, other) in different {
        assert_ne!(key(one), key(other), "{one} and {other}");
    }
    assert_eq!(key(r#""time":1"#).len(), 32);
}

#[test]
fn a_profile_is_lifted_out_of_its_envelope() {
    let profiles = [
        r#"{"$distinct_id":"u-17","$properties":{"$email":"a@x.test","$last_seen":"2026-11-20T09:15:02","name":"own","$name":"Ana"}}"#,
        r#"{"$distinct_id":9007199254740993,"$properties":{}}"#,
    ];
    let shown = profiles.map(|json| format!("{:?}", profile(&RawRecord::upsert(json)).unwrap()));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_scan_ends_when_the_page_and_the_total_agree() {
    let advance = |at: &Position, body: &'static str| {
        let split = split(&Bytes::from(body), &[RecordPath::new("results")]).unwrap();
        let request = request("/api/query/engage");
        let view = PageView { request: &request, headers: &HeaderMap::new(), envelope: &split.envelope, records: &split.records[0] };
        format!("{:?}", SessionPages.advance(at, &view))
    };
    let second = Position::At("1 5 s 1".to_owned());
    let unknown = Position::At("1 - s".to_owned());
    let table = [
        advance(&Position::Start, r#"{"page_size":2,"session_id":"s 1","total":5,"results":[{},{}]}"#),
        advance(&Position::Start, r#"{"page_size":2,"session_id":"s","total":0,"results":[]}"#),
        advance(&Position::Start, r#"{"page_size":2,"session_id":"s","results":[{},{}]}"#),
        advance(&second, r#"{"page_size":2,"session_id":"s 1","results":[{},{}]}"#),
        advance(&second, r#"{"page_size":2,"session_id":"s 1","results":[{}]}"#),
        advance(&second, r#"{"page_size":2,"session_id":"s 1","results":[]}"#),
        advance(&Position::At("2 5 s 1".to_owned()), r#"{"page_size":2,"session_id":"s 1","results":[{}]}"#),
        advance(&Position::At("2 6 s".to_owned()), r#"{"page_size":2,"session_id":"s","results":[{},{}]}"#),
        advance(&Position::At("3 6 s".to_owned()), r#"{"page_size":2,"session_id":"s","results":[]}"#),
        advance(&unknown, r#"{"page_size":2,"session_id":"s","results":[{}]}"#),
        advance(&unknown, r#"{"session_id":"s","results":[{}]}"#),
        advance(&unknown, r#"{"page_size":1,"results":[{}]}"#),
    ];
    insta::assert_snapshot!(table.join("\n"));
}
