//! Where a destination keeps its data: in the scenario's folder, or on a server.

use std::fmt::Write as _;

use pipeline_testkit::destination_suite::Scratch;
use pipeline_testkit::postgres::Cluster;
use pipeline_testkit::s3::{ACCESS_KEY, Prefix, SECRET_KEY};

use crate::scenario::Store;

/// An empty place of a stage's own.
pub(crate) enum Place {
    Folder,
    Database(Scratch),
    Bucket(Prefix),
}

impl Place {
    /// One for a store. Panics where the server that it needs is not installed.
    pub(crate) fn of(store: Store) -> Self {
        match store {
            Store::Sqlite | Store::Parquet | Store::Jsonl => Self::Folder,
            Store::Postgres => Self::Database(Cluster::shared().database()),
            Store::Bucket => Self::Bucket(Prefix::new()),
        }
    }

    /// The members of the table `[destination]`.
    pub(crate) fn members(&self, store: Store) -> String {
        let mut members = match store {
            Store::Sqlite => "type = \"sqlite\"\npath = \"warehouse.db\"",
            Store::Parquet => "type = \"parquet\"\npath = \"lake\"",
            Store::Jsonl => "type = \"jsonl\"\npath = \"lake\"",
            Store::Postgres => "type = \"postgres\"",
            Store::Bucket => "type = \"parquet\"",
        }
        .to_owned();
        match self {
            Self::Folder => {}
            Self::Database(scratch) => write!(members, "\nurl = \"{}\"", scratch.name()).unwrap(),
            Self::Bucket(prefix) => write!(
                members,
                "\npath = \"{}\"\nstorage.endpoint = \"{}\"\nstorage.region = \
                 \"us-east-1\"\nstorage.access_key_id = \"{ACCESS_KEY}\"\n\
                 storage.secret_access_key = \"{SECRET_KEY}\"",
                prefix.url(),
                prefix.endpoint
            )
            .unwrap(),
        }
        members
    }
}
