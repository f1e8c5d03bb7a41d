//! The pure rules: what lines mean, and which rows become of answers; by concern, what errors mean
//! and how lists are walked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod errors;
mod pages;

use pipeline_core::RawRecord;
use pipeline_core::http::{Method, Request};
use pipeline_core::slice::{Oldest, Slicer, TimeRange, TimeSlicer};
use pipeline_core::state::EndpointState;

use crate::calendar::{Calendar, DayClock, ProjectDays, TimeStorage};
use crate::flatten::{Columns, Flattened};
use crate::line::Malformed;
use crate::reports::Report;
use crate::rows::{About, Occurrences};
use crate::seen::Seen;
use crate::{line, schema, streams};

fn request(path: &str) -> Request {
    Request::new(
        Method::POST,
        format!("https://mixpanel.com{path}").parse().unwrap(),
    )
}

#[test]
fn a_line_is_an_event_or_the_export_is_broken() {
    let lines: [&[u8]; 15] = [
        br#"{"event":"A","properties":{"time":1}}"#,
        b"\xEF\xBB\xBF{\"event\":\"A\",\"properties\":{\"time\":1}}",
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
        let shown = |verdict: pipeline_core::Result<()>| {
            verdict.map_or_else(
                |error| format!("{} (temporary: {})", error.message(), error.is_temporary()),
                |()| "ok".to_owned(),
            )
        };
        let (event, whole) = (shown(line::check(line)), shown(line::check_whole(line)));
        let whole = if event == whole {
            String::new()
        } else {
            format!("; came whole: {whole}")
        };
        format!(
            "{}: {event}{whole}",
            String::from_utf8_lossy(line).escape_default()
        )
    };
    insta::assert_snapshot!(lines.iter().map(verdict).collect::<Vec<_>>().join("\n"));
}

/// The rows that a stream makes of a record, as the project's zone and a report have it.
fn rows_in(
    stream: &str,
    records: &[&[u8]],
    calendar: Calendar,
    report: Option<&Report>,
    columns: &Columns,
) -> Vec<RawRecord> {
    let stream = streams::lists()
        .flat_map(|list| list.streams)
        .find(|def| def.name == stream)
        .unwrap();
    let today = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
    let mut about = About {
        stream,
        calendar,
        today,
        report,
        columns,
        occurrences: Occurrences::default(),
        seen: Seen::default(),
        lines: Malformed::default(),
    };
    let mut rows = Vec::new();
    for record in records {
        (stream.facts.rows)(&RawRecord::upsert(record.to_vec()), &mut about, &mut rows).unwrap();
    }
    rows
}

fn rows(stream: &str, record: &str) -> Vec<RawRecord> {
    rows_in(stream, &[record.as_bytes()], UTC, None, Columns::none())
}

const UTC: Calendar = Calendar {
    zone: chrono_tz::Tz::UTC,
    storage: TimeStorage::Utc,
};

fn local(zone: chrono_tz::Tz) -> Calendar {
    Calendar {
        zone,
        storage: TimeStorage::ProjectLocal,
    }
}

fn shown(rows: &[RawRecord]) -> String {
    rows.iter()
        .map(|row| format!("{row:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn event(properties: &str) -> RawRecord {
    rows(
        "export",
        &format!(r#"{{"event":"Buy","properties":{{{properties}}}}}"#),
    )
    .remove(0)
}

/// An event whose exported time is a wall clock's.
fn event_at(time: &str, calendar: Calendar) -> String {
    let millis = time
        .parse::<chrono::NaiveDateTime>()
        .unwrap()
        .and_utc()
        .timestamp_millis();
    let line = format!(r#"{{"event":"A","properties":{{"time":{millis}}}}}"#);
    let row = rows_in(
        "export",
        &[line.as_bytes()],
        calendar,
        None,
        Columns::none(),
    )
    .remove(0);
    assert_eq!(
        row.member("time_raw"),
        Some(millis.to_string().as_str()),
        "the exported value is kept"
    );
    let time =
        chrono::DateTime::from_timestamp_millis(row.member("time").unwrap().parse().unwrap())
            .unwrap();
    let ambiguous = if row.member("time_is_ambiguous") == Some("true") {
        ", or an hour later"
    } else {
        ""
    };
    format!(
        "{}{ambiguous}",
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    )
}

#[test]
fn an_event_is_lifted_out_of_its_line() {
    let lines = [
        r#"{"event":"Buy","properties":{"time":1763630101123,"distinct_id":"u-17","$insert_id":"ab","$device_id":7,"$is_reshuffled":true,"mp_lib":"web","mp_processing_time_ms":1763630102337,"big":2033513821949367296}}"#,
        r#"{"event":"Buy","properties":{"time":1763630101,"distinct_id":42,"$insert_id":""},"dataset":"old","time":5}"#,
        "{\"event\":\"B\u{2028}\",\"properties\":{\"time\":1763630101.5,\"distinct_id\":true,\"properties\":\"mine\"}}",
        r#"{"event":"Buy","properties":{}}"#,
        r#"{"event":"Buy","properties":{"distinct_id":{"odd":1},"time":"soon"}}"#,
    ];
    insta::assert_snapshot!(lines.map(|line| shown(&rows("export", line))).join("\n"));
}

#[test]
fn c27_times_are_utc_whichever_way_they_were_stored() {
    let new_york = local(chrono_tz::America::New_York);
    insta::assert_snapshot!([
        event_at("2025-11-20T09:15:01", UTC),
        event_at("2022-07-15T09:15:01", new_york),
        event_at("2022-01-15T09:15:01", new_york),
        event_at("2022-07-15T09:15:01", local(chrono_tz::Asia::Kolkata)),
    ].join("\n"), @"
        2025-11-20T09:15:01Z
        2022-07-15T13:15:01Z
        2022-01-15T14:15:01Z
        2022-07-15T03:45:01Z
        ");
}

#[test]
fn c28_a_time_that_occurs_twice_is_the_earlier_one_and_says_so() {
    let new_york = local(chrono_tz::America::New_York);
    insta::assert_snapshot!([
        event_at("2022-11-06T00:59:59", new_york),
        event_at("2022-11-06T01:30:00", new_york),
        event_at("2022-11-06T02:00:00", new_york),
        // Clocks went from 02:00 to 03:00, so this never was; it counts on from before.
        event_at("2022-03-13T02:30:00", new_york),
        event_at("2022-03-13T03:00:00", new_york),
    ].join("\n"), @"
        2022-11-06T04:59:59Z
        2022-11-06T05:30:00Z, or an hour later
        2022-11-06T07:00:00Z
        2022-03-13T07:30:00Z
        2022-03-13T07:00:00Z
        ");
}

#[test]
fn c29_today_is_the_day_in_the_zone_that_days_are_counted_by() {
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T23:30:00Z")
        .unwrap()
        .to_utc();
    let auckland = chrono_tz::Pacific::Auckland;
    let windows = |lag| TimeSlicer {
        step: Some(chrono::TimeDelta::days(30)),
        lag: chrono::TimeDelta::days(lag),
        oldest: Oldest::At(now - chrono::TimeDelta::days(3)),
        ..TimeSlicer::newest_first("from_date", "to_date", pipeline_core::TimeFormat::Date)
    };
    let last_day = |calendar: Calendar, lag| {
        let days = ProjectDays {
            days: windows(lag),
            calendar,
            clock: DayClock::Export,
        };
        let slice = days
            .plan(&EndpointState::default(), TimeRange::all(), now)
            .pop()
            .unwrap();
        let mut asked = request("/api/2.0/export");
        days.apply(&slice, &mut asked).unwrap();
        asked
            .query
            .into_iter()
            .find(|(name, _)| name == "to_date")
            .unwrap()
            .1
    };
    let utc = Calendar {
        zone: auckland,
        storage: TimeStorage::Utc,
    };
    assert_eq!(last_day(utc, 0), "2026-11-22");
    assert_eq!(last_day(local(auckland), 0), "2026-11-23");
    assert_eq!(last_day(local(auckland), 1), "2026-11-22");
    assert_eq!(last_day(local(chrono_tz::US::Pacific), 1), "2026-11-21");
    assert_eq!(
        utc.today(now).to_string(),
        "2026-11-23",
        "queries count days in the project's zone"
    );
}

#[test]
fn c31_seconds_and_milliseconds_are_told_apart() {
    assert_eq!(
        event(r#""time":1763630101"#).member("time"),
        Some("1763630101000")
    );
    assert_eq!(
        event(r#""time":1763630101123"#).member("time"),
        Some("1763630101123")
    );
    assert_eq!(event(r#""time":-5"#).member("time"), Some("-5000"));
}

#[test]
fn a_property_cut_within_a_character_costs_that_character_only() {
    let line = b"{\"event\":\"A\",\"properties\":{\"cut\":\"ab\xe2\x82\"}}";
    let row = rows_in("export", &[line], UTC, None, Columns::none()).remove(0);
    assert_eq!(row.member("properties"), Some("{\"cut\":\"ab\u{fffd}\"}"));
}

#[test]
fn c22_c23_an_event_keeps_its_key_when_it_is_exported_again() {
    let key = |properties: &str| event(properties).scalar("event_key").unwrap();
    let same = [
        (
            r#""time":1763630101123,"distinct_id":"A","$insert_id":"i""#,
            r#""time":1763630101,"distinct_id":"A","$insert_id":"i""#,
        ),
        (
            r#""time":1,"distinct_id":"A","$insert_id":"i""#,
            r#""time":1,"distinct_id":"U","$insert_id":"i","$distinct_id_before_identity":"A","$is_reshuffled":true"#,
        ),
        (
            r#""time":1,"distinct_id":"A","$insert_id":"i","p":1"#,
            r#""time":1,"distinct_id":"A","$insert_id":"i","p":2"#,
        ),
        (
            r#""time":1,"distinct_id":"A","p":1,"mp_processing_time_ms":5"#,
            r#""p":1,"time":1,"distinct_id":"U","mp_processing_time_ms":9,"$distinct_id_before_identity":"A""#,
        ),
    ];
    for (before, after) in same {
        assert_eq!(key(before), key(after), "{before} and {after}");
    }
    let different = [
        (
            r#""time":1,"distinct_id":"A","$insert_id":"i""#,
            r#""time":1,"distinct_id":"A","$insert_id":"j""#,
        ),
        (
            r#""time":1,"distinct_id":"A","$insert_id":"i""#,
            r#""time":2,"distinct_id":"A","$insert_id":"i""#,
        ),
        (
            r#""time":1,"distinct_id":"A","$insert_id":"i""#,
            r#""time":1,"distinct_id":"B","$insert_id":"i""#,
        ),
        (
            r#""time":1,"distinct_id":"Ai""#,
            r#""time":1,"distinct_id":"A","$insert_id":"i""#,
        ),
        (
            r#""time":1,"distinct_id":"A","p":1"#,
            r#""time":1,"distinct_id":"A","p":2"#,
        ),
    ];
    for (one, other) in different {
        assert_ne!(key(one), key(other), "{one} and {other}");
    }
    assert_eq!(key(r#""time":1"#).len(), 32);
}

#[test]
fn c24_equal_lines_without_an_insert_id_are_different_events() {
    let line = br#"{"event":"A","properties":{"time":1,"distinct_id":"a"}}"#;
    let keys = || {
        rows_in("export", &[line, line, line], UTC, None, Columns::none())
            .iter()
            .map(|row| row.scalar("event_key"))
            .collect::<Vec<_>>()
    };
    let first = keys();
    assert!(
        first[0] != first[1] && first[1] != first[2] && first[0] != first[2],
        "{first:?}"
    );
    assert_eq!(
        first,
        keys(),
        "they keep their keys when the day is read again"
    );
}

#[test]
fn c51_c52_flattened_properties_are_columns_beside_their_old_place() {
    let wanted: Vec<Flattened> = serde_json::from_value(serde_json::json!([
        "City", "city", "$city", "event", "time_raw", { "property": "Amount", "column": "amount", "type": "decimal" },
    ]))
    .unwrap();
    let columns = Columns::new(&wanted, schema::EVENT, "event_columns").unwrap();
    let lines: [&[u8]; 3] = [
        br#"{"event":"A","properties":{"time":1,"$insert_id":"i","City":"X","city":"y","$city":"Z","event":"mine","time_raw":7,"Amount":19.90}}"#,
        br#"{"event":"A","properties":{"time":1,"$insert_id":"j","City":"X"}}"#,
        br#"{"event":"A","properties":{"time":1,"$insert_id":"k","$city":null}}"#,
    ];
    insta::assert_snapshot!(shown(&rows_in("export", &lines, UTC, None, &columns)));
    insta::assert_snapshot!(columns.collisions.join("\n"), @"
        property `City` is column `city__u__341732`
        property `city` is column `city__u`
        property `event` is column `event__u`
        property `time_raw` is column `time_raw__u`
        ");
}

#[test]
fn c53_values_keep_their_types_and_their_digits() {
    let properties = r#"{"a":true,"b":null,"c":[1,2],"d":{"a":1},"e":2033513821949367296,"f":19.90,"g":"undefined"}"#;
    let row = event(&properties[1..properties.len() - 1]);
    assert_eq!(row.member("properties"), Some(properties));
}

#[test]
fn c44_c45_a_profile_is_lifted_out_of_its_envelope() {
    let profiles = [
        r#"{"$distinct_id":"u-17","$properties":{"$email":"a@x.test","$last_seen":"2026-11-20T09:15:02","name":"own","$name":"Ana"}}"#,
        r#"{"$distinct_id":9007199254740993,"$properties":{}}"#,
    ];
    insta::assert_snapshot!(profiles.map(|json| shown(&rows("engage", json))).join("\n"));
}

#[test]
fn lists_that_profiles_keep_are_rows() {
    let profile = r#"{"$distinct_id":42,"$properties":{"$transactions":[{"$time":"2026-02-02T01:02:03","$amount":5.5,"sku":"x"},7],"$android_devices":"token-1","$answers":null}}"#;
    insta::assert_snapshot!(
        ["transactions", "android_devices", "answers", "surveys"]
            .map(|stream| format!("# {stream}\n{}", shown(&rows(stream, profile))))
            .join("\n")
    );
}

#[test]
fn answers_to_reports_are_rows() {
    let report: Report = serde_json::from_value(serde_json::json!({
        "name": "r", "stream": "segmentation", "parameters": { "event": "Buy", "name": "plan" },
    }))
    .unwrap();
    let answers = [
        (
            "segmentation",
            r#"{"data":{"series":["2026-11-21"],"values":{"pro":{"2026-11-21":1,"2026-11-20 13:00:00":2.5}}},"legend_size":1}"#,
        ),
        (
            "segmentation_sum",
            r#"{"status":"ok","results":{"2026-11-21":4}}"#,
        ),
        (
            "event_counts",
            r#"{"data":{"series":[],"values":{"Buy":{"2026-11-21":3}}}}"#,
        ),
        (
            "event_property_counts",
            r#"{"data":{"series":[],"values":{"pro":{"2026-11-21":3}}}}"#,
        ),
        (
            "retention",
            r#"{"2026-11-20":{"counts":[2,1],"first":2},"2026-11-21":{"pro":{"counts":[1],"first":1}}}"#,
        ),
        ("frequency", r#"{"data":{"2026-11-20":[3,1]}}"#),
        (
            "insights",
            r#"{"computed_at":"2026-11-21T16:35:41+00:00","headers":["$event","plan"],"series":{"Buy":{"pro":{"2026-11-20T00:00:00-07:00":9},"$overall":10}}}"#,
        ),
        (
            "event_properties_top",
            r#"{"ad version":{"count":295},"error":{"count":1}}"#,
        ),
        ("event_property_values", r#""dog""#),
        (
            "top_events",
            r#"{"amount":2,"event":"funnel","percent_change":-0.35}"#,
        ),
        ("event_names", r#""battle""#),
        (
            "revenue",
            r#"{"results":{"$overall":{"amount":1},"2026-06-01":{"amount":0.0,"count":124,"paid_count":0}},"status":"ok"}"#,
        ),
        (
            "funnels",
            r#"{"funnel_id":7,"name":"F","meta":{"dates":[]},"data":{"$overall":{},"2026-11-16":{"steps":[],"analysis":{"worst":1}}}}"#,
        ),
    ];
    let table = answers.map(|(stream, answer)| {
        format!(
            "# {stream}\n{}",
            shown(&rows_in(
                stream,
                &[answer.as_bytes()],
                UTC,
                Some(&report),
                Columns::none()
            ))
        )
    });
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn the_events_of_some_users_name_the_user_in_either_way() {
    let user = |properties: &str| {
        rows(
            "activity",
            &format!(r#"{{"event":"A","properties":{{"time":1,{properties}}}}}"#),
        )
        .remove(0)
    };
    for properties in [
        r#""distinct_id":"u""#,
        r#""$distinct_id":"u""#,
        r#""distinct_id":null,"$distinct_id":"u""#,
        r#""$distinct_id":"v","distinct_id":"u""#,
    ] {
        assert_eq!(
            user(properties).scalar("distinct_id").as_deref(),
            Some("u"),
            "{properties}"
        );
    }
    let keys = [
        r#""$distinct_id":"u","$insert_id":"i""#,
        r#""distinct_id":"u","$insert_id":"i""#,
    ]
    .map(|properties| user(properties).scalar("event_key"));
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn a_record_that_is_odd_is_rejected_by_itself() {
    for stream in [
        "engage",
        "transactions",
        "lexicon_schemas",
        "top_events",
        "export",
    ] {
        assert_eq!(shown(&rows(stream, "[7]")), "Reject [7]", "{stream}");
    }
    assert_eq!(
        shown(&rows("engage", r#"{"$distinct_id":"u","$properties":[]}"#)),
        r#"Reject {"$distinct_id":"u","$properties":[]}"#
    );
    assert_eq!(
        shown(&rows("export", r#"{"event":"x"}"#)),
        r#"Reject {"event":"x"}"#
    );
}
