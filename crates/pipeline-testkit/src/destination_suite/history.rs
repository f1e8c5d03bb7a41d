//! A history of rows, of which a purge has something to erase.

use std::sync::Arc;

use pipeline_engine::{Destination, Generation, Purge, Table};

use super::commits::{commit, store};
use super::rows::{Row, all_gone, gone, row, table};

/// A history with what a purge is about: the text `erased` is in rows that are gone, `older` in
/// versions that were replaced.
pub fn history() -> Vec<Vec<Row>> {
    vec![
        vec![
            row(1, "older-a"),
            row(2, "b"),
            row(3, "erased-c"),
            row(4, "erased-group"),
            row(5, "erased-e"),
            row(6, "erased-f"),
        ],
        vec![row(7, "erased-g"), row(3, "erased-cc")],
        vec![row(1, "older-aa"), row(8, "h")],
        vec![gone(3), gone(7)],
        vec![gone(5), all_gone("erased-group"), row(9, "i")],
        vec![row(5, "again"), row(1, "a")],
        vec![gone(6)],
    ]
}

/// The table of the history.
pub fn customers(generation: Generation) -> Arc<Table> {
    table("customers", &["id"], generation)
}

/// Stores the history, and rows of a refresh that was abandoned.
pub async fn store_history(destination: &dyn Destination) {
    destination
        .prepare(&[customers(Generation::Current)])
        .await
        .unwrap();
    for rows in history() {
        store(
            destination,
            &[(&customers(Generation::Current), rows)],
            &commit(vec![]),
        )
        .await
        .unwrap();
    }
    let abandoned = vec![row(20, "erased-next"), gone(21)];
    store(
        destination,
        &[(&customers(Generation::Next), abandoned)],
        &commit(vec![]),
    )
    .await
    .unwrap();
}

/// A purge of everything.
pub fn purge(versions: bool) -> Purge {
    Purge {
        versions,
        run: "purge-1".to_owned(),
        ..Purge::default()
    }
}
