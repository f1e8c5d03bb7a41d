//! A whole service on tokio's paused clock, with a runner and a receiver of alerts in memory.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::TokioClock;
use pipeline_core::http::{HeaderMap, RawResponse, Request, StatusCode, TransportError};
use pipeline_core::webhook::{Rejection, WebhookHint, WebhookReader};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::*;
use crate::runner::{Ended, Order, Stored, StoredStream, Verdict};
use crate::schedule::Schedule;
use crate::settings::{AlertSettings, Freshness, SourceSettings, WebhookSettings};

const URL: &str = "https://example.com/hook/0hush0";

/// How the next runs end, the last of them for ever.
#[derive(Debug)]
struct Scripted {
    verdicts: Mutex<Vec<Verdict>>,
    /// How long a run takes unless it is cancelled.
    takes: Duration,
    started: Mutex<Vec<(String, DateTime<Utc>)>>,
    /// What each run was for; nothing: everything.
    targets: Mutex<Vec<Vec<String>>>,
    succeeded: Mutex<Option<DateTime<Utc>>>,
    next: Mutex<Result<Settings, String>>,
    clock: TokioClock,
}

#[async_trait]
impl Runner for Scripted {
    async fn run(&self, order: Order) -> Ended {
        let start = (order.source.clone(), self.clock.now());
        self.started.lock().unwrap().push(start);
        let targets = order.targets.into_iter().collect();
        self.targets.lock().unwrap().push(targets);
        tokio::select! {
            () = tokio::time::sleep(self.takes) => {}
            () = order.cancel.cancelled() => {
                return Ended::failed(Verdict::Interrupted, 4, "stopped");
            }
        }
        let verdict = {
            let mut verdicts = self.verdicts.lock().unwrap();
            if verdicts.len() > 1 {
                verdicts.remove(0)
            } else {
                verdicts[0]
            }
        };
        assert_ne!(order.source, "panics", "a defect in a run");
        if verdict == Verdict::Done {
            *self.succeeded.lock().unwrap() = Some(self.clock.now());
        }
        Ended::failed(verdict, 4, "no answer (request_id: req_7)")
    }

    async fn stored(&self) -> Result<Stored, String> {
        let succeeded = *self.succeeded.lock().unwrap();
        let stream = StoredStream {
            source: "a".to_owned(),
            stream: "charges".to_owned(),
            rows: 7,
            state: "complete".to_owned(),
            available: true,
            succeeded,
            cursor: None,
            missing: Vec::new(),
            error: None,
        };
        Ok(Stored {
            streams: vec![stream],
            runs: Vec::new(),
        })
    }

    fn reload(&self) -> Result<Settings, String> {
        self.next.lock().unwrap().clone()
    }

    fn redact(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// Receives alerts, and fails so many times before that.
#[derive(Debug, Default)]
struct Receiver {
    failures: AtomicUsize,
    received: Mutex<Vec<Value>>,
}

#[async_trait]
impl HttpService for Receiver {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        assert_eq!(request.url.as_str(), URL);
        let failing = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        let status = if failing {
            StatusCode::BAD_GATEWAY
        } else {
            let alert = serde_json::from_slice(&request.body).unwrap();
            self.received.lock().unwrap().push(alert);
            StatusCode::OK
        };
        Ok(RawResponse::full(status, HeaderMap::new(), ""))
    }
}

impl Receiver {
    fn events(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let word = |alert: &Value| {
            let part = |name: &str| alert[name].as_str().unwrap().to_owned();
            format!("{} {} {}", part("source"), part("event"), part("status"))
        };
        received.iter().map(word).collect()
    }
}

struct Stage {
    folder: tempfile::TempDir,
    runner: Arc<Scripted>,
    receiver: Arc<Receiver>,
    clock: TokioClock,
}

impl Stage {
    fn new(verdicts: &[Verdict]) -> Self {
        let clock = TokioClock::starting_at("2026-11-30T10:00:01Z".parse().unwrap());
        let runner = Scripted {
            verdicts: Mutex::new(verdicts.to_vec()),
            takes: Duration::from_secs(5),
            started: Mutex::default(),
            targets: Mutex::default(),
            succeeded: Mutex::default(),
            next: Mutex::new(Err("line 3 is wrong".to_owned())),
            clock,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            runner: Arc::new(runner),
            receiver: Arc::default(),
            clock,
        }
    }

    fn start(
        &self,
        sources: Vec<SourceSettings>,
    ) -> (Handle, JoinHandle<Result<(), ServiceError>>) {
        let service = Service::new(
            settings(self.folder.path(), sources),
            Arc::clone(&self.runner) as _,
            Arc::new(self.clock),
            Arc::clone(&self.receiver) as _,
        );
        (service.handle(), tokio::spawn(service.serve()))
    }

    /// Seconds from the beginning to each start of a source.
    fn starts(&self) -> Vec<i64> {
        let begin: DateTime<Utc> = "2026-11-30T10:00:00Z".parse().unwrap();
        let started = self.runner.started.lock().unwrap();
        started
            .iter()
            .map(|(_, at)| (*at - begin).num_seconds())
            .collect()
    }
}

fn settings(folder: &Path, sources: Vec<SourceSettings>) -> Settings {
    Settings {
        listen: None,
        token: None,
        state: folder.to_owned(),
        jitter: Duration::ZERO,
        max_runs: 4,
        sources,
        alerts: AlertSettings {
            webhook: Some(URL.into()),
            ..AlertSettings::default()
        },
    }
}

fn every(name: &str, seconds: u64) -> SourceSettings {
    SourceSettings {
        schedule: Some(Schedule::every(Duration::from_secs(seconds)).unwrap()),
        ..SourceSettings::new(name)
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn runs_start_when_they_are_due_and_stop_when_the_service_does() {
    let stage = Stage::new(&[Verdict::Done]);
    let (handle, service) = stage.start(vec![every("a", 60)]);
    pass(182).await;
    // At once, because it was never run; then at each minute. Times are those of the schedule.
    assert_eq!(stage.starts(), [1, 60, 120, 180]);
    // The fourth is under way.
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
    assert_eq!(stage.starts().len(), 4);
    // It was stopped, so it goes on when the service is back; the minute after that is as ever.
    let (handle, service) = stage.start(vec![every("a", 60)]);
    pass(60).await;
    assert_eq!(stage.starts().len(), 6, "{:?}", stage.starts());
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
    assert_eq!(
        stage.receiver.events(),
        [] as [&str; 0],
        "a stop is not a failure"
    );
}

/// What is asked of a vendor's webhooks once they are stored.
#[derive(Debug)]
struct Settles(u64);

impl WebhookReader for Settles {
    fn read(
        &self,
        _headers: &HeaderMap,
        _body: &[u8],
        _now: DateTime<Utc>,
    ) -> Result<WebhookHint, Rejection> {
        Err(Rejection::Unreadable)
    }

    fn settles_after(&self) -> Duration {
        Duration::from_secs(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn what_webhooks_asked_for_before_the_process_was_killed_is_read_alone() {
    let stage = Stage::new(&[Verdict::Failed, Verdict::Done]);
    let wishes = r#"{"version":1,"wishes":{"a":["charges"],"gone":["users"]}}"#;
    let path = stage.folder.path().join("wishes.json");
    std::fs::write(&path, wishes).unwrap();
    let source = SourceSettings {
        schedule: Some(Schedule::cron("0 12 * * *", chrono_tz::Tz::UTC).unwrap()),
        webhook: Some(WebhookSettings {
            reader: Arc::new(Settles(7)),
            streams: ["charges".to_owned()].into(),
        }),
        ..SourceSettings::new("a")
    };
    let (handle, service) = stage.start(vec![source]);
    // The first run fails after 5 s and is made again 10 s later.
    pass(120).await;
    assert_eq!(stage.starts(), [8, 23]);
    let targets = stage.runner.targets.lock().unwrap().clone();
    assert_eq!(targets, [["charges"], ["charges"]]);
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        r#"{"version":1,"wishes":{}}"#
    );
    // That a part could be read does not show that all can.
    assert_eq!(stage.receiver.events(), ["a failed raised"]);
    pass(7_200).await;
    assert_eq!(stage.runner.targets.lock().unwrap()[2], [""; 0]);
    assert_eq!(
        stage.receiver.events(),
        ["a failed raised", "a failed resolved"]
    );
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_alerted_once_across_restarts_and_its_end_once() {
    let stage = Stage::new(&[
        Verdict::Failed,
        Verdict::Failed,
        Verdict::Failed,
        Verdict::Done,
    ]);
    for _ in 0..3 {
        let (handle, service) = stage.start(vec![every("a", 60)]);
        pass(70).await;
        handle.send(Command::ShutDown);
        service.await.unwrap().unwrap();
    }
    assert_eq!(
        stage.receiver.events(),
        ["a failed raised", "a failed resolved"]
    );
    let received = stage.receiver.received.lock().unwrap();
    assert_eq!(received[0]["error"], "no answer (request_id: req_7)");
    assert_eq!(received[0]["exit_code"], 4);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_is_tried_three_times_and_never_holds_up_a_run() {
    let stage = Stage::new(&[Verdict::Failed]);
    stage.receiver.failures.store(2, Ordering::Relaxed);
    let (handle, service) = stage.start(vec![every("a", 60)]);
    pass(30).await;
    assert_eq!(
        stage.receiver.events(),
        ["a failed raised"],
        "the third try"
    );
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();

    let stage = Stage::new(&[Verdict::Failed, Verdict::Done]);
    stage.receiver.failures.store(usize::MAX, Ordering::Relaxed);
    let (handle, service) = stage.start(vec![every("a", 60)]);
    pass(190).await;
    assert_eq!(stage.starts(), [1, 60, 120, 180]);
    stage.receiver.failures.store(0, Ordering::Relaxed);
    pass(60).await;
    assert_eq!(
        stage.receiver.events(),
        [] as [&str; 0],
        "given up, not saved up"
    );
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn data_that_grows_old_is_alerted_even_when_the_service_was_down() {
    let fresh = SourceSettings {
        freshness: Freshness {
            default: Some(Duration::from_hours(2)),
            ..Freshness::default()
        },
        ..SourceSettings::new("a")
    };
    let stage = Stage::new(&[Verdict::Done]);
    // It succeeded long before the service came back.
    *stage.runner.succeeded.lock().unwrap() = Some(stage.clock.now() - TimeDelta::hours(5));
    let (handle, service) = stage.start(vec![fresh]);
    pass(120).await;
    assert_eq!(stage.receiver.events(), ["a stale raised"]);
    handle.send(Command::RunNow("a".to_owned()));
    pass(60).await;
    assert_eq!(
        stage.receiver.events(),
        ["a stale raised", "a stale resolved"]
    );
    // A hanging source grows old, too: two hours and a look later.
    pass(7_200 + 120).await;
    assert_eq!(stage.receiver.events().len(), 3);
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broken_configuration_changes_nothing_and_a_good_one_at_once() {
    let stage = Stage::new(&[Verdict::Done]);
    let (handle, service) = stage.start(vec![every("a", 600)]);
    pass(60).await;
    handle.send(Command::Reload);
    pass(600).await;
    assert_eq!(stage.starts(), [1, 600]);
    let next = settings(stage.folder.path(), vec![every("b", 60)]);
    *stage.runner.next.lock().unwrap() = Ok(next);
    handle.send(Command::Reload);
    pass(65).await;
    let started = stage.runner.started.lock().unwrap().clone();
    let names: Vec<&str> = started.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "a", "b", "b"]);
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_end_of_one_run() {
    let stage = Stage::new(&[Verdict::Done]);
    let (handle, service) = stage.start(vec![every("panics", 60), every("b", 60)]);
    pass(130).await;
    assert_eq!(stage.starts().len(), 6, "both go on");
    assert_eq!(stage.receiver.events(), ["panics failed raised"]);
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_services_do_not_share_a_folder() {
    let stage = Stage::new(&[Verdict::Done]);
    let (handle, service) = stage.start(vec![every("a", 60)]);
    pass(1).await;
    let (_, second) = stage.start(vec![every("a", 60)]);
    assert!(matches!(
        second.await.unwrap(),
        Err(ServiceError::State(StateError::InUse(_)))
    ));
    handle.send(Command::ShutDown);
    service.await.unwrap().unwrap();
}
