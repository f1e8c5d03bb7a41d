//! Who may see and do what, on a real socket.

#![allow(clippy::unwrap_used)]

mod webhooks;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_core::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::metrics::Metrics;
use crate::runner::{Ended, Stored, StoredStream, Verdict};
use crate::service::Handle;
use crate::settings::SourceSettings;
use crate::supervisor::{Phase, Seen};
use crate::wishes::Wishes;

const TOKEN: &str = "0123456789abcdef-token";

/// A view with one source whose names and errors hold what a page must not take for markup.
fn view() -> View {
    let at: DateTime<Utc> = "2026-11-30T10:00:00Z".parse().unwrap();
    let seen = Seen {
        next: Some(at + Duration::from_secs(90)),
        phase: Phase::Idle,
        paused: false,
        again: false,
    };
    let stream = StoredStream {
        source: "payments".to_owned(),
        stream: "charges".to_owned(),
        rows: 12_345,
        state: "complete".to_owned(),
        available: true,
        succeeded: Some(at - Duration::from_mins(1)),
        cursor: None,
        missing: vec![("customer <b>7</b>".to_owned(), "no access".to_owned())],
        error: None,
    };
    let failed = Ended::failed(Verdict::Failed, 4, "<script>alert(1)</script>");
    View {
        at,
        sources: BTreeMap::from([("payments".to_owned(), seen)]),
        settings: vec![SourceSettings::new("payments")],
        lives: BTreeMap::new(),
        stored: Arc::new(Stored {
            streams: vec![stream],
            runs: Vec::new(),
        }),
        last: BTreeMap::from([("payments".to_owned(), failed)]),
        raised: BTreeMap::new(),
        unreadable: None,
        webhooks: BTreeMap::new(),
    }
}

struct Served {
    address: String,
    commands: UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    /// What is on the disk.
    folder: tempfile::TempDir,
}

async fn served(token: Option<&str>) -> Served {
    served_view(token, view()).await
}

async fn served_view(token: Option<&str>, view: View) -> Served {
    let (sender, commands) = unbounded_channel();
    let folder = tempfile::tempdir().unwrap();
    let shared = Arc::new(Shared::new(
        Arc::new(Metrics::new()),
        Wishes::open(folder.path(), SystemClock.now()),
        Handle::of(sender),
        Arc::new(SystemClock),
    ));
    shared.show(view);
    shared.set_ready(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve(
        listener,
        Arc::clone(&shared),
        token.map(SecretString::from),
    ));
    Served {
        address,
        commands,
        shared,
        folder,
    }
}

impl Served {
    /// Sends a request as it is written, and returns what comes back, headers and all.
    async fn send(&self, request: &str, headers: &[&str]) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let host = if headers.iter().any(|header| header.starts_with("Host:")) {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let headers = [headers, &[""]].concat().join("\r\n");
        let text = format!("{request} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn status(&self, request: &str, headers: &[&str]) -> u16 {
        let answer = self.send(request, headers).await;
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn without_a_token_only_this_machine_by_its_own_name_is_served() {
    let mut served = served(None).await;
    for host in [
        "localhost",
        "localhost:8080",
        "127.0.0.1",
        "[::1]:8080",
        "127.1.2.3:1",
    ] {
        let header = format!("Host: {host}");
        assert_eq!(served.status("GET /", &[&header]).await, 200, "{host}");
    }
    // A site whose name was made to lead here.
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
    ] {
        let header = format!("Host: {host}");
        for request in ["GET /", "GET /metrics", "POST /sources/payments/run"] {
            assert_eq!(
                served.status(request, &[&header]).await,
                403,
                "{host} {request}"
            );
        }
    }
    assert!(served.commands.try_recv().is_err(), "nothing was done");
}

#[tokio::test]
async fn what_changes_something_comes_from_this_page() {
    let mut served = served(None).await;
    let own = format!("Origin: http://{}", served.address);
    let post = "POST /sources/payments/run";
    for foreign in [
        "Origin: https://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        assert_eq!(served.status(post, &[foreign]).await, 403, "{foreign}");
    }
    assert!(served.commands.try_recv().is_err());
    // A form of the page, its script, and a person's curl.
    for headers in [&[own.as_str()][..], &["Sec-Fetch-Site: same-origin"], &[]] {
        assert_eq!(served.status(post, headers).await, 202, "{headers:?}");
        let command = served.commands.try_recv().unwrap();
        assert_eq!(command, Command::RunNow("payments".to_owned()));
    }
    assert_eq!(served.status(post, &[&own, "Accept: text/html"]).await, 303);
    for unknown in ["POST /sources/other/run", "POST /sources/payments/drop"] {
        assert_eq!(served.status(unknown, &[]).await, 404);
    }
    assert_eq!(served.status("GET /sources/payments/run", &[]).await, 405);
}

#[tokio::test]
async fn with_a_token_everything_but_health_asks_for_it() {
    let served = served(Some(TOKEN)).await;
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let anywhere = "Host: pipeline.internal";
    for request in [
        "GET /",
        "GET /metrics",
        "GET /live",
        "POST /sources/payments/run",
    ] {
        assert_eq!(served.status(request, &[anywhere]).await, 401, "{request}");
        let wrong = "Authorization: Bearer 0123456789abcdef-tokem";
        assert_eq!(
            served.status(request, &[anywhere, wrong]).await,
            401,
            "{request}"
        );
    }
    assert_eq!(
        served.status("GET /metrics", &[anywhere, &bearer]).await,
        200
    );
    assert_eq!(served.status("GET /health", &[anywhere]).await, 200);
    assert_eq!(served.status("GET /ready", &[anywhere]).await, 200);
    // A person is led to the form, and the cookie does not hold the token.
    let page = served.send("GET /", &["Accept: text/html"]).await;
    assert!(
        page.contains("303") && page.contains("location: /login"),
        "{page}"
    );
    let log_in = |token: &str| {
        let body = format!("token={token}");
        let request = "POST /login";
        let length = format!("Content-Length: {}", body.len());
        let kind = "Content-Type: application/x-www-form-urlencoded";
        (request, length, kind, body)
    };
    for (token, is_right) in [(TOKEN, true), ("0123456789abcdef-wrong", false)] {
        let (request, length, kind, body) = log_in(token);
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        let text = format!(
            "{request} HTTP/1.1\r\nHost: x\r\n{length}\r\n{kind}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.contains(TOKEN), "{answer}");
        let cookie = answer
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        assert_eq!(cookie.is_some(), is_right, "{answer}");
        if let Some(cookie) = cookie {
            assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
            let session = cookie.split(';').next().unwrap();
            let header = format!("Cookie: theme=dark; {session}");
            assert_eq!(served.status("GET /", &[&header]).await, 200);
            let forged = format!("{header}0");
            assert_eq!(served.status("GET /", &[&forged]).await, 401);
            // Another site that makes the browser send the cookie along does nothing.
            let post = "POST /sources/payments/run";
            let foreign = "Origin: https://evil.example";
            assert_eq!(served.status(post, &[&header, foreign]).await, 403);
        }
    }
}

#[tokio::test]
async fn text_of_vendors_is_text_and_the_page_loads_nothing_from_elsewhere() {
    let served = served(None).await;
    for path in ["/", "/sources/payments"] {
        let page = served.send(&format!("GET {path}"), &[]).await;
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
            "{page}"
        );
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(!page.contains("<b>7</b>"), "{page}");
        assert!(page.contains("default-src 'none'"), "{page}");
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "{page}"
        );
    }
    let page = served.send("GET /sources/payments", &[]).await;
    assert!(page.contains("12\u{202F}345"), "{page}");
    assert_eq!(served.status("GET /sources/other", &[]).await, 404);
    for asset in ["/style.css", "/page.js"] {
        let text = served.send(&format!("GET {asset}"), &[]).await;
        assert!(text.contains("200 OK") && !text.contains("://"), "{asset}");
    }
}

#[tokio::test]
async fn figures_come_in_the_format_that_is_asked_for() {
    let served = served(None).await;
    let open = served
        .send(
            "GET /metrics",
            &["Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"],
        )
        .await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.contains("# EOF"));
    let plain = served.send("GET /metrics", &["Accept: */*"]).await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4"));
}

#[tokio::test]
async fn a_service_that_ends_is_not_ready() {
    let served = served(None).await;
    assert_eq!(served.status("GET /ready", &[]).await, 200);
    served.shared.set_ready(false);
    assert_eq!(served.status("GET /ready", &[]).await, 503);
    assert_eq!(served.status("GET /health", &[]).await, 200);
}

#[test]
fn two_hundred_streams_and_all_runs_that_are_kept_are_still_a_small_page() {
    let mut view = view();
    let stored = Arc::make_mut(&mut view.stored);
    let one = stored.streams[0].clone();
    stored.streams = (0..200)
        .map(|number| StoredStream {
            stream: format!("stream_{number}"),
            missing: vec![("unit".to_owned(), "no access".to_owned()); 200],
            ..one.clone()
        })
        .collect();
    let sources = vec!["payments".to_owned()];
    stored.runs = (0..pipeline_core::RUN_CAPACITY)
        .map(|number| pipeline_core::RunRecord {
            took: Some(Duration::from_secs(number as u64)),
            rows: number as u64,
            ..pipeline_core::RunRecord::started(format!("r{number}"), view.at, sources.clone())
        })
        .collect();
    let start = tokio::time::Instant::now();
    let overview = page::overview(&view, false).into_string();
    let source = page::source(&view, "payments", false)
        .unwrap()
        .into_string();
    let took = start.elapsed();
    assert!(overview.len() < 100_000, "{}", overview.len());
    assert!(source.len() < 1_000_000, "{}", source.len());
    // Far from what a person notices, on a slow machine and without optimization.
    assert!(took < Duration::from_secs(1), "{took:?}");
}
