//! What every destination must do, as one generated test per rule.
//!
//! ```text
//! struct Fixture; // implements DestinationFixture
//! pipeline_testkit::destination_suite!(Fixture);
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the suite is test code"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use pipeline_core::state::{EndpointState, Position};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{
    Commit, Delivery, Destination, Generation, Purge, SYNCED_AT, Table, TableId,
};

mod commits;
pub mod files;
mod history;
mod house;
mod rows;
mod rules;
mod scratch;
mod shelf;

pub use self::commits::{advance, commit, endpoint, plan, store};
pub use self::history::{customers, history, purge, store_history};
pub use self::rows::{
    Row, all_gone, batch, canonical, canonical_object, gone, keep, row, table, table_of,
};
pub use self::shelf::{Shelf, carried, expected, live_text, published, shown, shown_by_log};
pub use house::*;
pub use rules::*;
pub use scratch::Scratch;

/// A destination to test, and how a test makes a place for it, opens it, and reads back what others
/// see.
///
/// What has a default is right for a destination in a folder; one on a server overrides it.
#[async_trait]
pub trait DestinationFixture: Send + Sync {
    /// Why the destination cannot be tested on this machine, such as a server that is not
    /// installed; none: it can. Its tests are then skipped by name, and fail where
    /// [`NO_SKIPS`](crate::skip::NO_SKIPS) is set.
    fn missing(&self) -> Option<String> {
        None
    }

    /// True when text may have the character U+0000. A store that cannot hold it shows U+2400 in
    /// its place, and keeps the JSON of the value as text in `_extra`.
    fn holds_nul(&self) -> bool {
        true
    }

    /// Makes a place of a test's own, which is empty: a folder, a database or a bucket.
    async fn scratch(&self) -> Scratch {
        Scratch::folder()
    }

    /// Opens the destination in a place, which may hold what an earlier one left, of this process
    /// or of another.
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>>;

    /// The visible rows of a table, read without the destination's help: each as [`canonical`]
    /// text, sorted.
    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String>;

    /// True when a row replaces the one with its key; false when a table is a log of versions.
    fn upserts(&self) -> bool;

    /// Every crash point in the destination's code.
    fn crash_points(&self) -> &[&'static str];

    /// The crash points that a purge passes.
    fn purge_crash_points(&self) -> &[&'static str];

    /// The rows of a table that is a log of versions, in their order, each as [`canonical`] text.
    /// They are read as the files are, without opening the destination, which would finish what a
    /// process that died has begun.
    fn versions(&self, scratch: &Scratch, table: &Table) -> Option<Vec<String>>;

    /// Ways to damage what is stored after some commits.
    fn damages(&self) -> &[Damage];

    /// Names of everything that is stored: the files of a folder, the tables of a database.
    async fn stored(&self, scratch: &Scratch) -> Vec<String> {
        files(scratch.path())
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    /// Where a text is stored, in a row or in what a row has left behind; none: nowhere.
    async fn find(&self, scratch: &Scratch, text: &str) -> Option<String> {
        let holds = |path: &&PathBuf| {
            fs::read(path)
                .unwrap()
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        files(scratch.path())
            .iter()
            .find(holds)
            .map(|path| path.display().to_string())
    }

    /// What the destination has made beside its place.
    async fn strays(&self, scratch: &Scratch) -> Vec<String> {
        let beside = fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        beside
            .filter(|path| path != scratch.path())
            .map(|path| path.display().to_string())
            .collect()
    }

    /// Places, at least one, in which it cannot be opened or not be written.
    async fn unusable(&self) -> Vec<Scratch> {
        scratch::unusable_folders()
    }
}

/// A way to damage what is stored.
#[derive(Debug)]
pub struct Damage {
    /// What is damaged.
    pub name: &'static str,
    /// Damages it.
    pub inflict: fn(&Scratch),
}

/// Generates the tests for a fixture, an expression. After `local` it is one that stores on this
/// machine's own disk, which may be full.
#[macro_export]
macro_rules! destination_suite {
    ($fixture:expr) => {
        $crate::destination_suite!(@rules $fixture;
            nothing_is_visible_before_the_commit,
            a_dropped_transaction_leaves_nothing,
            a_cancelled_write_leaves_nothing,
            rows_and_checkpoint_survive_a_restart,
            a_refused_change_refuses_everything,
            of_two_writers_with_one_delta_one_wins,
            writers_of_different_endpoints_both_win,
            rows_without_a_key_are_appended,
            rows_with_a_key_replace_each_other,
            a_version_is_stored_once,
            a_set_that_is_the_same_is_not_stored_again,
            a_version_is_stored_once_in_a_refresh,
            what_belonged_together_goes_together,
            the_next_generation_is_invisible_until_published,
            discarding_spares_the_rows_of_its_own_transaction,
            selected_rows_are_carried_into_a_published_generation,
            rows_without_a_key_are_carried,
            publishing_nothing_empties_the_table,
            a_purge_leaves_nothing_of_what_was_deleted,
            columns_are_added,
            every_type_comes_back,
            strange_names_stay_apart,
            the_commit_log_has_no_gaps,
            an_unusable_location_is_explained,
            damage_is_never_taken_for_emptiness,
            a_source_is_claimed_once,
            runs_are_remembered,
            the_oldest_runs_are_forgotten,
            an_intact_destination_has_no_damage,
            rows_that_break_a_check_do_not_reach_their_table,
        );
        $crate::destination_suite!(@respawned $fixture;
            killed_anywhere_it_goes_on_where_it_was,
            killed_while_it_purges_it_shows_the_same,
        );
    };
    (local $fixture:expr) => {
        $crate::destination_suite!($fixture);
        $crate::destination_suite!(@respawned $fixture; a_full_disk_loses_nothing);
    };
    (@rules $fixture:expr; $($rule:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $rule() {
            let fixture = $fixture;
            let missing = $crate::destination_suite::DestinationFixture::missing(&fixture);
            if $crate::skip::skips(env!("CARGO_PKG_NAME"), stringify!($rule), missing) {
                return;
            }
            $crate::destination_suite::$rule(&fixture).await;
        })*
    };
    (@respawned $fixture:expr; $($rule:ident),* $(,)?) => {
        $(#[cfg(unix)]
        #[tokio::test]
        async fn $rule() {
            let fixture = $fixture;
            let missing = $crate::destination_suite::DestinationFixture::missing(&fixture);
            if $crate::skip::skips(env!("CARGO_PKG_NAME"), stringify!($rule), missing) {
                return;
            }
            $crate::crash::$rule(&fixture, concat!(module_path!(), "::", stringify!($rule))).await;
        })*
    };
}

/// Every file below a folder, except SQLite's, which keep their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Fails when a text is stored anywhere.
pub async fn assert_nowhere(fixture: &dyn DestinationFixture, scratch: &Scratch, text: &str) {
    assert_eq!(
        fixture.find(scratch, text).await,
        None,
        "{text} is stored there"
    );
}

async fn open(fixture: &dyn DestinationFixture, scratch: &Scratch) -> Box<dyn Destination> {
    fixture.open(scratch).await.unwrap()
}
