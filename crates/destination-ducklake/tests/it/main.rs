//! The DuckLake destination under the conformance suite, and its own rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test that is skipped says so"
)]

mod duckdb;
#[cfg(unix)]
mod kills;
mod lake;
mod rules;
mod values;

use std::fs;
use std::path::Path;

use async_trait::async_trait;
use destination_ducklake::{Deletes, DucklakeConfig, DucklakeDestination};
use pipeline_core::Result;
use pipeline_engine::{Destination, Table};
use pipeline_testkit::destination_suite::{Damage, DestinationFixture, Scratch};
use rusqlite::Connection;

pub(crate) struct Ducklake;

pub(crate) fn config(dir: &Path) -> DucklakeConfig {
    DucklakeConfig {
        catalog: dir.join("warehouse.ducklake"),
        data: None,
        deletes: Deletes::Remove,
    }
}

pub(crate) fn connect(dir: &Path) -> Connection {
    Connection::open(config(dir).catalog).unwrap()
}

#[async_trait]
impl DestinationFixture for Ducklake {
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        Ok(Box::new(DucklakeDestination::open(config(scratch.path()))?))
    }

    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        lake::rows(&connect(scratch.path()), table)
    }

    fn upserts(&self) -> bool {
        true
    }

    fn crash_points(&self) -> &[&'static str] {
        &[
            "ducklake-after-begin",
            "ducklake-before-prepared",
            "ducklake-rows-written",
            "ducklake-file-written",
            "ducklake-deletes-written",
            "ducklake-carrying",
            "ducklake-publishing",
            "ducklake-rewritten",
            "ducklake-before-merged",
            "ducklake-before-commit",
            "ducklake-after-commit",
        ]
    }

    fn purge_crash_points(&self) -> &[&'static str] {
        &[
            "ducklake-rewritten",
            "ducklake-before-purged",
            "ducklake-removing-files",
            "ducklake-after-vacuum",
        ]
    }

    fn versions(&self, _: &Scratch, _: &Table) -> Option<Vec<String>> {
        None
    }

    fn damages(&self) -> &[Damage] {
        &[
            Damage {
                name: "garbage in the state table",
                inflict: |scratch| {
                    connect(scratch.path())
                        .execute("UPDATE _pipeline_state SET state = '{\"version\":1,'", [])
                        .unwrap();
                },
            },
            Damage {
                name: "no catalogue",
                inflict: |scratch| {
                    fs::write(config(scratch.path()).catalog, "garbage ".repeat(1000)).unwrap();
                },
            },
            Damage {
                name: "a truncated catalogue",
                inflict: |scratch| {
                    fs::File::options()
                        .write(true)
                        .open(config(scratch.path()).catalog)
                        .unwrap()
                        .set_len(5000)
                        .unwrap();
                },
            },
            Damage {
                name: "a catalogue of a later version",
                inflict: |scratch| {
                    connect(scratch.path())
                        .execute(
                            "UPDATE ducklake_metadata SET value = '2.0' WHERE key = 'version'",
                            [],
                        )
                        .unwrap();
                },
            },
        ]
    }
}

pipeline_testkit::destination_suite!(local Ducklake);
