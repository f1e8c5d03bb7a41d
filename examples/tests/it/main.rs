//! Runs every example against simulated vendors.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use connector_stripe::StripeConfig;
use connector_zendesk::ZendeskConfig;
use futures::TryStreamExt;
use pipeline_core::slice::TimeRange;
use pipeline_core::{Availability, BuildContext, ConnectorConfig, SessionExt};
use pipeline_engine::{CancellationToken, Outcome, Selection};
use pipeline_simulator::{Simulation, Simulator, StripeWorld, ZendeskWorld};
use rusqlite::Connection;

#[expect(dead_code, reason = "`main` is not called")]
#[path = "../../a_connector.rs"]
mod a_connector;
#[expect(dead_code, reason = "`main` is not called")]
#[path = "../../a_destination.rs"]
mod a_destination;
#[expect(dead_code, reason = "`main` is not called")]
#[path = "../../embed_in_a_service.rs"]
mod embed_in_a_service;
#[expect(dead_code, reason = "`main` is not called")]
#[path = "../../read_one_list.rs"]
mod read_one_list;
#[expect(dead_code, reason = "`main` is not called")]
#[path = "../../sync_into_sqlite.rs"]
mod sync_into_sqlite;

mod threads;

const KEY: &str = "sk_test_sim";

async fn simulator() -> Simulator {
    let stripe = StripeWorld {
        charges: 350,
        customers: 120,
        others: 5,
        ..StripeWorld::default()
    };
    let zendesk = ZendeskWorld {
        tickets: 40,
        users: 30,
        organizations: 3,
        groups: 2,
        ..ZendeskWorld::default()
    };
    Simulator::start(Simulation {
        stripe,
        zendesk,
        ..Simulation::default()
    })
    .await
    .unwrap()
}

fn stripe(simulator: &Simulator) -> StripeConfig {
    let mut config = StripeConfig::new(KEY);
    config.base_url = simulator.url();
    config
}

fn truth(simulator: &Simulator, table: &str) -> BTreeSet<String> {
    simulator.truth().ids(table).into_iter().collect()
}

/// The ids in a table, of which none may occur twice.
fn stored(path: &Path, table: &str) -> BTreeSet<String> {
    let database = Connection::open(path).unwrap();
    let mut query = database
        .prepare(&format!("SELECT id FROM {table}"))
        .unwrap();
    let ids: Vec<String> = query
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let unique: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), unique.len(), "{table} has a row twice");
    unique
}

#[tokio::test(flavor = "multi_thread")]
async fn one_list_is_read_whole() {
    let simulator = simulator().await;
    let mut out = Vec::new();
    read_one_list::print_charges(stripe(&simulator), &mut out)
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    let ids: BTreeSet<String> = text
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(ids, truth(&simulator, "charges"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sync_into_sqlite_adds_nothing() {
    let simulator = simulator().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warehouse.db");
    for _ in 0..2 {
        let summary = sync_into_sqlite::sync_into(stripe(&simulator), &path)
            .await
            .unwrap();
        assert!(
            summary
                .endpoints
                .iter()
                .all(|endpoint| matches!(endpoint.outcome, Outcome::Done)),
            "{summary:?}"
        );
        for stream in ["charges", "customers"] {
            assert_eq!(
                stored(&path, &format!("payments_{stream}")),
                truth(&simulator, stream)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_reads_another_api() {
    let simulator = simulator().await;
    let config = a_connector::AcmeConfig {
        api_key: KEY.into(),
        base_url: simulator.url().parse().unwrap(),
    };
    let acme = config.build(BuildContext::new("acme")).unwrap();
    assert_eq!(
        acme.check(&[]).await.unwrap().endpoints,
        [("customers".to_owned(), Availability::Available)]
    );
    let run = acme.open(&["customers"]).await.unwrap();
    let records: Vec<_> = run
        .records("customers", TimeRange::all())
        .try_collect()
        .await
        .unwrap();
    let ids: Vec<String> = records
        .iter()
        .filter_map(|record| record.scalar("id"))
        .collect();
    assert_eq!(ids.len(), 120);
    assert_eq!(
        ids.into_iter().collect::<BTreeSet<_>>(),
        truth(&simulator, "customers")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_short_is_completed_without_a_row_twice() {
    let simulator = simulator().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("commits.jsonl");
    a_destination::sync_into(stripe(&simulator), &path)
        .await
        .unwrap();
    let whole = fs::read(&path).unwrap();
    // The last commit with rows is cut in half, and what follows it is gone.
    let with_rows = |line: &&[u8]| {
        serde_json::from_slice::<a_destination::Line>(line).is_ok_and(|line| !line.rows.is_empty())
    };
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines.iter().rposition(with_rows).unwrap();
    let before: usize = lines[..last].iter().map(|line| line.len()).sum();
    fs::write(&path, &whole[..before + lines[last].len() / 2]).unwrap();
    a_destination::sync_into(stripe(&simulator), &path)
        .await
        .unwrap();

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<a_destination::Line> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .map(|line| line.sequence)
            .eq(1..=lines.len() as u64),
        "{text}"
    );
    let rows = lines
        .iter()
        .flat_map(|line| line.rows.get("payments_charges").into_iter().flatten());
    let ids: Vec<String> = rows.map(|row| row["id"].clone()).collect();
    assert_eq!(ids.len(), 350);
    assert_eq!(
        ids.into_iter().collect::<BTreeSet<_>>(),
        truth(&simulator, "charges")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_syncs_two_sources_side_by_side_and_again() {
    let simulator = simulator().await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("warehouse.db");
    let service = embed_in_a_service::Service {
        database: database.clone(),
        limits: Arc::default(),
        stop: CancellationToken::new(),
    };
    let mut zendesk = ZendeskConfig::new("acme").client("sim_client", "sim_secret");
    zendesk.base_url = Some(simulator.url().parse().unwrap());
    let only = |stream: &str| Selection::Named(vec![stream.to_owned()]);
    for _ in 0..2 {
        let payments = service.sync("payments", stripe(&simulator), only("charges"));
        let support = service.sync("support", zendesk.clone(), only("groups"));
        let (payments, support) = tokio::join!(payments, support);
        assert_eq!(embed_in_a_service::report("payments", &payments), [""; 0]);
        assert_eq!(embed_in_a_service::report("support", &support), [""; 0]);
        assert_eq!(
            stored(&database, "payments_charges"),
            truth(&simulator, "charges")
        );
    }
    let groups: i64 = Connection::open(&database)
        .unwrap()
        .query_row("SELECT count(*) FROM support_groups", [], |row| row.get(0))
        .unwrap();
    assert_eq!(groups, 2);
    let refused = service
        .sync("payments", StripeConfig::new("pk_test_1"), only("charges"))
        .await;
    assert_eq!(embed_in_a_service::report("payments", &refused).len(), 1);
}
