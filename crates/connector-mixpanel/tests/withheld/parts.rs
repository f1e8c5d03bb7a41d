//! A part of a stream that cannot be read: the rest is, and rows that are there of it stay.

use std::collections::BTreeSet;

use pipeline_core::ErrorKind;
use pipeline_engine::{Options, Outcome};
use serde_json::json;

use crate::project::{Project, ok, profiles, refused, value};

/// Four cohorts of two members, four funnels, two reports and two kinds of groups; what
/// `is_refused` names cannot be computed.
fn of_four(
    is_refused: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> impl Fn(&str) -> (u16, String) + Send + Sync + 'static {
    move |asked| match asked {
        asked if asked.contains("/cohorts/list") => {
            let cohort = |id: u8| format!(r#"{{"id":{id},"name":"c","count":2,"is_visible":1}}"#);
            ok(format!("[{}]", [1, 2, 3, 4].map(cohort).join(",")))
        }
        asked if asked.contains("/funnels/list") => ok(format!(
            "[{}]",
            [1, 2, 3, 4]
                .map(|id| format!(r#"{{"funnel_id":{id},"name":"f{id}"}}"#))
                .join(",")
        )),
        asked if is_refused(asked) => refused("Unable to compute"),
        asked if asked.contains("/engage") => profiles(0, 1000, Some(2), &["u", "v"]),
        asked if asked.contains("/funnels") => {
            ok(r#"{"meta":{},"data":{"2026-11-21":{"steps":[],"analysis":{}}}}"#)
        }
        asked if asked.contains("/segmentation/sum") => {
            ok(r#"{"status":"ok","results":{"2026-11-21":4}}"#)
        }
        asked if asked.contains("/segmentation") => {
            ok(r#"{"data":{"series":[],"values":{"x":{"2026-11-21":1}}}}"#)
        }
        _ => ok("[]"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_computed_leaves_the_rest_and_its_own_rows() {
    let report = |stream: &str, name: &str| json!({ "name": name, "stream": stream, "parameters": { "event": name, "on": "x" } });
    let reports = [
        report("segmentation_sum", "one"),
        report("segmentation_sum", "two"),
        report("segmentation", "one"),
        report("segmentation", "two"),
    ];
    let config = json!({ "time_zone": "UTC", "group_ids": [5, 6], "reports": reports });
    let streams = [
        "cohort_members",
        "funnels",
        "segmentation_sum",
        "segmentation",
        "group_profiles",
    ];
    let units = [
        (
            "cohort_members",
            "cohort_id",
            r#"filter_by_cohort={"id":2}"#,
            "2",
            8,
        ),
        ("funnels", "funnel_id", "funnel_id=2", "2", 4),
        ("segmentation_sum", "report", "event=two", "report two", 2),
        ("segmentation", "report", "event=two", "report two", 2),
        (
            "group_profiles",
            "data_group_id",
            "data_group_id=6",
            "group 6",
            4,
        ),
    ];
    let refuse = move |asked: &str| {
        units
            .iter()
            .any(|(_, _, part, ..)| asked.split(' ').any(|pair| pair == *part))
            && !asked.contains("where=")
    };
    // Refused from the start: the others are there.
    let project = Project::new(config.clone(), of_four(refuse));
    let run = project.sync(&streams).await;
    for (stream, column, _, name, rows) in units {
        assert!(
            matches!(run.endpoint(stream).outcome, Outcome::Incomplete),
            "{stream}: {:?}",
            run.endpoint(stream).outcome
        );
        assert_eq!(run.gaps(stream), [name], "{stream}");
        assert!(
            run.endpoint(stream).gaps[0]
                .reason
                .contains("Unable to compute"),
            "{:?}",
            run.endpoint(stream).gaps
        );
        let each = if ["cohort_members", "group_profiles"].contains(&stream) {
            2
        } else {
            1
        };
        assert_eq!(
            project.column(stream, column).len(),
            rows - each,
            "{stream}"
        );
    }
    assert_eq!(
        run.summary.failure(),
        Some(ErrorKind::Unavailable),
        "exit 4"
    );
    // It heals, and is filled once.
    project.answers(of_four(|_| false));
    let run = project.sync(&streams).await;
    assert!(run.summary.failure().is_none(), "{:?}", run.summary);
    for (stream, column, _, _, rows) in units {
        assert_eq!(project.column(stream, column).len(), rows, "{stream}");
    }
    // It is refused again: what was there of it stays, in a refresh too.
    project.answers(of_four(refuse));
    for options in [Options::default(), Options::default().full_refresh(true)] {
        let run = project.sync_with(&streams, options).await;
        for (stream, column, _, name, rows) in units {
            assert_eq!(run.gaps(stream), [name], "{stream}");
            assert_eq!(project.column(stream, column).len(), rows, "{stream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_that_cannot_be_exported_keeps_its_events_in_a_refresh() {
    let events = |asked: &str| {
        let since = value(asked, "from_date")
            .unwrap()
            .parse::<chrono::NaiveDate>()
            .unwrap();
        let last = value(asked, "to_date")
            .unwrap()
            .parse::<chrono::NaiveDate>()
            .unwrap();
        let line = |day: chrono::NaiveDate| {
            let time = day
                .and_hms_opt(12, 0, 0)
                .unwrap()
                .and_utc()
                .timestamp_millis();
            format!(r#"{{"event":"e","properties":{{"time":{time},"$insert_id":"{day}"}}}}"#) + "\n"
        };
        since
            .iter_days()
            .take_while(|day| *day <= last)
            .map(line)
            .collect::<String>()
    };
    let project = Project::new(json!({ "start_date": "2026-11-12" }), move |asked| {
        ok(events(asked))
    });
    project.sync(&["export"]).await;
    assert_eq!(project.column("export", "export_day").len(), 10);
    project.answers(move |asked| {
        let events = events(asked);
        if events.contains("2026-11-15") {
            refused("not this day")
        } else {
            ok(events)
        }
    });
    let run = project
        .sync_with(&["export"], Options::default().full_refresh(true))
        .await;
    assert_eq!(run.gaps("export"), ["2026-11-15"]);
    let days: BTreeSet<String> = project.column("export", "export_day").into_iter().collect();
    assert_eq!(days.len(), 10, "{days:?}");
}
