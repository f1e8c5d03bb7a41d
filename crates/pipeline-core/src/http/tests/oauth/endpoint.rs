//! The token endpoint is asked as every other one.

use super::*;

/// What comes of getting a token with answers, and after how many requests.
async fn refusal(
    observer: &Arc<Events>,
    script: impl Fn(usize) -> Reply + Send + Sync + 'static,
) -> (Error, usize) {
    let transport = Scripted::new(move |n, _| script(n));
    let context = context(&transport).observer(Arc::clone(observer) as _);
    let auth = rotating(&context);
    let error = auth.authenticate(&mut request()).await.unwrap_err();
    (error, transport.count())
}

#[tokio::test(start_paused = true)]
async fn the_token_endpoint_is_asked_as_every_other_endpoint() {
    let events = Arc::new(Events::default());
    let (error, requests) = refusal(&events, |_| {
        Reply::status(503, "{\"was\": \"s3cret first\"}").header("x-request-id", "r-1")
    })
    .await;
    assert_eq!((error.kind(), requests), (ErrorKind::Unavailable, 4));
    assert_eq!(
        ["endpoint", "path", "status", "request_id", "answer"].map(|key| error.context_value(key)),
        [
            Some("token"),
            Some("/oauth/tokens"),
            Some("503"),
            Some("r-1"),
            None
        ],
        "its answers hold tokens, and are not quoted"
    );
    let events = events.0.lock().unwrap().clone();
    let attempts = events.iter().filter(|event| event.starts_with("Attempt"));
    let retries = events.iter().filter(|event| event.starts_with("Retrying"));
    assert_eq!((attempts.count(), retries.count()), (4, 3), "{events:#?}");
    let shown = format!("{events:?} {error:?}");
    assert!(
        !shown.contains("s3cret") && !shown.contains("first"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_of_the_token_endpoint_ends_the_run_and_says_until_when() {
    let events = Arc::new(Events::default());
    let (error, requests) = refusal(&events, |_| {
        Reply::status(429, "").header("retry-after", "3600")
    })
    .await;
    assert_eq!((error.kind(), requests), (ErrorKind::RateLimited, 1));
    assert!(error.context_value("resume_at").is_some(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_not_oauths_is_not_taken_for_one() {
    let cases = [
        (
            404,
            "{\"error\": {\"title\": \"No such path\"}}",
            ErrorKind::Refused,
            1,
        ),
        (400, "{\"error\": \"invalid_gr", ErrorKind::Decode, 4),
        (403, "<html></html>", ErrorKind::Unauthenticated, 1),
        (401, "", ErrorKind::Unauthenticated, 1),
        (407, "", ErrorKind::ConfigInvalid, 1),
        (200, "{\"access_token\": \"to", ErrorKind::Decode, 4),
        (200, "{\"token\": 1}", ErrorKind::Decode, 1),
    ];
    for (status, body, kind, requests) in cases {
        let events = Arc::new(Events::default());
        let (error, asked) = refusal(&events, move |_| Reply::status(status, body)).await;
        assert_eq!((error.kind(), asked), (kind, requests), "{status} {body}");
    }
}
