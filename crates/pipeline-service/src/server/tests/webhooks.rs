//! Webhooks on a real socket: what is believed, what is answered, and what is on the disk then.

use std::collections::BTreeSet;

use pipeline_core::webhook::{Rejection, WebhookHint, WebhookReader};

use super::*;
use crate::settings::WebhookSettings;

/// Believes what a header says is signed. The body is the name of a stream.
#[derive(Debug)]
struct Vendor;

impl WebhookReader for Vendor {
    fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        _now: DateTime<Utc>,
    ) -> Result<WebhookHint, Rejection> {
        match headers.get("x-signed").map(HeaderValue::as_bytes) {
            Some(b"yes") => Ok(WebhookHint {
                id: headers
                    .get("x-id")
                    .map(|id| id.to_str().unwrap().to_owned()),
                kind: "thing.happened".to_owned(),
                streams: BTreeSet::from([String::from_utf8_lossy(body).into_owned()]),
            }),
            Some(b"then") => Err(Rejection::Stale),
            _ => Err(Rejection::Forged),
        }
    }

    fn settles_after(&self) -> Duration {
        Duration::ZERO
    }
}

async fn receiver() -> Served {
    let mut view = view();
    view.settings[0].webhook = Some(WebhookSettings {
        reader: Arc::new(Vendor),
        streams: BTreeSet::from(["charges".to_owned()]),
    });
    served_view(Some(TOKEN), view).await
}

impl Served {
    /// Sends a webhook. Returns status and body.
    async fn hook(&self, source: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let headers = [headers, &[""]].concat().join("\r\n");
        let head = format!(
            "POST /hooks/{source} HTTP/1.1\r\nHost: pipeline.example\r\nContent-Length: {}\r\n\
             {headers}Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has refused it may have closed the connection.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).map_or(0, |it| it.parse().unwrap());
        let body = answer.split_once("\r\n\r\n").map_or("", |it| it.1);
        (status, body.to_owned())
    }

    fn wishes(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("wishes.json")).unwrap_or_default()
    }

    async fn count(&self, result: &str) -> String {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let metrics = self.send("GET /metrics", &[&bearer]).await;
        let start = format!("pipeline_webhooks_total{{source=\"payments\",result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_webhook_needs_a_proof_and_no_token_and_is_stored_when_it_is_answered() {
    let served = receiver().await;
    for (headers, body) in [
        (&[][..], "the webhook's signature is wrong\n"),
        (
            &["X-Signed: then"],
            "the webhook was sent too long ago, or a clock is wrong\n",
        ),
    ] {
        let refused = served.hook("payments", headers, b"charges").await;
        assert_eq!(refused, (400, body.to_owned()));
    }
    assert_eq!(served.wishes(), "");
    let signed = ["X-Signed: yes", "X-Id: evt_1"];
    let accepted = served.hook("payments", &signed, b"charges").await;
    assert_eq!(accepted, (200, "accepted\n".to_owned()));
    assert_eq!(
        served.wishes(),
        r#"{"version":1,"wishes":{"payments":["charges"]}}"#
    );
    let again = served.hook("payments", &signed, b"charges").await;
    assert_eq!(again, (200, "accepted before\n".to_owned()));
    let other = served.hook("payments", &signed[..1], b"refunds").await;
    assert_eq!(other, (200, "no stream of this source\n".to_owned()));
    assert_eq!(served.hook("unknown", &signed, b"charges").await.0, 404);
    assert_eq!(served.status("GET /hooks/payments", &[]).await, 405);
    for (result, count) in [
        ("accepted", "1"),
        ("duplicate", "1"),
        ("ignored", "1"),
        ("refused", "2"),
        ("busy", "0"),
    ] {
        assert_eq!(served.count(result).await, count, "{result}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_cannot_be_stored_is_not_accepted() {
    let served = receiver().await;
    let large = vec![b'x'; (1 << 20) + 1];
    let (status, _) = served.hook("payments", &["X-Signed: yes"], &large).await;
    assert!(matches!(status, 0 | 413), "{status}");
    assert_eq!(served.count("refused").await, "1");
    std::fs::remove_dir_all(served.folder.path()).unwrap();
    let failed = served
        .hook("payments", &["X-Signed: yes"], b"charges")
        .await;
    assert_eq!(failed, (503, "it cannot be stored\n".to_owned()));
    std::fs::create_dir_all(served.folder.path()).unwrap();
    let stored = served
        .hook("payments", &["X-Signed: yes"], b"charges")
        .await;
    assert_eq!(stored.0, 200);
    served.shared.set_ready(false);
    let stopping = served
        .hook("payments", &["X-Signed: yes"], b"charges")
        .await;
    assert_eq!(stopping, (503, "the service is stopping\n".to_owned()));
}

#[tokio::test]
async fn a_source_without_webhooks_says_so() {
    let served = served(None).await;
    let answer = served
        .hook("payments", &["X-Signed: yes"], b"charges")
        .await;
    let text = "this source receives no webhooks: it has no [sources.NAME.webhook]\n";
    assert_eq!(answer, (404, text.to_owned()));
}

/// Clients that send a body slowly take the places that there are, and no memory beyond that.
#[tokio::test]
async fn more_clients_than_places_are_told_to_come_again() {
    let served = receiver().await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        let head = "POST /hooks/payments HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nchar";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let start = tokio::time::Instant::now();
    let mut answer = served
        .hook("payments", &["X-Signed: yes"], b"charges")
        .await;
    while answer.0 != 503 {
        assert!(start.elapsed() < Duration::from_secs(5), "{answer:?}");
        answer = served
            .hook("payments", &["X-Signed: yes"], b"charges")
            .await;
    }
    assert_eq!(answer.1, "too many webhooks at once\n");
    // The page is there for a person nevertheless.
    assert_eq!(served.status("GET /health", &[]).await, 200);
    drop(slow);
    while served
        .hook("payments", &["X-Signed: yes"], b"charges")
        .await
        .0
        != 200
    {
        assert!(
            start.elapsed() < Duration::from_secs(9),
            "places are given back"
        );
    }
}
