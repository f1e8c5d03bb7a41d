//! Servers and connections that die: whatever was being done, rows and checkpoint are those of one
//! commit, and a commit whose answer was lost is neither repeated nor forgotten.

use std::time::Duration;

use destination_postgres::{PostgresConfig, PostgresDestination};
use pipeline_core::state::Position;
use pipeline_core::{ErrorKind, Result};
use pipeline_engine::{Commit, Depth, Destination, Generation};
use pipeline_testkit::destination_suite::{
    Row, Scratch, advance, commit, endpoint, gone, plan, row, shown, store, table,
};

use crate::proxy::{Break, Proxy};
use crate::{Postgres, is_skipped};
use pipeline_testkit::postgres::{Cluster, database_of};

async fn open(url: &str) -> Result<PostgresDestination> {
    PostgresDestination::open(PostgresConfig::new(url)).await
}

/// The pages of a run: rows of a table with a key, rows of one without, and whether a refresh is
/// published.
fn pages() -> Vec<(Generation, Vec<Row>, bool)> {
    use Generation::{Current, Next};
    vec![
        (Current, vec![row(1, "a"), row(2, "b")], false),
        (Current, vec![gone(2), row(3, "c")], false),
        (Next, vec![row(1, "n"), row(4, "n")], false),
        (Next, vec![row(5, "n"), gone(1)], true),
        (Current, vec![row(6, "x")], false),
    ]
}

/// What is visible of the table with a key after so many pages.
const VISIBLE: [&[&str]; 6] = [
    &[],
    &["1=a", "2=b"],
    &["1=a", "3=c"],
    &["1=a", "3=c"],
    &["4=n", "5=n"],
    &["4=n", "5=n", "6=x"],
];

/// Pages that are committed.
async fn done(destination: &dyn Destination) -> Result<Option<usize>> {
    let state = destination.load(&endpoint("charges")).await?;
    Ok(match state.slices.get(&0).map(|slice| &slice.position) {
        None => None,
        Some(Position::At(page)) => Some(page.parse().unwrap()),
        Some(_) => Some(0),
    })
}

/// Reads on from where it is to the end.
async fn run(destination: &dyn Destination) -> Result<()> {
    if done(destination).await?.is_none() {
        store(destination, &[], &commit(vec![plan("charges")])).await?;
    }
    let first = done(destination).await?.unwrap();
    for (page, (generation, rows, is_published)) in pages().into_iter().enumerate().skip(first) {
        let charges = table("charges", &["id"], generation);
        let events = table("events", &[], Generation::Current);
        let id = i64::try_from(page).unwrap();
        let commit = Commit {
            publish: if is_published {
                vec![charges.id()]
            } else {
                vec![]
            },
            ..commit(vec![advance("charges", page)])
        };
        destination
            .prepare(&[table("charges", &["id"], Generation::Current)])
            .await?;
        let writes = [(&charges, rows), (&events, vec![row(id, "e")])];
        store(destination, &writes, &commit).await?;
    }
    Ok(())
}

/// Compares what others see with the checkpoint.
async fn verify(scratch: &Scratch, place: &str) -> Option<usize> {
    let destination = open(scratch.name()).await.unwrap();
    let done = done(&destination).await.unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let events = table("events", &[], Generation::Current);
    let pages = done.unwrap_or(0);
    assert_eq!(
        shown(&Postgres, scratch, &charges).await,
        VISIBLE[pages],
        "{place}"
    );
    assert_eq!(
        shown(&Postgres, scratch, &events).await.len(),
        pages,
        "{place}"
    );
    let commits = destination.status(100).await.unwrap().commits.len();
    assert_eq!(commits, done.map_or(0, |pages| pages + 1), "{place}");
    assert_eq!(
        destination.verify(Depth::Content).await.unwrap(),
        [],
        "{place}"
    );
    done
}

/// Environment variable with which connections are broken at every message, which takes minutes.
const EVERY_MESSAGE: &str = "PIPELINE_EVERY_MESSAGE";

/// Breaks the connection at messages all over a run, each in a run of its own.
async fn broken_everywhere(mode: Break, first: i64) {
    let cluster = Cluster::shared();
    let stride = if std::env::var_os(EVERY_MESSAGE).is_some() {
        1
    } else {
        37
    };
    let mut number = first;
    loop {
        let scratch = cluster.database();
        let place = format!("{mode:?} at message {number}");
        let proxy = Proxy::at_message(cluster.port, number, mode).await;
        let url = format!(
            "{}?application_name=cut",
            proxy.url(database_of(scratch.name()))
        );
        let ran = match open(&url).await {
            Ok(destination) => run(&destination).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &ran {
            assert_eq!(error.kind(), ErrorKind::Destination, "{place}: {error:?}");
            assert!(error.help().is_some(), "{place}: {error:?}");
        }
        let done = verify(&scratch, &place).await;
        if ran.is_ok() {
            assert_eq!(done, Some(pages().len()), "{place}");
        }
        run(&open(scratch.name()).await.unwrap()).await.unwrap();
        assert_eq!(
            verify(&scratch, &place).await,
            Some(pages().len()),
            "{place}"
        );
        if !proxy.has_broken() {
            assert!(number > 100, "a run has more than {number} messages");
            break;
        }
        number += stride;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_after_any_message_loses_and_doubles_nothing() {
    if is_skipped("a_connection_that_is_cut_after_any_message_loses_and_doubles_nothing") {
        return;
    }
    broken_everywhere(Break::AfterForwarding, 1).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_before_any_message_loses_and_doubles_nothing() {
    if is_skipped("a_connection_that_is_cut_before_any_message_loses_and_doubles_nothing") {
        return;
    }
    broken_everywhere(Break::Before, 12).await;
}

#[tokio::test]
async fn a_server_process_that_is_terminated_at_any_message_loses_and_doubles_nothing() {
    if is_skipped("a_server_process_that_is_terminated_at_any_message_loses_and_doubles_nothing") {
        return;
    }
    broken_everywhere(Break::Terminate, 24).await;
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_even_while_it_is_being_made() {
    if is_skipped("a_commit_whose_answer_was_lost_is_found_even_while_it_is_being_made") {
        return;
    }
    let cluster = Cluster::shared();
    for mode in [Break::AfterForwarding, Break::Before] {
        let scratch = cluster.database();
        let proxy = Proxy::at_commit(cluster.port, mode).await;
        let destination = open(&proxy.url(database_of(scratch.name()))).await.unwrap();
        let events = table("events", &[], Generation::Current);
        store(
            &destination,
            &[(&events, vec![row(0, "e")])],
            &commit(vec![plan("events")]),
        )
        .await
        .unwrap();
        // A commit that takes longer than it takes to connect anew.
        cluster.run(
            database_of(scratch.name()),
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON _pipeline.commits DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION slow()",
        );
        proxy.arm();
        let rows = [(&events, vec![row(1, "e")])];
        let stored = store(&destination, &rows, &commit(vec![advance("events", 0)])).await;
        assert!(proxy.has_broken());
        let expected = if mode == Break::AfterForwarding {
            assert_eq!(stored.unwrap(), 2, "it was made, and it is known");
            2
        } else {
            let error = stored.expect_err("it was not made");
            assert!(error.is_temporary() && error.help().is_some(), "{error:?}");
            1
        };
        assert_eq!(shown(&Postgres, &scratch, &events).await.len(), expected);
        // The destination goes on with another connection.
        let page = expected - 1;
        store(
            &destination,
            &[(&events, vec![row(9, "e")])],
            &commit(vec![advance("events", page)]),
        )
        .await
        .unwrap();
        assert_eq!(
            shown(&Postgres, &scratch, &events).await.len(),
            expected + 1
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_comes_back_with_whole_commits() {
    if is_skipped("a_server_that_is_killed_comes_back_with_whole_commits") {
        return;
    }
    let mut cluster = Cluster::start(true);
    cluster.run("postgres", "CREATE DATABASE shop");
    let url = cluster.url("shop");
    let scratch = Scratch::new(url.clone(), ());
    let mut destination = open(&url).await.unwrap();
    store(&destination, &[], &commit(vec![plan("events")]))
        .await
        .unwrap();
    let (events, charges) = (
        table("events", &[], Generation::Current),
        table("charges", &["id"], Generation::Current),
    );
    let mut page = 0;
    for kill in 0..6_u64 {
        let writing = async {
            loop {
                let id = i64::try_from(page).unwrap();
                let writes = [
                    (&events, vec![row(id, "e")]),
                    (&charges, vec![row(id % 5, "c")]),
                ];
                match store(
                    &destination,
                    &writes,
                    &commit(vec![advance("events", page)]),
                )
                .await
                {
                    Ok(_) => page += 1,
                    Err(error) => return error,
                }
            }
        };
        // A commit that was under way is asked for until the server is back.
        let restarting = async {
            tokio::time::sleep(Duration::from_millis(150 + 61 * kill)).await;
            cluster.kill();
            tokio::task::block_in_place(|| cluster.restart());
        };
        let (error, ()) = tokio::join!(writing, restarting);
        assert!(error.is_temporary() && error.help().is_some(), "{error:?}");
        destination = open(&url).await.unwrap();
        let state = destination.load(&endpoint("events")).await.unwrap();
        let stored = match &state.slices[&0].position {
            Position::At(page) => page.parse().unwrap(),
            _ => 0,
        };
        assert_eq!(
            shown(&Postgres, &scratch, &events).await.len(),
            stored,
            "after kill {kill}"
        );
        assert_eq!(
            stored, page,
            "what was reported is there, and what failed is not"
        );
        assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    }
    assert!(page > 5, "{page} pages were committed in between");
}

#[tokio::test]
async fn a_lock_that_is_held_for_long_is_worth_another_try() {
    if is_skipped("a_lock_that_is_held_for_long_is_worth_another_try") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(scratch.name()).await.unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&charges, vec![row(1, "a")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let other = crate::connect(scratch.name()).await;
    other
        .batch_execute("BEGIN; LOCK TABLE demo.charges")
        .await
        .unwrap();
    let rows = [(&charges, vec![row(1, "b")])];
    let error = store(&destination, &rows, &commit(vec![]))
        .await
        .expect_err("it is locked");
    assert!(error.is_temporary(), "{error:?}");
    assert_eq!(error.message(), "the database is used by another process");
    other.batch_execute("ROLLBACK").await.unwrap();
    store(&destination, &rows, &commit(vec![])).await.unwrap();
    assert_eq!(shown(&Postgres, &scratch, &charges).await, ["1=b"]);
}
