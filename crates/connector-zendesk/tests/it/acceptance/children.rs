//! Lists of single records, of which many are under way at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use pipeline_simulator::ZendeskChange::Update;
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;
use tokio::sync::Notify;

use super::account::{Account, Gate};

fn account(zendesk: ZendeskWorld) -> Account {
    let zendesk = ZendeskWorld {
        tickets: 120,
        users: 30,
        others: 6,
        ..zendesk
    };
    Account::new(Simulation {
        zendesk,
        latency: Duration::from_millis(100),
        ..Simulation::default()
    })
}

fn ids(account: &Account, table: &str) -> Vec<String> {
    account.rows(table, "id", "id").into_keys().collect()
}

/// The ticket whose audits are asked for.
fn ticket(path: &str) -> Option<u64> {
    path.strip_prefix("/api/v2/tickets/")?
        .strip_suffix("/audits")?
        .parse()
        .ok()
}

fn open() -> Arc<Gate> {
    Arc::new(|request: http::Request<Bytes>, simulator: Arc<Simulator>| {
        simulator.answer(request).boxed()
    })
}

#[tokio::test(start_paused = true)]
async fn c41_children_that_end_out_of_order_are_all_there_after_a_kill_at_any_of_them() {
    for kill_at in [5, 23, 48, 77, 101] {
        let mut account = account(ZendeskWorld::default());
        let (asked, dead) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let (noted, kill) = (Arc::clone(&asked), Arc::clone(&dead));
        account.behind(Arc::new(
            move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
                let Some(ticket) = ticket(request.uri().path()) else {
                    return simulator.answer(request).boxed();
                };
                noted.lock().unwrap().push(ticket);
                if noted.lock().unwrap().len() == kill_at {
                    kill.notify_one();
                }
                // One in seven answers after everybody who was asked later.
                let wait = if ticket.is_multiple_of(7) {
                    Duration::from_secs(20)
                } else {
                    Duration::ZERO
                };
                async move {
                    tokio::time::sleep(wait).await;
                    simulator.answer(request).await
                }
                .boxed()
            },
        ));
        tokio::select! {
            summary = account.sync(&["ticket_audits"]) => panic!("it ended before it was killed: \
                                                                  {summary:#?}"),
            () = dead.notified() => {}
        }
        account.behind(open());
        account.complete(&["ticket_audits"]).await;
        assert_eq!(
            ids(&account, "ticket_audits"),
            account.audits_of_live_tickets(),
            "killed at {kill_at}"
        );
    }
}

/// Of the lists under way some fail at first, each in a way of its own: all others go on, and
/// nothing is missing.
#[tokio::test(start_paused = true)]
async fn c33_children_that_fail_for_a_while_are_complete() {
    let mut account = account(ZendeskWorld::default());
    let attempts: Arc<Mutex<BTreeMap<u64, usize>>> = Arc::default();
    let counts = Arc::clone(&attempts);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let Some(ticket) = ticket(request.uri().path()) else {
                return simulator.answer(request).boxed();
            };
            let attempt = *counts
                .lock()
                .unwrap()
                .entry(ticket)
                .and_modify(|count| *count += 1)
                .or_insert(1);
            let json = ("content-type", "application/json");
            match (attempt, ticket % 24) {
                (1, 0) => async { reply(503, &[("retry-after", "3")], "Database timeout") }.boxed(),
                (1, 5) => async { reply(502, &[], "<html>bad gateway</html>") }.boxed(),
                (1, 11) => async { reply(429, &[("retry-after", "2")], "slow down") }.boxed(),
                (1, 17) => async move {
                    let body: Vec<Bytes> = simulator
                        .answer(request)
                        .await
                        .into_body()
                        .try_collect()
                        .await
                        .unwrap();
                    let body = body.concat();
                    reply(200, &[json], body[..body.len() / 2].to_vec())
                }
                .boxed(),
                _ => simulator.answer(request).boxed(),
            }
        },
    ));
    account.complete(&["ticket_audits"]).await;
    assert_eq!(
        ids(&account, "ticket_audits"),
        account.audits_of_live_tickets()
    );
    let again = attempts
        .lock()
        .unwrap()
        .values()
        .filter(|count| **count > 1)
        .count();
    assert!(again >= 12, "{again} lists were asked for again");
}

/// The list of posts has no filter: it comes newest first, and is read as far as something changed.
#[tokio::test(start_paused = true)]
async fn posts_are_read_for_their_comments_as_far_as_they_changed() {
    let counts = [("posts".to_owned(), 450)].into();
    let mut account = account(ZendeskWorld {
        counts,
        ..ZendeskWorld::default()
    });
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&asked);
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            noted.lock().unwrap().push(request.uri().path().to_owned());
            simulator.answer(request).boxed()
        },
    ));
    let take = || {
        let paths = std::mem::take(&mut *asked.lock().unwrap());
        let posts = paths
            .iter()
            .filter(|path| path.ends_with("/community/posts"))
            .count();
        (
            posts,
            paths
                .iter()
                .filter(|path| path.ends_with("/comments"))
                .count(),
        )
    };
    account.complete(&["post_comments"]).await;
    let (pages, comments) = take();
    assert!(
        pages == 5 && comments > 10,
        "{pages} pages of posts, {comments} lists of comments"
    );
    account.simulator.zendesk().change("posts", Update, 3);
    tokio::time::sleep(Duration::from_secs(90)).await;
    account.complete(&["post_comments"]).await;
    let (pages, comments) = take();
    assert!(
        pages == 1 && comments <= 100,
        "{pages} pages of posts, {comments} lists of comments"
    );
    assert_eq!(
        ids(&account, "post_comments"),
        account.simulator.truth().ids("post_comments")
    );
}
