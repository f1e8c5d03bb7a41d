//! The real transport over a real socket.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

/// Answers each connection with the next of the given bytes, then closes it. Gives the port and the
/// requests.
async fn serve(answers: Vec<Vec<u8>>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap();
            seen.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&request[..length]).into_owned());
            socket.write_all(&answer).await.unwrap();
            socket.shutdown().await.unwrap();
        }
    });
    (port, requests)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [
        format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes(),
        body,
    ]
    .concat()
}

fn local(port: u16) -> (HttpClient, Request) {
    let base = Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let retry = RetryPolicy {
        min_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let context = BuildContext {
        retry,
        connect_timeout: Duration::from_secs(2),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, base.clone())
        .authenticator(ApiKey::query("api_key", "s3cret".into()))
        .build()
        .unwrap();
    let mut request = Request::new(Method::GET, base.join("v1/things").unwrap());
    request.set_query("from", "a b&c");
    (client, request)
}

#[tokio::test]
async fn compressed_and_cut_bodies_over_the_wire() {
    let json = b"{\"data\": [1, 2, 3]}";
    let zipped = gzip(json).await;
    let (port, requests) = serve(vec![
        answer("200 OK\r\ncontent-length: 500", b"{\"data\": []}"),
        answer("200 OK\r\ntransfer-encoding: chunked", b"5\r\n{\"dat\r\n"),
        Vec::new(),
        answer(
            &format!(
                "200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}",
                zipped.len()
            ),
            &zipped,
        ),
    ])
    .await;
    let (client, request) = local(port);
    let response = client.send(&request, &NO_LIMIT).await.unwrap();
    assert_eq!(response.body, json.as_slice());
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert!(
        requests[0].starts_with("GET /v1/things?api_key=s3cret&from=a+b%26c HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
    assert!(
        requests[0].contains("accept-encoding: gzip, zstd\r\n")
            && requests[0].contains("user-agent: pipeline/"),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (client, request) = local(port);
    let error = client.send(&request, &NO_LIMIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (
            ErrorKind::Unavailable,
            "cannot connect to 127.0.0.1: connection refused"
        )
    );
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (port, requests) = serve(vec![answer(
        "302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0",
        b"",
    )])
    .await;
    let (client, request) = local(port);
    let error = client.send(&request, &NO_LIMIT).await.unwrap_err();
    assert_eq!(
        (
            error.context_value("redirect_host"),
            requests.lock().unwrap().len()
        ),
        (Some("127.0.0.1"), 1)
    );
}

#[tokio::test]
async fn a12_headers_that_are_too_many_or_too_large_are_a_clear_error() {
    let many: String = (0..10_000)
        .map(|number| format!("\r\nx-{number}: 1"))
        .collect::<Vec<_>>()
        .concat();
    let large = format!("\r\nx-large: {}", "a".repeat(1 << 20));
    for headers in [many, large] {
        let (port, requests) = serve(vec![
            answer(
                &format!("200 OK{headers}\r\ncontent-length: 2"),
                b"{}"
            );
            2
        ])
        .await;
        let (client, request) = local(port);
        let error = client.send(&request, &NO_LIMIT).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (
                ErrorKind::Decode,
                "the headers of the response are too many or too large"
            )
        );
        assert_eq!(requests.lock().unwrap().len(), 1, "it is final");
    }
}

#[tokio::test]
async fn a01_a_name_without_an_address_is_named() {
    let base = Url::parse("https://no-such-host.invalid").unwrap();
    let retry = RetryPolicy {
        max_attempts: 2,
        min_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let client = HttpClient::builder(
        &BuildContext {
            retry,
            ..BuildContext::default()
        },
        base.clone(),
    )
    .build()
    .unwrap();
    let error = client
        .send(&Request::new(Method::GET, base), &NO_LIMIT)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (
            ErrorKind::Unavailable,
            "cannot resolve host no-such-host.invalid"
        )
    );
}
