//! No secret in an error, an event or a debug print.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;

use super::*;

const SECRET: &str = "sk_live_\"51/H+x=y\"";

/// The secret in every form in which it may leak.
fn forms() -> Vec<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let escaped = serde_json::to_string(SECRET).unwrap();
    let pair = format!("user:{SECRET}");
    vec![SECRET.to_owned(), encoded, escaped.trim_matches('"').to_owned(), BASE64_STANDARD.encode(SECRET), BASE64_STANDARD.encode(pair)]
}

/// Echoes all it was sent.
fn echo(status: u16) -> Arc<Scripted> {
    Scripted::new(move |_, request| {
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let raw =
            format!("got {} with {} and {SECRET} at {}", headers.join("; "), serde_json::to_string(SECRET).unwrap(), request.full_url());
        Reply::status(status, raw)
    })
}

async fn scan(status: u16, authenticate: impl Fn(HttpClientBuilder) -> HttpClientBuilder) {
    let events = Arc::new(Events::default());
    let transport = echo(status);
    let context = BuildContext { observer: Arc::clone(&events) as _, ..context(&transport) };
    let client = authenticate(HttpClient::builder(&context, base())).build().unwrap();
    let mut request = request();
    request.set_query("q", "visible");
    let error = client.send(&request, &NO_LIMIT).await.unwrap_err();
    let shown = format!("{error} {error:?} {client:?} {request:?} {}", events.0.lock().unwrap().join(" "));
    for form in forms() {
        assert!(!shown.contains(&form), "{form} in {shown}");
    }
    assert!(!shown.contains("visible"), "no query string: {shown}");
    if status == 400 {
        assert!(shown.contains("[redacted]"), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn e07_e09_whatever_the_server_echoes() {
    for status in [400, 401, 500] {
        let key = || SecretString::from(SECRET);
        scan(status, |builder| builder.authenticator(Bearer::new(key()))).await;
        scan(status, |builder| builder.authenticator(Basic::new(&"user".into(), &key()))).await;
        scan(status, |builder| builder.authenticator(Basic::new(&key(), &"".into()))).await;
        scan(status, |builder| builder.authenticator(ApiKey::header(HeaderName::from_static("x-api-key"), key()))).await;
        scan(status, |builder| builder.authenticator(ApiKey::query("api_key", key()))).await;
    }
}

#[test]
fn debug_prints_hold_no_secret() {
    let key = || SecretString::from(SECRET);
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        Bearer::new(key()),
        Basic::new(&"user".into(), &key()),
        ApiKey::query("k", key()),
        ApiKey::header(HeaderName::from_static("x-k"), key())
    );
    for form in forms() {
        assert!(!shown.contains(&form), "{shown}");
    }
}

#[tokio::test]
async fn a_credential_that_no_header_can_carry_is_named_as_such() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base()).authenticator(Bearer::new("two\nlines".into())).build().unwrap();
    let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
    assert_eq!((error.kind(), transport.count()), (ErrorKind::ConfigInvalid, 0));
    assert!(!format!("{error:?}").contains("lines"), "{error:?}");
}
