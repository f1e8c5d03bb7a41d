//! The export over a server of a few lines: what makes a response complete, and what is asked for
//! when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_mixpanel::MixpanelConfig;
use futures::stream::{self, StreamExt};
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::{
    BuildContext, Clock, Connector, ConnectorConfig, ErrorKind, Event, Observer, Registry,
    TokioClock,
};
use pipeline_engine::{Job, Metrics, Outcome, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

/// What the server says: a status, and a body in pieces of which the last may be a broken
/// connection.
#[derive(Clone)]
struct Said {
    status: u16,
    encoding: Option<&'static str>,
    pieces: Vec<Option<Bytes>>,
}

impl Said {
    fn of(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            encoding: None,
            pieces: vec![Some(body.into())],
        }
    }
}

fn ok(body: impl Into<Bytes>) -> Said {
    Said::of(200, body)
}

fn zipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

type Answer = dyn Fn(&str, usize) -> Said + Send + Sync;

/// Answers by the request's query and how many were made before.
struct Server {
    asked: Mutex<Vec<String>>,
    answer: Box<Answer>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let value = |name: &str| {
            request
                .query
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        let dates = [value("from_date"), value("to_date"), value("where")]
            .into_iter()
            .flatten();
        let line = dates.collect::<Vec<_>>().join(" ");
        let before = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(line.clone());
            asked.len() - 1
        };
        let said = (self.answer)(&line, before);
        let mut headers = HeaderMap::new();
        if let Some(encoding) = said.encoding {
            headers.insert("content-encoding", encoding.parse().unwrap());
        }
        let piece = |piece: Option<Bytes>| {
            piece.ok_or_else(|| TransportError::Interrupted("reset by peer".into()))
        };
        let body = stream::iter(said.pieces.into_iter().map(piece)).boxed();
        Ok(RawResponse {
            status: StatusCode::from_u16(said.status).unwrap(),
            headers,
            body,
        })
    }
}

/// A project of one day, 2026-11-21, unless the configuration is changed, and what was read of it.
struct Read {
    server: Arc<Server>,
    destination: Arc<MemoryDestination>,
    summary: Summary,
    notices: Vec<String>,
}

/// What is read from, and the clock of the run.
type Reading = (Arc<dyn Connector>, Arc<dyn Clock>);

fn connector(
    config: serde_json::Value,
    answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static,
    observer: Arc<dyn Observer>,
) -> (Arc<Server>, Reading) {
    let server = Arc::new(Server {
        asked: Mutex::default(),
        answer: Box::new(answer),
    });
    let reading = connector_of(&server, config, observer);
    (server, reading)
}

fn connector_of(
    server: &Arc<Server>,
    config: serde_json::Value,
    observer: Arc<dyn Observer>,
) -> Reading {
    let mut all = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret", "region": "us", "start_date": "2026-11-21" });
    all.as_object_mut()
        .unwrap()
        .extend(config.as_object().unwrap().clone());
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
        .unwrap()
        .to_utc();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now));
    let context = BuildContext::default()
        .transport(server.clone())
        .clock(Arc::clone(&clock))
        .observer(observer)
        .seed(7);
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    (
        registry.build(MixpanelConfig::NAME, all, context).unwrap(),
        clock,
    )
}

async fn read_with(
    config: serde_json::Value,
    answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static,
) -> Read {
    let metrics = Arc::new(Metrics::default());
    let (server, (connector, clock)) = connector(config, answer, metrics.clone());
    let destination = Arc::new(MemoryDestination::default());
    let source = Source {
        name: "product".to_owned(),
        connector,
        streams: Selection::Named(vec!["export".to_owned()]),
    };
    let summary = sync(Job::new("run", destination.clone(), vec![source]).clock(clock))
        .await
        .unwrap();
    let notices = metrics
        .notices()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    Read {
        server,
        destination,
        summary,
        notices,
    }
}

async fn read(answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static) -> Read {
    read_with(json!({}), answer).await
}

impl Read {
    /// The notes of the events, sorted.
    fn notes(&self) -> Vec<String> {
        let note = |properties: String| {
            let properties: serde_json::Value = serde_json::from_str(&properties).unwrap();
            properties["note"].as_str().unwrap_or_default().to_owned()
        };
        let mut notes: Vec<String> = self
            .destination
            .column("product", "export", "properties")
            .into_iter()
            .map(note)
            .collect();
        notes.sort();
        notes
    }

    fn asked(&self) -> Vec<String> {
        self.server.asked.lock().unwrap().clone()
    }

    fn failure(&self) -> (ErrorKind, String) {
        match &self.summary.endpoints[0].outcome {
            Outcome::Failed { error } => (error.kind, error.message.clone()),
            other => panic!("{other:?}"),
        }
    }
}

/// An event at an hour of the day.
fn event_at(id: &str, hour: i64, note: &str) -> String {
    let time = (1_795_219_200 + hour * 3_600) * 1_000;
    format!(
        r#"{{"event":"Buy","properties":{{"time":{time},"distinct_id":"u","$insert_id":"{id}","note":"{note}"}}}}"#
    )
}

fn event(id: &str, note: &str) -> String {
    event_at(id, 1, note)
}

/// So many events, as lines.
fn events(count: usize) -> String {
    (0..count)
        .map(|n| event(&n.to_string(), &format!("note {n}")) + "\n")
        .collect()
}

#[tokio::test(start_paused = true)]
async fn c01_c02_what_is_said_of_the_encoding_does_not_matter_but_what_comes() {
    let text = events(40);
    let plain = read({
        let text = text.clone();
        move |_, _| ok(text.clone())
    })
    .await
    .notes();
    assert_eq!(plain.len(), 40);
    for said in [
        Said {
            encoding: Some("gzip"),
            ..ok(zipped(&text))
        },
        Said {
            encoding: Some("gzip"),
            ..ok(text.clone())
        },
        ok(zipped(&text)),
    ] {
        let read = read(move |_, _| said.clone()).await;
        assert_eq!((read.notes(), read.asked().len()), (plain.clone(), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn c03_c05_lines_end_at_line_feeds_only() {
    let odd = "a\u{2028}b\u{2029}c\u{85}d\\u000be\\u000cf";
    let text = [event("1", odd), event("2", "plain")].join("\n");
    let read = read(move |_, _| ok(text.clone())).await;
    assert_eq!(
        read.notes(),
        ["a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f", "plain"]
    );
}

#[tokio::test(start_paused = true)]
async fn c04_pieces_may_end_anywhere() {
    let text = format!(
        "{}\r\n{}\r\n\r\n{}",
        event("1", "ä€𝄞"),
        event("2", ""),
        event("3", "z")
    );
    for at in 0..=text.len() {
        let bytes = Bytes::from(text.clone());
        let pieces = vec![Some(bytes.slice(..at)), Some(bytes.slice(at..))];
        let read = read(move |_, _| Said {
            pieces: pieces.clone(),
            ..ok("")
        })
        .await;
        assert_eq!(read.notes(), ["", "z", "ä€𝄞"], "cut at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn c06_a_day_without_events_is_complete() {
    let read = read(|_, _| ok("")).await;
    assert!(matches!(read.summary.endpoints[0].outcome, Outcome::Done));
    assert_eq!((read.notes().len(), read.asked().len()), (0, 1));
    assert_eq!(
        read.summary.endpoints[0].cursor.unwrap().to_rfc3339(),
        "2026-11-22T00:00:00+00:00"
    );
}

#[tokio::test(start_paused = true)]
async fn c07_c08_an_export_that_says_that_it_broke_off_does_not_count() {
    let line = event("1", "kept");
    let broken = [
        format!("{line}\nterminated early"),
        format!("{line}\nterminated early\n"),
        format!("{line}\nExport terminated early\n{}\n", event("2", "never")),
    ];
    for text in broken {
        let line = line.clone();
        let read = read(move |_, before| {
            ok(if before == 0 {
                text.clone()
            } else {
                line.clone()
            })
        })
        .await;
        assert_eq!(
            (read.notes(), read.asked().len()),
            (vec!["kept".to_owned()], 2)
        );
        assert_eq!(
            read.summary.endpoints[0].streams[0].records, 1,
            "nothing of the first response was counted"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c09_a_compressed_export_without_its_end_does_not_count() {
    let whole = zipped(&events(100));
    let cut = whole[..whole.len() - 4].to_vec();
    let body = move |before: usize| {
        if before == 0 {
            cut.clone()
        } else {
            whole.clone()
        }
    };
    let read = read(move |_, before| Said {
        encoding: Some("gzip"),
        ..ok(body(before))
    })
    .await;
    assert_eq!((read.notes().len(), read.asked().len()), (100, 2));
}

#[tokio::test(start_paused = true)]
async fn c10_an_error_in_place_of_an_event_is_told() {
    let cut = read(|_, before| {
        ok(if before == 0 {
            event("1", "a") + "\n{\"error\":"
        } else {
            event("1", "a")
        })
    })
    .await;
    assert_eq!((cut.notes().len(), cut.asked().len()), (1, 2));
    let refused = read(|_, _| ok(r#"{"error":"Unable to authenticate request"}"#)).await;
    assert_eq!(
        (refused.failure().0, refused.asked().len()),
        (ErrorKind::Unauthenticated, 1)
    );
    assert!(
        refused
            .failure()
            .1
            .contains("answer: Unable to authenticate request"),
        "{}",
        refused.failure().1
    );
}

#[tokio::test(start_paused = true)]
async fn c11_malformed_lines_are_kept_apart_and_their_day_is_missing_unless_they_are_accepted() {
    let bad = [
        r#"{"event":"Buy","properties":{"odd":NaN}}"#,
        r#"{"event":"x"}"#,
        r#"{"event":"Buy","properties":[]}"#,
    ];
    for (bad, text) in bad.iter().flat_map(|bad| {
        let lines = |order: [&str; 3]| order.join("\n");
        let (a, b) = (event("1", "a"), event("2", "b"));
        [
            (bad, lines([&a, bad, &b])),
            (bad, lines([bad, &a, &b]) + "\n"),
        ]
    }) {
        let number = if text.starts_with(bad) {
            "line: 1"
        } else {
            "line: 2"
        };
        let strict = read({
            let text = text.clone();
            move |_, _| ok(text.clone())
        })
        .await;
        assert_eq!(
            (strict.notes(), strict.asked().len()),
            (vec!["a".to_owned(), "b".to_owned()], 1),
            "{bad}"
        );
        let rejected = strict.destination.column("product", "_rejected", "record");
        assert_eq!(rejected, [*bad]);
        let endpoint = &strict.summary.endpoints[0];
        assert!(
            matches!(endpoint.outcome, Outcome::Incomplete),
            "{:?}",
            endpoint.outcome
        );
        assert_eq!(endpoint.gaps.len(), 1);
        assert!(
            endpoint.gaps[0].name == "2026-11-21" && endpoint.gaps[0].reason.contains(number),
            "{:?}",
            endpoint.gaps
        );
        let lenient = read_with(json!({ "max_bad_lines": 1 }), move |_, _| ok(text.clone())).await;
        assert!(matches!(
            lenient.summary.endpoints[0].outcome,
            Outcome::Done
        ));
        assert_eq!(
            (
                lenient.notes().len(),
                lenient
                    .destination
                    .column("product", "_rejected", "record")
                    .len()
            ),
            (2, 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c12_a_property_cut_within_a_character_is_kept_and_counted() {
    let mut text = event("1", "ab").into_bytes();
    let at = text.windows(2).position(|pair| pair == b"ab").unwrap() + 1;
    text[at] = 0xe2;
    let read = read(move |_, _| ok(text.clone())).await;
    assert_eq!(read.notes(), ["a\u{fffd}"]);
    let drift = &read.summary.endpoints[0].streams[0].drift;
    assert!(
        drift
            .iter()
            .any(|drift| drift.field == "utf8_repaired" && drift.records == 1),
        "{drift:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c15_after_a_reset_every_event_is_there_once() {
    let text = Bytes::from(events(2_000));
    let half = text.slice(..text.len() / 2);
    let said = move |before: usize| {
        if before == 0 {
            vec![Some(half.clone()), None]
        } else {
            vec![Some(text.clone())]
        }
    };
    let read = read(move |_, before| Said {
        pieces: said(before),
        ..ok("")
    })
    .await;
    assert_eq!((read.notes().len(), read.asked().len()), (2_000, 2));
    assert_eq!(read.summary.endpoints[0].streams[0].records, 2_000);
}

#[tokio::test(start_paused = true)]
async fn c25_a_day_that_times_out_is_read_in_quarters() {
    let answer = |asked: &str, _: usize| {
        // An event a minute before and at every edge.
        let edges = [0, 6, 12, 18, 24].map(|hour| 1_795_219_200 + hour * 3_600);
        let bound = |sign: &str| {
            let bound = asked
                .split(sign)
                .nth(1)?
                .split_once("datetime(")?
                .1
                .split_once(')')?
                .0;
            bound.parse::<i64>().ok()
        };
        let (from, to) = (
            bound(">=").unwrap_or(edges[0]),
            bound("<").unwrap_or(edges[4]),
        );
        if to - from > 6 * 3_600 {
            return Said::of(504, "<html>upstream timed out</html>");
        }
        let times = edges[..4]
            .iter()
            .copied()
            .chain(edges[1..].iter().map(|edge| edge - 60))
            .filter(|time| (from..to).contains(time));
        let line = |time: i64| {
            event_at(&time.to_string(), 0, &time.to_string())
                .replace("1795219200000", &format!("{time}000"))
                + "\n"
        };
        ok(times.map(line).collect::<String>())
    };
    let read = read(answer).await;
    assert_eq!(
        read.notes().len(),
        8,
        "nothing falls between the parts, and nothing is in two"
    );
    let asked = read.asked();
    assert_eq!(
        asked.len(),
        3 + 4 + 1,
        "the rest of the day is tried after the first quarter: {asked:?}"
    );
    assert!(
        asked[..3]
            .iter()
            .all(|asked| asked == "2026-11-21 2026-11-21")
    );
    assert!(
        read.notices
            .iter()
            .any(|notice| notice.contains("did not come whole") && notice.contains("6 hours")),
        "{:?}",
        read.notices
    );
}

#[tokio::test(start_paused = true)]
async fn c30_a_day_that_has_not_begun_there_is_left_out_once() {
    const TOO_LATE: &str = r#"{"error":"to_date cannot be later than today"}"#;
    let config = json!({ "start_date": "2026-11-20" });
    let behind = read_with(config.clone(), |asked, _| {
        if asked.ends_with("2026-11-21") {
            Said::of(400, TOO_LATE)
        } else {
            ok(event("1", "a"))
        }
    })
    .await;
    assert!(matches!(behind.summary.endpoints[0].outcome, Outcome::Done));
    assert_eq!(
        behind.asked(),
        ["2026-11-20 2026-11-21", "2026-11-20 2026-11-20"]
    );
    let always = read_with(config, |_, _| Said::of(400, TOO_LATE)).await;
    let (kind, message) = always.failure();
    assert_eq!((kind, always.asked().len()), (ErrorKind::ConfigInvalid, 2));
    assert!(message.contains("time zone"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn history_that_the_project_does_not_keep_is_left_out_and_told() {
    let refused = |days: u32| {
        Said::of(
            403,
            format!(
                r#"{{"error":"Date range exceeds {days} days into the past","status":"error"}}"#
            ),
        )
    };
    let read = read_with(json!({ "start_date": "2026-10-01" }), move |asked, _| {
        if asked < "2026-11-12" {
            refused(10)
        } else {
            ok(event(asked, asked))
        }
    })
    .await;
    assert!(
        matches!(read.summary.endpoints[0].outcome, Outcome::Done),
        "{:?}",
        read.summary.endpoints[0].outcome
    );
    assert_eq!(
        read.asked(),
        ["2026-10-31 2026-11-21", "2026-11-12 2026-11-21"]
    );
    assert_eq!(read.notes().len(), 1);
    let told = "the project's plan keeps no days before 2026-11-12: they are left out";
    assert_eq!(
        read.notices.iter().filter(|notice| *notice == told).count(),
        1,
        "{:?}",
        read.notices
    );
    // Where the project's day is ahead of UTC, it is one day less. And all of what is asked for may
    // be gone.
    let ahead = read_with(json!({ "start_date": "2026-10-01" }), move |asked, _| {
        if asked < "2026-11-13" {
            refused(10)
        } else {
            ok("")
        }
    })
    .await;
    assert_eq!(
        ahead.asked(),
        [
            "2026-10-31 2026-11-21",
            "2026-11-12 2026-11-21",
            "2026-11-13 2026-11-21"
        ]
    );
    let gone = read_with(
        json!({ "start_date": "2026-10-01", "end_date": "2026-10-03" }),
        move |_, _| refused(10),
    )
    .await;
    assert!(
        matches!(gone.summary.endpoints[0].outcome, Outcome::Done) && gone.asked().len() == 1,
        "{:?}",
        gone.asked()
    );
    let always = read_with(json!({}), move |_, _| refused(10)).await;
    assert_eq!(
        (always.failure().0, always.asked().len()),
        (ErrorKind::Refused, 1),
        "the day that is kept by its own account"
    );
}

/// A project whose days can be poisoned, read by one run after the other into the same destination.
struct Project {
    server: Arc<Server>,
    poison: Arc<Mutex<Poison>>,
    destination: Arc<MemoryDestination>,
    config: serde_json::Value,
}

/// What is wrong with a server.
#[derive(Default)]
struct Poison {
    /// Days of which every request fails, and how.
    days: Vec<&'static str>,
    said: Option<Said>,
    /// True when nothing answers.
    is_down: bool,
}

impl Project {
    /// A project with an event at every noon from 2026-09-23 on: sixty days.
    fn new(days: &[&'static str], said: Said) -> Self {
        let poison = Arc::new(Mutex::new(Poison {
            days: days.to_vec(),
            said: Some(said),
            is_down: false,
        }));
        let spoiled = Arc::clone(&poison);
        let answer = move |asked: &str, _: usize| {
            let poison = spoiled.lock().unwrap();
            let (first, last) = (
                asked[..10].parse::<chrono::NaiveDate>().unwrap(),
                asked[11..21].parse::<chrono::NaiveDate>().unwrap(),
            );
            let days: Vec<String> = first
                .iter_days()
                .take_while(|day| *day <= last)
                .map(|day| day.to_string())
                .collect();
            if poison.is_down {
                return Said::of(503, "down");
            }
            let line = |day: &String| {
                let time = format!("{day}T12:00:00Z")
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap()
                    .timestamp_millis();
                format!(
                    r#"{{"event":"Buy","properties":{{"time":{time},"distinct_id":"u","$insert_id":"{day}","note":"{day}"}}}}"#
                ) + "\n"
            };
            if !poison
                .days
                .iter()
                .any(|bad| days.iter().any(|day| day == bad))
            {
                return ok(days.iter().map(line).collect::<String>());
            }
            poison.said.clone().unwrap()
        };
        let server = Arc::new(Server {
            asked: Mutex::default(),
            answer: Box::new(answer),
        });
        let config = json!({ "start_date": "2026-09-23", "exports_per_hour": 100_000 });
        Self {
            server,
            poison,
            destination: Arc::new(MemoryDestination::default()),
            config,
        }
    }

    async fn sync(&self) -> Summary {
        let (connector, clock) = connector_of(
            &self.server,
            self.config.clone(),
            Arc::new(Metrics::default()),
        );
        let source = Source {
            name: "product".to_owned(),
            connector,
            streams: Selection::Named(vec!["export".to_owned()]),
        };
        sync(Job::new("run", self.destination.clone(), vec![source]).clock(clock))
            .await
            .unwrap()
    }

    /// Exports asked for since the last time.
    fn exports(&self) -> usize {
        std::mem::take(&mut *self.server.asked.lock().unwrap()).len()
    }

    /// Days that are stored, sorted.
    fn stored(&self) -> Vec<String> {
        let mut days = self.destination.column("product", "export", "insert_id");
        days.sort();
        days
    }

    fn heal(&self) {
        *self.poison.lock().unwrap() = Poison::default();
    }
}

fn gaps(summary: &Summary) -> Vec<&str> {
    let mut names: Vec<&str> = summary.endpoints[0]
        .gaps
        .iter()
        .map(|gap| gap.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

const POISONED: [&str; 3] = ["2026-09-29", "2026-10-20", "2026-11-15"];

/// Every way in which a day can fail, and the most requests that three of sixty days cost the first
/// time and again.
fn failures() -> Vec<(&'static str, Said, usize, usize)> {
    vec![
        (
            "a server error",
            Said::of(500, r#"{"error":"unknown error"}"#),
            36,
            6,
        ),
        (
            "a refusal",
            Said::of(400, r#"{"error":"Cannot be exported"}"#),
            24,
            3,
        ),
        (
            "a line that is not an event",
            ok(event("1", "a") + "\n{\"event\":\"x\"}\n" + &event("2", "b")),
            22,
            3,
        ),
        (
            "a last line that is not an event",
            ok(event("1", "a") + "\n{\"event\":\"x\"}\n"),
            48,
            3,
        ),
        (
            "a broken connection",
            Said {
                pieces: vec![Some(Bytes::from_static(b"{\"event\"")), None],
                ..ok("")
            },
            36,
            6,
        ),
        ("a cut line", ok(event("1", "a") + "\n{\"event\":"), 36, 6),
        ("a time-out", Said::of(504, "<html>"), 60, 18),
        ("an end that came early", ok("terminated early\n"), 60, 18),
    ]
}

#[tokio::test(start_paused = true)]
async fn days_that_fail_cost_themselves_and_are_filled_once_they_are_well() {
    for (what, said, most, most_again) in failures() {
        let has_lines = what.contains("not an event");
        let project = Project::new(&POISONED, said);
        let summary = project.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Incomplete),
            "{what}: {:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(gaps(&summary), POISONED, "{what}");
        let good = project
            .stored()
            .into_iter()
            .filter(|day| day.len() == 10 && !POISONED.contains(&day.as_str()))
            .count();
        assert_eq!(good, 57, "{what}");
        assert_eq!(
            project.stored().len(),
            if has_lines {
                57 + project.stored().iter().filter(|day| day.len() == 1).count()
            } else {
                57
            },
            "{what}"
        );
        let exports = project.exports();
        assert!(exports <= most, "{what}: {exports} exports");
        // They are tried again by themselves, and no other day is.
        let summary = project.sync().await;
        assert_eq!(gaps(&summary), POISONED, "{what}");
        assert!(
            project
                .server
                .asked
                .lock()
                .unwrap()
                .iter()
                .all(|asked| POISONED.contains(&&asked[..10])),
            "{what}"
        );
        let exports = project.exports();
        assert!(
            exports <= most_again,
            "{what}: {exports} exports for the three days"
        );
        project.heal();
        let summary = project.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Done),
            "{what}: {:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(project.exports(), 3, "{what}");
        assert_eq!(
            project
                .stored()
                .into_iter()
                .filter(|day| day.len() == 10)
                .count(),
            60,
            "{what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_no_gap_and_the_slice_as_it_was() {
    for said in [
        Said::of(503, "down"),
        Said::of(500, "{}"),
        Said {
            pieces: vec![None],
            ..ok("")
        },
    ] {
        let project = Project::new(&[], said.clone());
        // The days before the slice and its oldest ones fail; the newest month is there.
        project.poison.lock().unwrap().days = vec!["2026-10-01", "2026-09-22", "2026-09-23"];
        let summary = project.sync().await;
        assert!(
            matches!(
                summary.endpoints[0].outcome,
                Outcome::Failed { .. } | Outcome::Incomplete
            ),
            "{:?}",
            summary.endpoints[0].outcome
        );
        project.heal();
        project.sync().await;
        assert_eq!(project.stored().len(), 60);
        let down = Project::new(&[], said);
        down.poison.lock().unwrap().is_down = true;
        let summary = down.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Failed { .. }),
            "{:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(gaps(&summary), [""; 0]);
        assert!(down.exports() <= 10, "eight attempts, and another day");
        down.heal();
        let summary = down.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Done),
            "{:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(
            (down.stored().len(), down.exports()),
            (60, 2),
            "as long as ever"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_export_that_is_refused_as_a_whole_is_not_looked_into() {
    for (status, body, asked) in [
        (402, "{}", 1),
        (403, r#"{"error":"no role"}"#, 1),
        (404, "{}", 1),
        (400, r#"{"error":"bad project"}"#, 2),
    ] {
        let read = read_with(json!({ "start_date": "2026-09-23" }), move |_, _| {
            Said::of(status, body)
        })
        .await;
        assert!(
            matches!(read.summary.endpoints[0].outcome, Outcome::Failed { .. }),
            "{status}"
        );
        assert_eq!(
            (read.asked().len(), read.summary.endpoints[0].gaps.len()),
            (asked, 0),
            "{status}"
        );
    }
}

/// Counts the bytes of pages that were read.
#[derive(Debug, Default)]
struct Pages(AtomicU64);

impl Observer for Pages {
    fn observe(&self, event: &Event<'_>) {
        if let Event::PageRead { bytes, .. } = event {
            self.0.fetch_add(*bytes, Ordering::Relaxed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c14_while_the_destination_stalls_nothing_more_is_read_than_it_was_given() {
    const EVENTS: usize = 40_000;
    let note = "x".repeat(400);
    let text: String = (0..EVENTS)
        .map(|n| event(&n.to_string(), &note) + "\n")
        .collect();
    let bytes = text.len() as u64;
    let (connector, clock) = connector(
        json!({}),
        move |_, _| ok(text.clone()),
        Arc::new(Metrics::default()),
    )
    .1;
    let (destination, pages) = (
        Arc::new(MemoryDestination::default()),
        Arc::new(Pages::default()),
    );
    let held = destination.hold().await;
    let source = Source {
        name: "product".to_owned(),
        connector,
        streams: Selection::Named(vec!["export".to_owned()]),
    };
    let job = Job::new("run", destination.clone(), vec![source])
        .clock(clock)
        .observer(pages.clone());
    let running = tokio::spawn(sync(job));
    while pages.0.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let given = pages.0.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(
        pages.0.load(Ordering::Relaxed),
        given,
        "it reads on while nobody takes anything"
    );
    assert!(
        given < bytes / 4,
        "{given} of {bytes} bytes are held in memory"
    );
    drop(held);
    let summary = running.await.unwrap().unwrap();
    assert!(matches!(summary.endpoints[0].outcome, Outcome::Done));
    assert_eq!(destination.rows("product", "export").len(), EVENTS);
}

#[tokio::test(start_paused = true)]
async fn several_days_that_are_larger_than_expected_are_asked_for_in_parts() {
    let big = event("1", &"x".repeat(1 << 20)) + "\n";
    let config = json!({ "start_date": "2026-11-12", "export_window_mb": 1 });
    let read = read_with(config, move |asked, _| {
        let is_day = asked[..10] == asked[11..];
        // Ten days are five megabytes, a day half a one.
        ok(if is_day {
            event(asked, asked)
        } else {
            big.repeat(5)
        })
    })
    .await;
    assert!(
        matches!(read.summary.endpoints[0].outcome, Outcome::Done),
        "{:?}",
        read.summary.endpoints[0].outcome
    );
    let asked = read.asked();
    assert_eq!(
        asked[..3],
        [
            "2026-11-12 2026-11-21",
            "2026-11-20 2026-11-21",
            "2026-11-21 2026-11-21"
        ]
    );
    assert_eq!(read.notes().len(), 10);
    assert!(
        asked.len() <= 2 + 10 + 3,
        "longer ones are tried now and then: {asked:?}"
    );
    assert!(
        read.notices
            .iter()
            .any(|notice| notice.contains("larger than it should be")),
        "{:?}",
        read.notices
    );
}

/// Exports of a hundred and twenty days of a small project, of which the given number of answers
/// break off first.
async fn exports_after(failures: usize) -> usize {
    let answer = move |_: &str, before: usize| {
        if before < failures {
            ok("terminated early\n")
        } else {
            ok(event("1", "a"))
        }
    };
    let read = read_with(
        json!({ "start_date": "2026-07-25", "exports_per_hour": 100_000 }),
        answer,
    )
    .await;
    assert!(
        matches!(read.summary.endpoints[0].outcome, Outcome::Done),
        "{failures}"
    );
    read.asked().len()
}

#[tokio::test(start_paused = true)]
async fn b6_a_short_outage_does_not_make_a_long_history_expensive() {
    let undisturbed = exports_after(0).await;
    assert_eq!(undisturbed, 4, "a month each");
    for failures in [1, 3, 8] {
        let more = exports_after(failures).await - failures - undisturbed;
        assert!(
            more <= 16,
            "{failures} answers that broke off cost {more} exports more"
        );
    }
}

/// `d13`: the mark is at the start of the body, or of a line that was appended to it.
#[tokio::test(start_paused = true)]
async fn a15_a_byte_order_mark_is_not_a_part_of_an_event() {
    let (first, second) = (event("1", "a"), event("2", "b"));
    for text in [
        format!("\u{feff}{first}\n{second}\n"),
        format!("{first}\n\u{feff}{second}\n"),
        format!("\u{feff}\n{first}\r\n\u{feff}{second}"),
    ] {
        let said = ok(text.clone());
        let read = read(move |_, _| said.clone()).await;
        assert_eq!(
            (read.notes(), read.asked().len()),
            (vec!["a".to_owned(), "b".to_owned()], 1),
            "{text:?}"
        );
        assert!(
            matches!(read.summary.endpoints[0].outcome, Outcome::Done),
            "{text:?}"
        );
    }
}
