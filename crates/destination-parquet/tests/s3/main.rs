//! The Parquet destination in a bucket: the conformance suite, and what stores and networks do.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod delta;
mod faults;
mod writers;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use destination_files::{FileDestination, FileTarget, Options, StorageConfig};
use destination_parquet::{Compression, Parquet};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline_core::Result;
use pipeline_engine::{Access, Destination, Table};
use pipeline_testkit::destination_suite::canonical;
use pipeline_testkit::s3::{ACCESS_KEY, BucketFormat, InBucket, Prefix, SECRET_KEY};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lake;

pub(crate) fn options() -> Options {
    Options {
        snapshot_every: 4,
        lease: Duration::from_secs(2),
        ..Options::default()
    }
}

pub(crate) fn storage(endpoint: &str) -> StorageConfig {
    serde_json::from_value(serde_json::json!({
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }))
    .unwrap()
}

/// Opens a prefix at an address that need not be the server's.
pub(crate) async fn open_at(
    prefix: &Prefix,
    endpoint: &str,
    access: Access,
    options: Options,
) -> Result<FileDestination> {
    let target = FileTarget {
        path: PathBuf::from(prefix.url()),
        storage: Some(storage(endpoint)),
    };
    FileDestination::open_for(access, target, Parquet::new(Compression::Zstd), options).await
}

pub(crate) async fn open(prefix: &Prefix) -> Result<FileDestination> {
    open_at(prefix, &prefix.endpoint, Access::Write, options()).await
}

/// The rows of all files of a table of the source `demo`, as a plain listing shows them.
pub(crate) fn listed(prefix: &Prefix, stream: &str) -> Vec<String> {
    let names = InBucket(Lake).listed(prefix, &format!("demo/{stream}"));
    let mut rows: Vec<String> = names
        .iter()
        .flat_map(|name| Lake.rows(prefix.read(name)))
        .collect();
    rows.sort();
    rows
}

#[async_trait]
impl BucketFormat for Lake {
    async fn open(&self, prefix: &Prefix) -> Result<Box<dyn Destination>> {
        Ok(Box::new(open(prefix).await?))
    }

    async fn committed(&self, prefix: &Prefix, table: &Table) -> (String, Vec<String>) {
        let destination = open(prefix).await.unwrap();
        let root = PathBuf::from(prefix.url());
        let below = |path: PathBuf| {
            let below = path.strip_prefix(&root).unwrap();
            below.to_str().unwrap().to_owned()
        };
        let files = destination.files(&table.id()).unwrap();
        let files = files.into_iter().map(below).collect();
        (below(destination.folder(&table.id())), files)
    }

    fn extension(&self) -> &'static str {
        "parquet"
    }

    fn rows(&self, bytes: Vec<u8>) -> Vec<String> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        let batches = reader.build().unwrap();
        batches
            .flat_map(|batch| canonical(&batch.unwrap()))
            .collect()
    }
}

mod suite {
    use super::{InBucket, Lake};

    pipeline_testkit::destination_suite!(InBucket(Lake));
}

/// True when there is no server to test with, which is said.
pub(crate) fn skipped(test: &str) -> bool {
    pipeline_testkit::skip::skips(
        env!("CARGO_PKG_NAME"),
        test,
        pipeline_testkit::s3::missing(),
    )
}
