//! No secret in an error, an event or a debug print.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use secrecy::SecretString;

use super::*;

const SECRET: &str = "sk_live_\"51/H+x=y\"";

fn hex(text: &str) -> String {
    text.bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat()
}

/// A value with every byte escaped but those that are kept.
fn percent(text: &str, kept: &str, upper: bool) -> String {
    let escape = |byte: u8| {
        if upper {
            format!("%{byte:02X}")
        } else {
            format!("%{byte:02x}")
        }
    };
    let is_kept = |byte: u8| {
        byte.is_ascii_alphanumeric() && kept != "none" || kept.as_bytes().contains(&byte)
    };
    text.bytes()
        .map(|byte| {
            if is_kept(byte) {
                char::from(byte).to_string()
            } else {
                escape(byte)
            }
        })
        .collect()
}

/// A value in every form in which a server may repeat it.
fn encoded(value: &str) -> Vec<String> {
    let quoted = serde_json::to_string(value).unwrap();
    let escaped = &quoted[1..quoted.len() - 1];
    let unicode: String = value
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect::<Vec<_>>()
        .concat();
    let html = value
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('/', "&#x2F;");
    let mut forms = vec![
        value.to_owned(),
        STANDARD.encode(value),
        STANDARD_NO_PAD.encode(value),
        URL_SAFE.encode(value),
        URL_SAFE_NO_PAD.encode(value),
        hex(value),
        hex(value).to_uppercase(),
        escaped.to_owned(),
        escaped.replace('/', "\\/"),
        unicode,
        html,
        url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        percent(value, "-._~", true),
        percent(value, "-._~/", true),
        percent(value, "-._~/", false),
        percent(value, "none", false),
    ];
    let twice: Vec<String> = [1, 3, 5]
        .map(|form: usize| percent(&forms[form], "-._~", true))
        .to_vec();
    let again = percent(&forms[12], "-._~", true);
    forms.extend(twice);
    forms.push(again);
    forms.extend([
        value.to_ascii_uppercase(),
        value.to_ascii_lowercase(),
        value.chars().rev().collect(),
    ]);
    forms
}

/// The secret, and what is made of it in a header, in every form in which it may leak.
fn forms() -> Vec<String> {
    let pair = format!("user:{SECRET}");
    let basic = STANDARD.encode(&pair);
    let values = [
        SECRET.to_owned(),
        format!("Bearer {SECRET}"),
        pair,
        basic.clone(),
        format!("Basic {basic}"),
    ];
    values.iter().flat_map(|value| encoded(value)).collect()
}

/// Echoes all it was sent.
fn echo(status: u16) -> Arc<Scripted> {
    Scripted::new(move |_, request| {
        let headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        let raw = format!(
            "got {} with {} and {SECRET} at {}",
            headers.join("; "),
            serde_json::to_string(SECRET).unwrap(),
            request.full_url()
        );
        Reply::status(status, raw)
    })
}

async fn scan(status: u16, authenticate: impl Fn(HttpClientBuilder) -> HttpClientBuilder) {
    let events = Arc::new(Events::default());
    let transport = echo(status);
    let context = BuildContext {
        observer: Arc::clone(&events) as _,
        ..context(&transport)
    };
    let client = authenticate(HttpClient::builder(&context, base()))
        .build()
        .unwrap();
    let mut request = request();
    request.set_query("q", "visible");
    let error = client.send(&request, &NO_LIMIT).await.unwrap_err();
    let shown = format!(
        "{error} {error:?} {client:?} {request:?} {}",
        events.0.lock().unwrap().join(" ")
    );
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
        scan(status, |builder| {
            builder.authenticator(Basic::new(&"user".into(), &key()))
        })
        .await;
        scan(status, |builder| {
            builder.authenticator(Basic::new(&key(), &"".into()))
        })
        .await;
        scan(status, |builder| {
            builder.authenticator(ApiKey::header(HeaderName::from_static("x-api-key"), key()))
        })
        .await;
        scan(status, |builder| {
            builder.authenticator(ApiKey::query("api_key", key()))
        })
        .await;
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
    let client = HttpClient::builder(&context(&transport), base())
        .authenticator(Bearer::new("two\nlines".into()))
        .build()
        .unwrap();
    let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), transport.count()),
        (ErrorKind::ConfigInvalid, 0)
    );
    assert!(!format!("{error:?}").contains("lines"), "{error:?}");
}

type Authenticate = dyn Fn(HttpClientBuilder) -> HttpClientBuilder;

/// What a server may say of a request: each form alone, for that an excerpt has room for few.
#[tokio::test(start_paused = true)]
async fn a9_no_form_of_a_credential_leaves_the_client() {
    let key = || SecretString::from(SECRET);
    let builders: [(&str, Box<Authenticate>); 3] = [
        (
            "bearer",
            Box::new(move |builder| builder.authenticator(Bearer::new(key()))),
        ),
        (
            "basic",
            Box::new(move |builder| builder.authenticator(Basic::new(&"user".into(), &key()))),
        ),
        (
            "query",
            Box::new(move |builder| builder.authenticator(ApiKey::query("api_key", key()))),
        ),
    ];
    for (case, authenticate) in builders {
        let all = match case {
            "bearer" => [
                SECRET.to_owned(),
                format!("Bearer {SECRET}"),
                format!("Authorization: Bearer {SECRET}\r\n"),
            ]
            .to_vec(),
            "basic" => {
                let pair = format!("user:{SECRET}");
                [
                    SECRET.to_owned(),
                    pair.clone(),
                    STANDARD.encode(&pair),
                    format!("Basic {}", STANDARD.encode(&pair)),
                ]
                .to_vec()
            }
            _ => [SECRET.to_owned(), format!("api_key={SECRET}")].to_vec(),
        };
        for form in all.iter().flat_map(|value| encoded(value)) {
            let said = form.clone();
            let transport = Scripted::new(move |_, _| {
                let header = said.replace(['\r', '\n'], "");
                let reply = Reply::status(400, format!("{{\"said\": \"it is {said}\"}}"));
                reply
                    .header("x-request-id", format!("req {header}"))
                    .header("location", format!("https://{header}.test/"))
            });
            let events = Arc::new(Events::default());
            let context = BuildContext {
                observer: Arc::clone(&events) as _,
                ..context(&transport)
            };
            let client = authenticate(HttpClient::builder(&context, base()))
                .build()
                .unwrap();
            let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
            let shown = format!("{error} {error:?} {}", events.0.lock().unwrap().join(" "));
            assert!(!shown.contains(&form), "{case}: {form} in {shown}");
            assert!(
                shown.matches("[redacted]").count() >= 2,
                "{case}: {form} in {shown}"
            );
        }
    }
}

/// A vendor that echoes what an authenticator holds, and what earlier requests carried.
#[tokio::test(start_paused = true)]
async fn a9_tokens_of_a_run_and_the_clients_secret_are_hidden_too() {
    const SECRET: &str = "client-secret-0123456789";
    const FIRST: &str = "refresh-token-0123456789";
    let all = [
        SECRET,
        FIRST,
        "access-token-number-1",
        "access-token-number-2",
        "refresh-token-number-1",
        "refresh-token-number-2",
    ];
    for said in all.iter().flat_map(|value| encoded(value)) {
        let issued = Mutex::new(0);
        let form = said.clone();
        let transport = Scripted::new(move |_, request| {
            let mut issued = issued.lock().unwrap();
            if request.url.path() == "/oauth/tokens" {
                *issued += 1;
                let body = serde_json::json!({ "access_token": format!("access-token-number-{issued}"), "refresh_token": format!("refresh-token-number-{issued}") });
                return Reply::json(body.to_string());
            }
            let status = if *issued < 2 { 401 } else { 400 };
            Reply::status(status, format!("{{\"said\": \"{form}\"}}"))
                .header("x-request-id", format!("req-{form}"))
        });
        let events = Arc::new(Events::default());
        let context = BuildContext {
            observer: Arc::clone(&events) as _,
            ..context(&transport)
        };
        let url = base().join("oauth/tokens").unwrap();
        let auth =
            OAuth2::refresh_token(&context, &url, "client", Some(&SECRET.into()), FIRST.into())
                .unwrap();
        let client = HttpClient::builder(&context, base())
            .authenticator(auth)
            .build()
            .unwrap();
        let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
        assert_eq!(error.context_value("status"), Some("400"), "{error}");
        // What is yet to be issued is not a secret.
        let last = events.0.lock().unwrap().pop().unwrap();
        let shown = format!("{error} {error:?} {last}");
        assert!(!shown.contains(&said), "{said} in {shown}");
        assert!(shown.contains("[redacted]"), "{said} in {shown}");
    }
}
