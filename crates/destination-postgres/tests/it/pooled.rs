//! Behind a pooler that gives every transaction another connection.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use destination_postgres::{PostgresConfig, PostgresDestination};
use pipeline_core::ErrorKind;
use pipeline_engine::{Depth, Destination as _, Generation};
use pipeline_testkit::destination_suite::{advance, commit, plan, purge, row, shown, store, table};

use crate::{Postgres, is_skipped};
use pipeline_testkit::postgres::{Cluster, as_other_user, database_of, free_port, pause};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running pooler; it ends when this is dropped.
struct Pooler {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pooler {
    /// One with so many connections to the server.
    fn start(server: u16, connections: usize) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        // With `auth_type = any` all clients are one user at the server.
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {connections}\nmax_client_conn = 200\n"
        );
        let path = dir.path().join("pgbouncer.ini");
        std::fs::write(&path, settings).unwrap();
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), everybody).unwrap();
        let process = as_other_user(PROGRAM)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Self {
            process,
            port,
            _dir: dir,
        };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the pooler does not start"
            );
            pause(Duration::from_millis(50));
        }
        pooler
    }
}

fn is_skipped_here(test: &str) -> bool {
    let missing = (!std::path::Path::new(PROGRAM).exists())
        .then(|| format!("no pgbouncer ({PROGRAM} is not there)"));
    is_skipped(test) || pipeline_testkit::skip::skips(env!("CARGO_PKG_NAME"), test, missing)
}

#[tokio::test]
async fn a_pooler_of_transactions_changes_nothing() {
    if is_skipped_here("a_pooler_of_transactions_changes_nothing") {
        return;
    }
    let cluster = Cluster::shared();
    let scratch = cluster.database();
    let pooler = Pooler::start(cluster.port, 6);
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/{}",
        pooler.port,
        database_of(scratch.name())
    );
    let config = PostgresConfig {
        pooled: true,
        ..PostgresConfig::new(url)
    };
    let first = PostgresDestination::open(config.clone()).await.unwrap();
    first.check().await.unwrap();
    // The claim holds although every transaction has another connection.
    let claim = first.claim("shop", "run-1").await.unwrap();
    let writers = (0..4_i64).map(|writer| {
        let config = config.clone();
        tokio::spawn(async move {
            let destination = PostgresDestination::open(config).await.unwrap();
            assert_eq!(destination.is_claimed("shop").await.unwrap(), Some(true));
            let Err(error) = destination.claim("shop", "run-2").await else {
                panic!("it is claimed");
            };
            assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
            assert!(error.to_string().contains("run-1"), "{error}");
            let (keyed, appended) = (
                table("keyed", &["id"], Generation::Current),
                table("appended", &[], Generation::Current),
            );
            let name = format!("endpoint_{writer}");
            for page in 0..6 {
                let change = if page == 0 {
                    plan(&name)
                } else {
                    advance(&name, page - 1)
                };
                let id = writer * 10 + i64::try_from(page).unwrap();
                let rows = [
                    (&keyed, vec![row(id, "a"), row(id, "b")]),
                    (&appended, vec![row(id, "a")]),
                ];
                while let Err(error) =
                    store(&destination, &rows, &commit(vec![change.clone()])).await
                {
                    assert!(error.is_temporary(), "{error:?}");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for (stream, key) in [("keyed", &["id"][..]), ("appended", &[])] {
        let table = table(stream, key, Generation::Current);
        assert_eq!(
            shown(&Postgres, &scratch, &table).await.len(),
            24,
            "{stream}"
        );
    }
    first.purge(&purge(true)).await.unwrap();
    assert_eq!(first.verify(Depth::Content).await.unwrap(), []);
    drop(claim);
    first.claim("shop", "run-3").await.unwrap();
}
