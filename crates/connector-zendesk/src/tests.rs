//! The pure rules: what answers mean, and how exports start and recover.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use chrono::{DateTime, Utc};
use pipeline_core::RawRecord;
use pipeline_core::http::{
    Classifier, HeaderMap, HeaderName, Method, Request, ResponseView, StatusCode,
};
use pipeline_core::paginate::Paginator;
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState};

use crate::errors::ZendeskClassifier;
use crate::events::rewritten_ticket;
use crate::pages::AnyPages;
use crate::slices::ExportStart;
use crate::transform::{lean_ticket, textual_id};
use crate::vendor::Pages;

fn request(path: &str) -> Request {
    let url: url::Url = format!("https://acme.zendesk.com{path}").parse().unwrap();
    let mut request = Request::new(Method::GET, url.clone());
    request.query = url.query_pairs().into_owned().collect();
    request.url.set_query(None);
    request
}

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
    let action = ZendeskClassifier.classify(&answer);
    let shown: String = body.chars().take(70).collect();
    format!(
        "{status} {path} {shown}\n    {}",
        action.map_or("default".to_owned(), |action| format!("{action:?}"))
    )
}

#[test]
fn answers_mean_what_their_text_says() {
    const EXPORT: &str = "/api/v2/incremental/tickets/cursor?cursor=abc";
    const START: &str = "/api/v2/incremental/tickets/cursor?start_time=1";
    const GROUPS: &str = "/api/v2/groups";
    let table = [
        classify(
            EXPORT,
            400,
            &[],
            r#"{"error":"InvalidPaginationParameter","description":"bad"}"#,
        ),
        classify(
            "/api/v2/groups?page[after]=x",
            400,
            &[],
            r#"{"error":{"title":"Bad request","message":"invalid cursor"}}"#,
        ),
        classify(START, 400, &[], r#"{"error":"InvalidPaginationParameter"}"#),
        classify(START, 400, &[], r#"{"error":"StartTimeTooRecent"}"#),
        classify(
            EXPORT,
            400,
            &[],
            r#"{"error":"InvalidValue","description":"per_page"}"#,
        ),
        classify(
            START,
            422,
            &[],
            r#"{"error":"InvalidValue","description":"Too recent start_time. Use a start_time older than 60 seconds"}"#,
        ),
        classify(GROUPS, 401, &[], r#"{"error":"Couldn't authenticate you"}"#),
        classify(
            GROUPS,
            401,
            &[],
            r#"{"error":"invalid_token","error_description":"expired"}"#,
        ),
        classify(
            START,
            403,
            &[],
            r#"{"error":{"title":"Forbidden","message":"You do not have access to this page."}}"#,
        ),
        classify(
            GROUPS,
            403,
            &[],
            r#"{"error":"Forbidden","description":"Missing the following required scopes: read"}"#,
        ),
        classify(GROUPS, 403, &[], ""),
        classify(
            GROUPS,
            404,
            &[],
            r#"{"error":"RecordNotFound","description":"Not found"}"#,
        ),
        classify(
            GROUPS,
            404,
            &[],
            "<!DOCTYPE html><title>The page you were looking for doesn't exist",
        ),
        classify("/api/v2/users/me", 404, &[], ""),
        classify(
            "/api/v2/tickets/5/audits",
            404,
            &[],
            r#"{"error":"RecordNotFound","description":"Not found"}"#,
        ),
        classify(
            "/api/v2/tickets/5/comments",
            404,
            &[],
            r#"{"error":"RecordNotFound","description":"Not found"}"#,
        ),
        classify(
            "/api/v2/tickets/5/side_conversations",
            404,
            &[],
            r#"{"error":"InvalidEndpoint","description":"Not found"}"#,
        ),
        classify(
            "/api/v2/tickets/5/side_conversations",
            422,
            &[],
            r#"{"description":"Side conversations are not supported on this ticket"}"#,
        ),
        classify(
            "/api/v2/tickets/5/audits",
            422,
            &[],
            r#"{"error":"cannot be computed"}"#,
        ),
        classify(GROUPS, 409, &[], ""),
        classify(
            START,
            429,
            &[("retry-after", "93")],
            r#"{"error":"APIRateLimitExceeded"}"#,
        ),
        classify(
            START,
            429,
            &[],
            "Number of allowed API requests per minute exceeded",
        ),
        classify(
            START,
            429,
            &[],
            r#"{"error":"APIRateLimitExceeded","description":"Number of allowed incremental export API requests per minute exceeded"}"#,
        ),
        classify(
            "/api/v2/help_center/sections",
            429,
            &[],
            "Number of allowed API requests per minute exceeded",
        ),
        classify(
            GROUPS,
            429,
            &[("retry-after", "5")],
            r#"{"title":"Automated response","detail":"Rate limited by Zendesk edge protection","status":"429"}"#,
        ),
        classify(
            GROUPS,
            400,
            &[],
            r#"{"error":"InvalidValue","description":"exclude_deleted is not known"}"#,
        ),
        classify(
            "/api/v2/queues",
            422,
            &[],
            r#"{"error":"UnprocessableEntity","description":"omnichannel routing is not enabled"}"#,
        ),
        classify(
            "/api/v2/queues?page[size]=100",
            400,
            &[],
            r#"{"error":"InvalidValue","description":"page[size] is not supported"}"#,
        ),
        classify(
            "/api/v2/channels/voice/stats/incremental/calls",
            429,
            &[],
            "Number of incremental export API requests exceeded",
        ),
        classify(START, 504, &[], "upstream request timeout"),
        classify(GROUPS, 200, &[], "{}"),
    ];
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn c22_an_export_starts_no_later_than_a_minute_ago() {
    let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
    let start = |range| {
        ExportStart::new()
            .plan(&EndpointState::default(), range, now)
            .pop()
            .unwrap()
            .query[0]
            .1
            .clone()
    };
    assert_eq!(start(TimeRange::all()), "0");
    assert_eq!(
        start(TimeRange::since(now)),
        (now.timestamp() - 61).to_string()
    );
}

#[test]
fn c16_a_refused_cursor_gives_way_to_its_second() {
    let export = AnyPages::new(Pages::CursorExport, std::time::Duration::ZERO);
    let recover = |cursor: &str| export.recover(&Position::At(format!("cursor={cursor}")));
    let at = |text: &str| Position::At(text.to_owned());
    // 1770000000.0||42| and 1770000000.0||42
    assert_eq!(
        recover("MTc3MDAwMDAwMC4wfHw0Mnw="),
        Some(at("start_time=1770000000"))
    );
    assert_eq!(
        recover("MTc3MDAwMDAwMC4wfHw0Mg"),
        Some(at("start_time=1770000000"))
    );
    assert_eq!(export.recover(&at("start_time=1770000000")), None);
    for lost in ["not base64!", "bm8gdGltZQ=="] {
        assert_eq!(recover(lost), None, "{lost}");
    }
}

#[test]
fn c16_a_refused_cursor_that_tells_nothing_gives_way_to_the_newest_time_read() {
    let watermark = "2026-11-01T00:00:00Z".parse().ok();
    let slice = SliceState {
        query: vec![("start_time".to_owned(), "5".to_owned())],
        position: Position::At("cursor=opaque".to_owned()),
        watermark,
        ..SliceState::default()
    };
    let restarted = ExportStart::new().restart(&slice).unwrap();
    assert_eq!(
        (restarted.query[0].1.as_str(), restarted.position),
        ("1793491200", Position::Start)
    );
    assert_eq!(ExportStart::new().restart(&SliceState::default()), None);
}

#[test]
fn c09_a_cursor_is_sent_without_the_start() {
    let export = AnyPages::new(Pages::CursorExport, std::time::Duration::ZERO);
    let mut request = request("/api/v2/incremental/users/cursor?start_time=5");
    export
        .apply(
            &Position::At("start_time=1770000000".to_owned()),
            &mut request,
        )
        .unwrap();
    assert_eq!(
        request.query,
        [("start_time".to_owned(), "1770000000".to_owned())]
    );
    export
        .apply(&Position::At("cursor=MTc3+/=".to_owned()), &mut request)
        .unwrap();
    assert_eq!(request.query, [("cursor".to_owned(), "MTc3+/=".to_owned())]);
}

#[test]
fn a_ticket_loses_only_what_is_stored_elsewhere() {
    let ticket = RawRecord::upsert(
        r#"{"id":9007199254740993,"fields":[{"id":1}],"custom_fields":[{"id":1}],"metric_set":null,"new":{"a" : 1}}"#,
    );
    assert_eq!(
        *lean_ticket(&ticket).unwrap().as_bytes(),
        *br#"{"id":9007199254740993,"custom_fields":[{"id":1}],"new":{"a" : 1}}"#
    );
}

#[test]
fn ids_that_come_as_numbers_and_as_text_are_one_column() {
    let textual = |json: &str| {
        String::from_utf8(
            textual_id(&RawRecord::upsert(json.to_owned()))
                .unwrap()
                .as_bytes()
                .to_vec(),
        )
        .unwrap()
    };
    assert_eq!(
        textual(r#"{"id":9007199254740993,"user_id":1}"#),
        r#"{"id":"9007199254740993","user_id":1}"#
    );
    for same in [
        r#"{"id":"1","user_id":1}"#,
        r#"{"id":null}"#,
        r#"{"user_id":1}"#,
    ] {
        assert_eq!(textual(same), same);
    }
}

#[test]
fn c36_a_redaction_names_the_ticket_whose_comments_are_read_again() {
    let event = |kind: &str| {
        let json = format!(
            r#"{{"id":30,"ticket_id":1,"child_events":[{{"id":31,"event_type":"{kind}"}}]}}"#
        );
        rewritten_ticket(&RawRecord::upsert(json))
            .unwrap()
            .map(|ticket| String::from_utf8_lossy(&ticket.as_bytes()).into_owned())
    };
    for kind in [
        "CommentRedactionEvent",
        "CommentPrivacyChange",
        "AttachmentRedactionEvent",
    ] {
        assert_eq!(event(kind).as_deref(), Some(r#"{"ticket_id":1}"#), "{kind}");
    }
    assert_eq!(event("Comment"), None);
    let endpoints = crate::streams::endpoints(1000, &[]);
    let repair = endpoints
        .iter()
        .find(|endpoint| endpoint.name() == "rewritten_comments")
        .unwrap();
    assert!(
        repair.is_last()
            && repair
                .parent()
                .is_some_and(|parent| parent.name() == "ticket_events")
    );
}

/// Streams with a ticket that hold nobody's words, or that the list of tickets itself corrects.
const OTHERS: [&str; 4] = [
    "tickets",
    "ticket_metrics",
    "ticket_metric_events",
    "ticket_schedules",
];

#[test]
fn what_goes_with_a_ticket_is_told_for_every_stream_that_quotes_it() {
    let endpoints = crate::streams::endpoints(1000, &[]);
    let told: Vec<&str> = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.name().strip_prefix("forgotten_"))
        .collect();
    let has_ticket = |stream: &pipeline_core::Stream| {
        ["ticket_id", "subject"]
            .iter()
            .any(|name| stream.schema().field(name).is_some())
    };
    for endpoint in endpoints
        .iter()
        .filter(|endpoint| crate::forget::column(endpoint).is_none())
    {
        let is_whole = endpoint.mode() == pipeline_core::SyncMode::FullRefresh;
        for stream in endpoint
            .streams()
            .filter(|stream| has_ticket(stream) && !is_whole && !OTHERS.contains(&stream.name()))
        {
            assert!(told.contains(&stream.name()), "{}", stream.name());
        }
    }
    for endpoint in endpoints
        .iter()
        .filter(|endpoint| crate::forget::column(endpoint).is_some())
    {
        let column = crate::forget::column(endpoint).unwrap();
        assert!(
            endpoint.is_last()
                && endpoint
                    .streams()
                    .all(|stream| stream.schema().field(column).is_some()),
            "{}",
            endpoint.name()
        );
    }
}

#[test]
fn c02_c25_a_link_gives_its_cursor_and_no_host() {
    let body = br#"{"tags":[1],"meta":{"has_more":true},"links":{"next":"https://evil.test/api/v2/tags?page%5Bafter%5D=a%2Bb%2Fc%3D%3D"}}"#;
    let request = request("/api/v2/tags");
    let split = pipeline_core::split(
        &body.to_vec().into(),
        &[pipeline_core::RecordPath::new("tags")],
    )
    .unwrap();
    let view = pipeline_core::paginate::PageView {
        request: &request,
        headers: &HeaderMap::new(),
        envelope: &split.envelope,
        records: &split.records[0],
        fresh: split.records[0].len(),
    };
    let pages = AnyPages::new(Pages::Cursor(100), std::time::Duration::ZERO);
    let pipeline_core::Advance::Next(next) = pages.advance(&Position::Start, &view).unwrap() else {
        panic!("the list goes on")
    };
    assert_eq!(next, "page[after]=a+b/c==");
    let mut request = request;
    pages.apply(&Position::At(next), &mut request).unwrap();
    assert_eq!(
        request.full_url().as_str(),
        "https://acme.zendesk.com/api/v2/tags?page%5Bafter%5D=a%2Bb%2Fc%3D%3D"
    );
}

#[test]
fn c27_more_rows_than_zendesk_numbers_are_an_error() {
    let table = [
        classify(
            "/api/v2/slas/policies?page=101",
            400,
            &[],
            r#"{"error":"InvalidValue","description":"Invalid page"}"#,
        ),
        classify(
            "/api/v2/slas/policies?page=100",
            400,
            &[],
            r#"{"error":"InvalidValue","description":"Invalid page"}"#,
        ),
    ];
    assert!(
        table[0].contains("Fail(Decode") && table[0].contains("cannot be read whole"),
        "{}",
        table[0]
    );
    assert!(table[1].ends_with("default"), "{}", table[1]);
}

#[test]
fn c32_only_a_page_that_can_be_smaller_is_asked_for_again_with_less() {
    let shrinks =
        |path: &str| classify(path, 504, &[], "upstream request timeout").contains("TooLarge");
    assert!(
        shrinks("/api/v2/incremental/tickets/cursor?per_page=1000")
            && shrinks("/api/v2/tags?page[size]=2")
    );
    assert!(!shrinks("/api/v2/tags?page[size]=1") && !shrinks("/api/v2/locales"));
}

#[test]
fn every_list_stands_behind_its_parent_and_every_name_is_one_stream() {
    let names: Vec<&str> = crate::streams::lists().map(|list| list.name).collect();
    let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len());
    assert!(
        crate::streams::lists()
            .flat_map(|list| list.streams)
            .all(|stream| !stream.schema().fields().is_empty())
    );
    let endpoints = crate::streams::endpoints(1000, &["car".to_owned()]);
    let read = endpoints
        .iter()
        .filter(|endpoint| crate::forget::column(endpoint).is_none());
    assert_eq!(read.count(), names.len() + 1);
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
            "an error of Zendesk's",
            r#"{"error":{"title":"No","message":"There was a problem."}}"#,
        ),
    ];
    let build = |context: &pipeline_core::BuildContext, base| {
        let key = pipeline_core::http::Bearer::new("key-0123456789".into());
        pipeline_core::http::HttpClient::builder(context, base)
            .authenticator(key)
            .classifier(ZendeskClassifier)
    };
    insta::assert_snapshot!(
        pipeline_testkit::every_status(build, "/api/v2/groups?page[size]=100", &bodies).await
    );
}
