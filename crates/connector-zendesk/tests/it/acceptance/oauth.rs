//! Tokens that live five minutes, refresh tokens that work once, and processes that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_core::ErrorKind;
use pipeline_engine::Outcome;
use pipeline_simulator::{Limits, Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::{setting, timed};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::account::{Account, Gate};

const STREAMS: [&str; 2] = ["tickets", "ticket_metrics"];

/// An account that takes an hour to read at ten pages a minute, in a given number of records a
/// page.
fn an_hour_of_exports(refreshes: bool) -> Account {
    let page = setting("PIPELINE_ZENDESK_OAUTH_PAGE", 5);
    let zendesk = ZendeskWorld {
        tickets: 600 * page,
        events: Some(0),
        users: 100,
        burst: 1,
        token_lifetime: Duration::from_mins(5),
        ..ZendeskWorld::default()
    };
    let limits = Limits {
        zendesk_account: Some(700),
        zendesk_export: Some(10),
        ..Limits::default()
    };
    let simulation = Simulation {
        zendesk: zendesk.clone(),
        limits,
        latency: Duration::from_millis(800),
        ..Simulation::default()
    };
    let mut account = Account::new(simulation);
    let config = account.config.as_object_mut().unwrap();
    config.retain(|name, _| name != "email" && name != "api_token");
    config.insert("client_id".to_owned(), zendesk.client_id.into());
    config.insert("client_secret".to_owned(), zendesk.client_secret.into());
    if refreshes {
        config.insert("refresh_token".to_owned(), zendesk.refresh_token.into());
    }
    config.insert("export_page_size".to_owned(), page.into());
    account
}

/// What the token endpoint was asked, and whether it ever said no.
#[derive(Default)]
struct Watch {
    issued: AtomicUsize,
    refused: AtomicUsize,
    /// A token was issued, and nothing was asked with it yet.
    fresh: AtomicBool,
    /// When the process dies.
    kill: Notify,
    kills: AtomicUsize,
}

/// Where a process dies around a refresh.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Never,
    /// When the new token is about to be used for the first time.
    BeforeUse,
    /// When the vendor has answered and the answer is not there yet.
    BeforeAnswer,
}

/// Counts what the token endpoint says, and kills the process where it is told to.
fn watched(watch: &Arc<Watch>, death: Death) -> Arc<Gate> {
    let watch = Arc::clone(watch);
    Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let watch = Arc::clone(&watch);
            async move {
                let is_token = request.uri().path() == "/oauth/tokens";
                if !is_token
                    && watch.fresh.swap(false, Ordering::Relaxed)
                    && death == Death::BeforeUse
                {
                    return die(&watch).await;
                }
                let answer = simulator.answer(request).await;
                if is_token && answer.status().is_success() {
                    watch.issued.fetch_add(1, Ordering::Relaxed);
                    watch.fresh.store(true, Ordering::Relaxed);
                    if death == Death::BeforeAnswer {
                        return die(&watch).await;
                    }
                } else if is_token {
                    watch.refused.fetch_add(1, Ordering::Relaxed);
                }
                answer
            }
            .boxed()
        },
    )
}

async fn die<T>(watch: &Watch) -> T {
    watch.kills.fetch_add(1, Ordering::Relaxed);
    watch.kill.notify_one();
    std::future::pending().await
}

fn assert_complete(account: &Account) {
    let truth = account.simulator.truth();
    for stream in STREAMS {
        assert_eq!(
            account
                .rows(stream, "id", "id")
                .into_keys()
                .collect::<Vec<_>>(),
            truth.ids(stream),
            "{stream}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_tokens_that_live_five_minutes() {
    for refreshes in [false, true] {
        let mut account = an_hour_of_exports(refreshes);
        let watch = Arc::new(Watch::default());
        account.behind(watched(&watch, Death::Never));
        let (_, took) = timed(account.complete(&STREAMS)).await;
        let (issued, refused) = (
            watch.issued.load(Ordering::Relaxed),
            watch.refused.load(Ordering::Relaxed),
        );
        println!(
            "refresh token: {refreshes}; simulated {took:?}; tokens issued {issued}, refused \
             {refused}"
        );
        assert!(took >= Duration::from_mins(59), "{took:?}");
        assert!(
            (12..=18).contains(&issued) && refused == 0,
            "{issued} {refused}"
        );
        assert_complete(&account);
    }
}

/// Every process dies after it stored a pair and before it used it; the next one goes on with that
/// pair.
#[tokio::test(start_paused = true)]
async fn no_pair_is_lost_when_every_process_dies_between_refresh_and_use() {
    let mut account = an_hour_of_exports(true);
    let watch = Arc::new(Watch::default());
    account.behind(watched(&watch, Death::BeforeUse));
    let started = Instant::now();
    let summary = loop {
        tokio::select! {
            summary = account.sync(&STREAMS) => break summary,
            () = watch.kill.notified() => {}
        }
    };
    assert!(summary.failure().is_none(), "{summary:#?}");
    let (issued, refused, kills) = (
        watch.issued.load(Ordering::Relaxed),
        watch.refused.load(Ordering::Relaxed),
        watch.kills.load(Ordering::Relaxed),
    );
    println!(
        "killed {kills} times in {:?}; pairs issued {issued}, refused {refused}",
        started.elapsed()
    );
    assert!(
        kills >= 12 && refused == 0 && issued <= kills + 1,
        "{kills} {refused} {issued}"
    );
    assert_complete(&account);
}

/// What no client can make safe: the answer that kills the old pair is lost with the process. The
/// run says what to do.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies_before_the_answer_needs_a_new_authorization() {
    let mut account = an_hour_of_exports(true);
    let watch = Arc::new(Watch::default());
    account.behind(watched(&watch, Death::BeforeAnswer));
    tokio::select! {
        summary = account.sync(&STREAMS) => panic!("{summary:#?}"),
        () = watch.kill.notified() => {}
    }
    account.behind(watched(&watch, Death::Never));
    let summary = account.sync(&STREAMS).await;
    assert_eq!(summary.failure(), Some(ErrorKind::Unauthenticated));
    let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
        panic!("{summary:#?}")
    };
    assert!(
        error.help.as_deref().unwrap().contains("re-authorise"),
        "{error:?}"
    );
    // Client credentials have no such moment.
    account
        .config
        .as_object_mut()
        .unwrap()
        .remove("refresh_token");
    account.complete(&STREAMS).await;
    assert_complete(&account);
}

/// A sync with an API token says until when these work.
#[tokio::test(start_paused = true)]
async fn a_sync_with_an_api_token_tells_when_these_end() {
    let zendesk = ZendeskWorld {
        tickets: 40,
        users: 10,
        ..ZendeskWorld::default()
    };
    let account = Account::new(Simulation {
        zendesk,
        ..Simulation::default()
    });
    account.complete(&["groups"]).await;
    let notices = account.notices();
    assert_eq!(
        notices,
        [
            "API tokens stop working on 2027-04-30, and unused ones earlier; create an OAuth \
             client instead"
        ]
    );
}
