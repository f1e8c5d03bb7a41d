//! A cache between Zendesk and the sync that answers with the records of another page: no row is
//! lost, and none is deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use pipeline_core::ErrorKind;
use pipeline_simulator::{Simulation, Simulator, ZendeskWorld};
use pipeline_testkit::acceptance::reply;
use serde_json::Value;

use super::account::Account;

/// Which page of a list comes in the place of which; none: its own.
type Cache = fn(usize) -> Option<usize>;

/// The first page in the place of each other one.
const ALWAYS_THE_FIRST: Cache = |page| (page > 0).then_some(0);

/// The third page twice.
const ONE_TWICE: Cache = |page| (page == 3).then_some(2);

/// The first page once more, in the middle.
const THE_FIRST_AGAIN: Cache = |page| (page == 3).then_some(0);

fn account() -> Account {
    let counts = [("sla_policies".to_owned(), 450)].into();
    let world = ZendeskWorld {
        tickets: 200,
        users: 200,
        groups: 450,
        organizations: 200,
        counts,
        ..ZendeskWorld::default()
    };
    let mut account = Account::new(Simulation {
        zendesk: world,
        latency: Duration::from_millis(100),
        ..Simulation::default()
    });
    account.config["export_page_size"] = 40.into();
    account
}

/// Replaces the records of pages of a list, and nothing else of them: their cursors are right.
fn cached(account: &mut Account, list: &'static str, cache: Cache) {
    // The pages by what asks for them, and the records of each.
    let pages: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let records: Mutex<Vec<Value>> = Mutex::default();
    let (pages, records) = (Arc::new(pages), Arc::new(records));
    account.behind(Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let (pages, records) = (Arc::clone(&pages), Arc::clone(&records));
            async move {
                let target = request.uri().to_string();
                let answer = simulator.answer(request).await;
                if !answer.status().is_success() {
                    return answer;
                }
                let (parts, body) = answer.into_parts();
                let mut body: Value = serde_json::from_slice(
                    &body.try_collect::<Vec<Bytes>>().await.unwrap().concat(),
                )
                .unwrap();
                if body[list].is_array() {
                    let (mut pages, mut records) = (pages.lock().unwrap(), records.lock().unwrap());
                    let next = pages.len();
                    let page = *pages.entry(target).or_insert(next);
                    if page == records.len() {
                        records.push(body[list].clone());
                    }
                    if let Some(other) = cache(page) {
                        body[list] = records[other].clone();
                    }
                }
                reply(
                    parts.status.as_u16(),
                    &[("content-type", "application/json")],
                    body.to_string(),
                )
            }
            .boxed()
        },
    ));
}

/// Takes the cache away.
fn heal(account: &mut Account) {
    account.behind(Arc::new(|request, simulator: Arc<Simulator>| {
        simulator.answer(request).boxed()
    }));
}

fn ids(account: &Account, list: &str) -> Vec<String> {
    account.rows(list, "id", "id").into_keys().collect()
}

#[tokio::test(start_paused = true)]
async fn b20_a_list_that_goes_on_by_cursors_is_not_read_past_a_page_that_came_before() {
    for list in ["tickets", "users", "groups"] {
        for cache in [ALWAYS_THE_FIRST, ONE_TWICE, THE_FIRST_AGAIN] {
            let mut account = account();
            cached(&mut account, list, cache);
            // However often it is tried meanwhile.
            for _ in 0..3 {
                let summary = account.sync(&[list]).await;
                assert_eq!(
                    summary.failure(),
                    Some(ErrorKind::Decode),
                    "{list}: {summary:#?}"
                );
            }
            heal(&mut account);
            account.complete(&[list]).await;
            assert_eq!(
                ids(&account, list),
                account.simulator.truth().ids(list),
                "{list}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b20_a_refresh_deletes_nothing_because_a_page_came_twice() {
    for list in ["groups", "sla_policies"] {
        for cache in [ALWAYS_THE_FIRST, ONE_TWICE, THE_FIRST_AGAIN] {
            let mut account = account();
            account.complete(&[list]).await;
            cached(&mut account, list, cache);
            let summary = account.sync(&[list]).await;
            assert_eq!(
                summary.failure(),
                Some(ErrorKind::Decode),
                "{list}: {summary:#?}"
            );
            assert_eq!(
                ids(&account, list),
                account.simulator.truth().ids(list),
                "{list}: what was stored stays"
            );
            heal(&mut account);
            account.complete(&[list]).await;
            assert_eq!(
                ids(&account, list),
                account.simulator.truth().ids(list),
                "{list}"
            );
        }
    }
}
