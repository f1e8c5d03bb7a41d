//! Zendesk's credentials, case by case.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt, TryStreamExt};
use pipeline_core::http::{Call, Method, Request};
use pipeline_core::{Connector, ErrorKind, NoObserver, Result};
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;
use serde_json::Value;
use tokio::time::Instant;

use super::account::Account;

/// What the vendor was asked: the path, the credential, the body.
type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

/// A small account that notes what it is asked.
fn noting(zendesk: ZendeskWorld) -> (Account, Asked) {
    let zendesk = ZendeskWorld {
        tickets: 60,
        users: 20,
        others: 3,
        ..zendesk
    };
    let mut account = Account::new(Simulation {
        zendesk,
        latency: Duration::from_millis(200),
        ..Simulation::default()
    });
    let asked = Asked::default();
    let notes = Arc::clone(&asked);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let credential = request
                .headers()
                .get("authorization")
                .map_or("", |value| value.to_str().unwrap())
                .to_owned();
            let body = String::from_utf8(request.body().to_vec()).unwrap();
            notes
                .lock()
                .unwrap()
                .push((request.uri().path().to_owned(), credential, body));
            simulator.answer(request).boxed()
        },
    ));
    (account, asked)
}

fn with_client(account: &mut Account, refresh_token: Option<&str>) {
    let config = account.config.as_object_mut().unwrap();
    config.retain(|name, _| name != "email" && name != "api_token");
    config.insert("client_id".to_owned(), "sim_client".into());
    config.insert("client_secret".to_owned(), "sim_secret".into());
    config.extend(refresh_token.map(|token| ("refresh_token".to_owned(), token.into())));
}

/// Asks whose credentials these are, so many times at once.
async fn ask(connector: &dyn Connector, times: usize) -> Vec<Result<u16>> {
    let one = || async {
        let url = connector.client().base().join("/api/v2/users/me").unwrap();
        let call = Call {
            endpoint: "users/me",
            buckets: &[],
        };
        connector
            .client()
            .send(&Request::new(Method::GET, url), &call)
            .await
            .map(|response| response.status.as_u16())
    };
    join_all((0..times).map(|_| one())).await
}

fn tokens_asked(asked: &Asked) -> Vec<String> {
    let asked = asked.lock().unwrap();
    asked
        .iter()
        .filter(|(path, ..)| path == "/oauth/tokens")
        .map(|(_, _, body)| body.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn c03_an_api_token_goes_with_every_request_and_into_no_error() {
    let (mut account, asked) = noting(ZendeskWorld::default());
    account.complete(&["tickets", "groups"]).await;
    // admin@example.com/token:sim_token
    let expected = "Basic YWRtaW5AZXhhbXBsZS5jb20vdG9rZW46c2ltX3Rva2Vu";
    let credentials: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|(_, credential, _)| credential.clone())
        .collect();
    assert!(
        !credentials.is_empty() && credentials.iter().all(|credential| credential == expected),
        "{credentials:?}"
    );
    account.config["api_token"] = "wrong-token-of-mine".into();
    let summary = account.sync(&["tickets"]).await;
    assert_eq!(summary.failure(), Some(ErrorKind::Unauthenticated));
    assert!(!format!("{summary:?}").contains("wrong-token-of-mine"));
}

#[tokio::test(start_paused = true)]
async fn c04_fifty_calls_share_the_one_token_of_client_credentials() {
    let (mut account, asked) = noting(ZendeskWorld::default());
    with_client(&mut account, None);
    let connector = account.connector(Arc::new(NoObserver));
    let answers = ask(&*connector, 50).await;
    assert!(
        answers.iter().all(|answer| matches!(answer, Ok(200))),
        "{answers:?}"
    );
    let tokens = tokens_asked(&asked);
    let request: Value = serde_json::from_str(&tokens[0]).unwrap();
    assert_eq!(
        (tokens.len(), &request["grant_type"], &request["expires_in"]),
        (1, &"client_credentials".into(), &172_800.into())
    );
    assert_eq!(
        request["scope"], "read",
        "a text: a list of scopes makes a token that may read nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn c05_an_expired_token_is_refreshed_once_stored_and_then_used_by_all() {
    let (mut account, asked) = noting(ZendeskWorld {
        token_lifetime: Duration::from_mins(30),
        ..ZendeskWorld::default()
    });
    with_client(&mut account, Some("sim_refresh"));
    let connector = account.connector(Arc::new(NoObserver));
    assert!(ask(&*connector, 1).await[0].is_ok());
    // Another deployment refreshes: the vendor kills the pair that this one holds, long before it
    // grows old.
    let stored = std::fs::read_dir(account.tokens())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().unwrap() == "token");
    let stored = stored.unwrap();
    let pair: Value = serde_json::from_str(&std::fs::read_to_string(&stored).unwrap()).unwrap();
    let body = format!(
        r#"{{"grant_type":"refresh_token","client_id":"sim_client","client_secret":"sim_secret","refresh_token":{}}}"#,
        pair["refresh_token"]
    );
    let answer = account
        .simulator
        .answer(
            http::Request::post("/oauth/tokens")
                .body(body.into())
                .unwrap(),
        )
        .await;
    let rotated: Value = serde_json::from_slice(
        &answer
            .into_body()
            .try_collect::<Vec<Bytes>>()
            .await
            .unwrap()
            .concat(),
    )
    .unwrap();
    let handed = serde_json::json!({ "refresh_token": rotated["refresh_token"] });
    std::fs::write(&stored, handed.to_string()).unwrap();
    asked.lock().unwrap().clear();

    let seen_at_first_use = Arc::new(Mutex::new(None));
    let (seen, notes, file) = (
        Arc::clone(&seen_at_first_use),
        Arc::clone(&asked),
        stored.clone(),
    );
    let old = pair["access_token"].as_str().unwrap().to_owned();
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let credential = request
                .headers()
                .get("authorization")
                .map_or("", |value| value.to_str().unwrap())
                .to_owned();
            if !credential.is_empty() && !credential.ends_with(&old) {
                seen.lock()
                    .unwrap()
                    .get_or_insert_with(|| std::fs::read_to_string(&file).unwrap());
            }
            notes.lock().unwrap().push((
                request.uri().path().to_owned(),
                credential,
                String::new(),
            ));
            simulator.answer(request).boxed()
        },
    ));
    // The gate is another one, so this is another process, which begins with the token that is
    // stored.
    std::fs::write(&stored, serde_json::json!({
        "refresh_token": rotated["refresh_token"], "access_token": pair["access_token"], "replace_at": pair["replace_at"], "expires_at": pair["expires_at"],
    }).to_string()).unwrap();
    let connector = account.connector(Arc::new(NoObserver));
    let answers = ask(&*connector, 20).await;
    assert!(
        answers.iter().all(|answer| matches!(answer, Ok(200))),
        "{answers:?}"
    );
    assert_eq!(
        (tokens_asked(&asked).len(), asked.lock().unwrap().len()),
        (1, 20 + 1 + 20),
        "refused, refreshed once, retried once"
    );
    let at_first_use: Value =
        serde_json::from_str(seen_at_first_use.lock().unwrap().as_ref().unwrap()).unwrap();
    assert_ne!(
        at_first_use["refresh_token"], rotated["refresh_token"],
        "the new pair was stored before it was used"
    );
    assert_eq!(
        at_first_use["refresh_token"]
            .as_str()
            .unwrap()
            .replace("refresh", "access"),
        at_first_use["access_token"].as_str().unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn c06_a_dead_refresh_token_stops_the_run_says_what_to_do_and_keeps_the_state() {
    let (mut account, _) = noting(ZendeskWorld {
        token_lifetime: Duration::from_mins(5),
        ..ZendeskWorld::default()
    });
    with_client(&mut account, Some("sim_refresh"));
    account.config["export_page_size"] = 1.into();
    account.config["export_rpm"] = 10.into();
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            // The second refresh is refused.
            if request.uri().path() == "/oauth/tokens"
                && counter.fetch_add(1, Ordering::Relaxed) > 0
            {
                let body = r#"{"error":"invalid_grant","error_description":"used"}"#;
                return async move { reply(400, &[("content-type", "application/json")], body) }
                    .boxed();
            }
            simulator.answer(request).boxed()
        },
    ));
    let summary = account.sync(&["tickets"]).await;
    assert_eq!(summary.failure(), Some(ErrorKind::Unauthenticated));
    assert!(
        format!("{summary:?}").contains("re-authorise"),
        "{summary:?}"
    );
    let rows = account.rows("tickets", "id", "id").len();
    assert!(
        (30..60).contains(&rows),
        "{rows} rows committed before the token was dead"
    );
}

#[tokio::test(start_paused = true)]
async fn c07_a_token_that_does_not_say_how_long_it_lives_is_renewed_after_half_an_hour_at_most() {
    let (mut account, asked) = noting(ZendeskWorld::default());
    with_client(&mut account, None);
    let notes = Arc::clone(&asked);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            if request.uri().path() != "/oauth/tokens" {
                return simulator.answer(request).boxed();
            }
            notes
                .lock()
                .unwrap()
                .push(("/oauth/tokens".to_owned(), String::new(), String::new()));
            async move {
                let body = simulator
                    .answer(request)
                    .await
                    .into_body()
                    .try_collect::<Vec<Bytes>>()
                    .await
                    .unwrap()
                    .concat();
                let mut answer: Value = serde_json::from_slice(&body).unwrap();
                answer.as_object_mut().unwrap().remove("expires_in");
                reply(201, &[], answer.to_string())
            }
            .boxed()
        },
    ));
    let connector = account.connector(Arc::new(NoObserver));
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(30) {
        assert!(ask(&*connector, 1).await[0].is_ok());
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    assert_eq!(tokens_asked(&asked).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn c60_a_renamed_account_says_that_the_subdomain_is_wrong() {
    let (mut account, _) = noting(ZendeskWorld::default());
    account.behind(Arc::new(|_, _| {
        async {
            reply(
                404,
                &[("content-type", "text/html")],
                "<!DOCTYPE html><title>No such account</title>",
            )
        }
        .boxed()
    }));
    let connector = account.connector(Arc::new(NoObserver));
    let error = connector.check(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.help().unwrap().contains("check the subdomain"),
        "{error:?}"
    );
}
