//! OAuth 2.

mod endpoint;

use secrecy::{ExposeSecret, SecretString};

use super::*;

fn token_url() -> Url {
    Url::parse("https://api.test/oauth/tokens").unwrap()
}

fn is_token(request: &Request) -> bool {
    request.url.path() == "/oauth/tokens"
}

fn text(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

fn credentials(context: &BuildContext) -> OAuth2 {
    OAuth2::client_credentials(context, &token_url(), "client", &"s3cret".into()).unwrap()
}

fn rotating(context: &BuildContext) -> OAuth2 {
    OAuth2::refresh_token(
        context,
        &token_url(),
        "client",
        Some(&"s3cret".into()),
        "first".into(),
    )
    .unwrap()
}

async fn bearer(auth: &OAuth2) -> String {
    let mut request = request();
    auth.authenticate(&mut request).await.unwrap();
    request.headers["authorization"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn e01_fifty_refused_tasks_cause_one_refresh() {
    let issued = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&issued);
    let revoking = Scripted::slow(Duration::from_millis(100), move |_, request| {
        if is_token(request) {
            *counter.lock().unwrap() += 1;
            return Reply::status(
                201,
                format!("{{\"access_token\": \"t{}\"}}", counter.lock().unwrap()),
            );
        }
        let current = format!("Bearer t{}", counter.lock().unwrap());
        let revoked = request.headers["authorization"] == *"Bearer t1";
        if revoked || request.headers["authorization"] != *current {
            Reply::status(401, "")
        } else {
            Reply::json("{}")
        }
    });
    let context = context(&revoking);
    let client = HttpClient::builder(&context, base())
        .authenticator(credentials(&context))
        .build()
        .unwrap();
    let results = futures::future::join_all(
        (0..50).map(|_| async { client.send(&request(), &NO_LIMIT).await }),
    )
    .await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(
        *issued.lock().unwrap(),
        2,
        "the first token, and one refresh"
    );
    assert_eq!(revoking.count(), 50 + 50 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_after_three_quarters_of_its_life() {
    let cases = [
        ("\"expires_in\": 3600,", 2700),
        ("\"expires_in\": \"1000\",", 750),
        ("", 1350),
        ("\"expires_in\": 0,", 1350),
        ("\"expires_in\": -7,", 1350),
    ];
    for (life, replaced) in cases {
        let transport = Scripted::new(move |n, _| {
            Reply::json(format!("{{{life} \"access_token\": \"t{n}\"}}"))
        });
        let auth = credentials(&context(&transport));
        assert_eq!(bearer(&auth).await, "Bearer t0");
        sleep(Duration::from_secs(replaced - 1)).await;
        assert_eq!(bearer(&auth).await, "Bearer t0", "{life}");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bearer(&auth).await, "Bearer t1", "{life}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_still_good_outlives_an_outage_of_the_endpoint() {
    let transport = Scripted::new(|n, _| {
        if n == 0 {
            Reply::json("{\"access_token\": \"t0\", \"expires_in\": 3600}")
        } else {
            Reply::status(503, "")
        }
    });
    let auth = credentials(&context(&transport));
    bearer(&auth).await;
    sleep(Duration::from_secs(2800)).await;
    assert_eq!(bearer(&auth).await, "Bearer t0");
    assert_eq!(transport.count(), 1 + 4, "four attempts, then later again");
    bearer(&auth).await;
    assert_eq!(transport.count(), 5);
    sleep(Duration::from_mins(15)).await;
    assert_eq!(
        auth.authenticate(&mut request()).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

/// Refuses to store, or stores, and writes down when.
#[derive(Debug, Default)]
struct Disk {
    tokens: MemoryTokens,
    broken: Mutex<bool>,
    saved: Mutex<Vec<(String, usize)>>,
    transport: Mutex<Option<Arc<Scripted>>>,
}

#[async_trait]
impl TokenStore for Disk {
    async fn load(&self, key: &str) -> crate::Result<Option<SecretString>> {
        self.tokens.load(key).await
    }

    async fn save(&self, key: &str, token: &SecretString) -> crate::Result<()> {
        if *self.broken.lock().unwrap() {
            return Err(Error::new(ErrorKind::Unexpected, "disk full"));
        }
        let requests = self
            .transport
            .lock()
            .unwrap()
            .as_ref()
            .map_or(0, |transport| transport.count());
        let stored: serde_json::Value = serde_json::from_str(token.expose_secret()).unwrap();
        self.saved.lock().unwrap().push((
            stored["refresh_token"].as_str().unwrap().to_owned(),
            requests,
        ));
        self.tokens.save(key, token).await
    }
}

/// Hands out `a1`, `r1`, then `a2`, `r2` and so on, each refresh token once.
fn rotation() -> Arc<Scripted> {
    let valid = Mutex::new(("first".to_owned(), 0));
    Scripted::new(move |_, request| {
        if !is_token(request) {
            return Reply::json("{}");
        }
        let mut valid = valid.lock().unwrap();
        if !text(request).contains(&format!("refresh_token={}&", valid.0)) {
            return Reply::status(
                400,
                "{\"error\": \"invalid_grant\", \"error_description\": \"used\"}",
            );
        }
        *valid = (format!("r{}", valid.1 + 1), valid.1 + 1);
        Reply::json(format!(
            "{{\"access_token\": \"a{}\", \"refresh_token\": \"{}\", \"expires_in\": 1000, \"token_type\": \"bearer\"}}",
            valid.1, valid.0
        ))
    })
}

#[tokio::test(start_paused = true)]
async fn e02_a_rotated_token_is_stored_before_its_sibling_is_used() {
    let transport = rotation();
    let disk = Arc::new(Disk {
        transport: Mutex::new(Some(Arc::clone(&transport))),
        ..Disk::default()
    });
    let context = BuildContext {
        tokens: Arc::clone(&disk) as _,
        ..context(&transport)
    };
    let client = HttpClient::builder(&context, base())
        .authenticator(rotating(&context))
        .build()
        .unwrap();
    client.send(&request(), &NO_LIMIT).await.unwrap();
    let saved = disk.saved.lock().unwrap().clone();
    assert_eq!(
        saved,
        [("first".to_owned(), 0), ("r1".to_owned(), 1)],
        "proved writable, and saved when only the token was asked for"
    );
    // The process ends and begins anew: the configuration still says `first`, which is worth
    // nothing by now.
    assert_eq!(
        bearer(&rotating(&context)).await,
        "Bearer a1",
        "the stored token is still good"
    );
    sleep(Duration::from_secs(750)).await;
    assert_eq!(bearer(&rotating(&context)).await, "Bearer a2");
    assert_eq!(disk.saved.lock().unwrap().last().unwrap().0, "r2");
}

#[tokio::test(start_paused = true)]
async fn e02_a_token_that_cannot_be_stored_is_not_asked_for() {
    let transport = rotation();
    let disk = Arc::new(Disk {
        broken: Mutex::new(true),
        ..Disk::default()
    });
    let context = BuildContext {
        tokens: Arc::clone(&disk) as _,
        ..context(&transport)
    };
    let auth = rotating(&context);
    assert_eq!(
        auth.authenticate(&mut request())
            .await
            .unwrap_err()
            .message(),
        "disk full"
    );
    assert_eq!(
        transport.count(),
        0,
        "an answer would have killed the old token"
    );
    *disk.broken.lock().unwrap() = false;
    assert_eq!(bearer(&auth).await, "Bearer a1");
}

#[tokio::test(start_paused = true)]
async fn e02_a_pair_that_cannot_be_stored_is_kept_and_not_used() {
    let disk = Arc::new(Disk::default());
    let breaking = Arc::clone(&disk);
    let transport = Scripted::new(move |n, _| {
        *breaking.broken.lock().unwrap() = true;
        Reply::json(format!(
            "{{\"access_token\": \"a{n}\", \"refresh_token\": \"r{n}\", \"expires_in\": 1000}}"
        ))
    });
    let context = BuildContext {
        tokens: Arc::clone(&disk) as _,
        ..context(&transport)
    };
    let auth = rotating(&context);
    assert_eq!(
        auth.authenticate(&mut request())
            .await
            .unwrap_err()
            .message(),
        "disk full"
    );
    *disk.broken.lock().unwrap() = false;
    assert_eq!(bearer(&auth).await, "Bearer a0");
    assert_eq!(
        (
            transport.count(),
            disk.saved.lock().unwrap().last().unwrap().0.as_str()
        ),
        (1, "r0")
    );
}

#[tokio::test(start_paused = true)]
async fn e02_processes_that_share_a_store_refresh_once() {
    let directory = tempfile::tempdir().unwrap();
    let transport = rotation();
    let context = BuildContext {
        tokens: Arc::new(FileTokens::new(directory.path())),
        ..context(&transport)
    };
    let processes: Vec<OAuth2> = (0..4).map(|_| rotating(&context)).collect();
    let bearers = futures::future::join_all(processes.iter().map(bearer)).await;
    assert_eq!(
        (bearers, transport.count()),
        (vec!["Bearer a1".to_owned(); 4], 1)
    );
    // One is refused and refreshes; the others, refused as well, find what it got.
    for process in &processes {
        assert!(process.refresh(1).await.unwrap());
        assert_eq!(bearer(process).await, "Bearer a2");
    }
    assert_eq!(transport.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_says_when_it_ends_is_believed() {
    use base64::Engine;
    let claims =
        |exp: i64| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}"));
    let context = context(&Scripted::new(|_, _| Reply::json("{}")));
    let now = context.clock.now().timestamp();
    let life = |token: &str| {
        crate::http::auth::token_pair::jwt_life(token, context.clock.now())
            .map(|life| life.as_secs())
    };
    assert_eq!(
        life(&format!("head.{}.signature", claims(now + 90))),
        Some(90)
    );
    for other in [
        "opaque",
        "a.b.c",
        &format!("head.{}", claims(now + 90)),
        &format!("head.{}.signature", claims(now - 1)),
    ] {
        assert_eq!(life(other), None, "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn e02_a_newly_configured_token_is_preferred_to_an_older_stored_one() {
    let transport = Scripted::new(|_, request| {
        Reply::json(format!(
            "{{\"access_token\": \"{}\", \"refresh_token\": \"next\"}}",
            text(request).contains("refresh_token=second")
        ))
    });
    let context = context(&transport);
    bearer(&rotating(&context)).await;
    let second =
        OAuth2::refresh_token(&context, &token_url(), "client", None, "second".into()).unwrap();
    assert_eq!(bearer(&second).await, "Bearer true");
}

#[tokio::test(start_paused = true)]
async fn e03_a_dead_refresh_token_says_what_to_do() {
    let transport = Scripted::new(|_, _| {
        Reply::status(
            400,
            "{\"error\": \"invalid_grant\", \"error_description\": \"first is used\"}",
        )
    });
    let context = context(&transport);
    let client = HttpClient::builder(&context, base())
        .authenticator(rotating(&context))
        .build()
        .unwrap();
    let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), transport.count()),
        (ErrorKind::Unauthenticated, 1)
    );
    assert!(error.help().unwrap().contains("re-authorise"), "{error:?}");
    assert!(!format!("{error:?}").contains("first"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn e04_the_token_endpoint_is_asked_again_but_not_hammered() {
    let transport = Scripted::sequence(vec![
        || Reply::status(429, "").header("retry-after", "20"),
        || Reply::Broken(TransportError::Interrupted("reset".into())),
        || Reply::json("{\"access_token\": \"t\"}"),
    ]);
    let started = Instant::now();
    assert_eq!(bearer(&credentials(&context(&transport))).await, "Bearer t");
    assert!(
        started.elapsed() >= Duration::from_secs(20) && started.elapsed() < Duration::from_secs(25)
    );
    let transport = Scripted::new(|_, _| Reply::status(500, ""));
    let error = credentials(&context(&transport))
        .authenticate(&mut request())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), transport.count()),
        (ErrorKind::Unavailable, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn requests_to_the_token_endpoint_take_the_vendors_shape() {
    let transport = Scripted::new(|_, _| {
        Reply::json("{\"access_token\": \"t\"}").header("content-type", "text/plain")
    });
    let context = context(&transport);
    bearer(
        &credentials(&context)
            .scope("read")
            .param("expires_in", "172800")
            .json_body(),
    )
    .await;
    bearer(
        &credentials(&context)
            .scope("read")
            .scope("write")
            .basic_auth(),
    )
    .await;
    bearer(&rotating(&context)).await;
    let seen = transport.seen.lock().unwrap();
    let shown: Vec<_> = seen
        .iter()
        .map(|(_, request)| {
            format!(
                "{} {}",
                request.headers["content-type"].to_str().unwrap(),
                text(request)
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "application/json \
             {\"client_id\":\"client\",\"client_secret\":\"s3cret\",\"expires_in\":172800,\"grant_type\":\"client_credentials\",\"scope\":\"read\"}",
            "application/x-www-form-urlencoded grant_type=client_credentials&scope=read+write",
            "application/x-www-form-urlencoded \
             grant_type=refresh_token&refresh_token=first&client_id=client&client_secret=s3cret",
        ]
    );
    assert!(
        seen[1].1.headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("Basic ")
    );
}

#[tokio::test]
async fn files_hold_a_token_for_the_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileTokens::new(directory.path().join("tokens"));
    assert!(store.load("a").await.unwrap().is_none());
    for token in ["one", "two"] {
        store.save("a", &token.into()).await.unwrap();
        assert_eq!(
            store.load("a").await.unwrap().unwrap().expose_secret(),
            token
        );
    }
    store.save("../b", &"three".into()).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(directory.path().join("tokens"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(
        files.len(),
        2,
        "one file a key, nothing left over: {files:?}"
    );
    #[cfg(unix)]
    for file in files {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_somebody_else_answers_for_is_a_refusal() {
    for (status, body, answer) in [
        (
            200,
            "<html><title>Hotel</title>t0</html>",
            Some("a web page, \"Hotel\""),
        ),
        (302, "t0", None),
    ] {
        let transport = Scripted::new(move |_, _| {
            Reply::status(status, body).header("location", "https://portal.test/")
        });
        let error = credentials(&context(&transport))
            .authenticate(&mut request())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), transport.count()), (ErrorKind::Refused, 1));
        assert_eq!(
            (error.context_value("status"), error.context_value("answer")),
            (Some(&*status.to_string()), answer)
        );
        assert!(
            error.help().is_some() && !format!("{error:?}").contains("t0"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a9_leftovers_of_tokens_are_swept_and_those_of_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileTokens::new(directory.path());
    store.save("mine", &"secret".into()).await.unwrap();
    store.save("other", &"secret".into()).await.unwrap();
    let stored = |key: &str| blake3::hash(key.as_bytes()).to_hex().to_string();
    let leave = |name: &str, age: u64| {
        let file = std::fs::File::create(directory.path().join(name)).unwrap();
        let time = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(age);
        file.set_modified(time).unwrap();
    };
    leave(&format!("{}.aBc.part", stored("mine")), 0);
    leave(&format!("{}.dEf.part", stored("other")), 0);
    leave(&format!("{}.gHi.part", stored("third")), 3_600);
    leave(".tmpOld", 3_600);
    leave(".tmpNew", 0);
    leave("somebody.else", 1_000_000);
    drop(store.lock("mine").await.unwrap());
    let names = || -> std::collections::BTreeSet<String> {
        std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let left = [
        format!("{}.token", stored("mine")),
        format!("{}.lock", stored("mine")),
        format!("{}.token", stored("other")),
        format!("{}.dEf.part", stored("other")),
        ".tmpNew".to_owned(),
        "somebody.else".to_owned(),
    ];
    assert_eq!(names(), left.into());
    assert_eq!(
        store.load("mine").await.unwrap().unwrap().expose_secret(),
        "secret"
    );
}

#[tokio::test]
async fn a_lock_that_a_stopped_process_holds_is_waited_for_with_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileTokens::new(directory.path()).patience(Duration::from_millis(200));
    let held = store.lock("key").await.unwrap();
    store.lock("another key").await.unwrap();
    let started = Instant::now();
    let error = store.lock("key").await.unwrap_err();
    assert!(
        started.elapsed() >= Duration::from_millis(200)
            && started.elapsed() < Duration::from_secs(5)
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let process = format!("process {}", std::process::id());
    assert!(
        error.message().contains(&process) && error.help().unwrap().contains(&process),
        "{error:?}"
    );
    drop(held);
    store.lock("key").await.unwrap();
}
