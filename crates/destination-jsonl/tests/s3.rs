//! The JSON Lines destination in a bucket, under the conformance suite.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use destination_files::{FileDestination, FileTarget, Options};
use destination_jsonl::Jsonl;
use pipeline_core::Result;
use pipeline_engine::{Access, Destination, Table};
use pipeline_testkit::destination_suite::canonical_object;
use pipeline_testkit::s3::{ACCESS_KEY, BucketFormat, InBucket, Prefix, SECRET_KEY};

struct Lines;

async fn open(prefix: &Prefix) -> Result<FileDestination> {
    let storage = serde_json::json!({
        "endpoint": prefix.endpoint,
        "region": "us-east-1",
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    });
    let target = FileTarget {
        path: PathBuf::from(prefix.url()),
        storage: Some(serde_json::from_value(storage).unwrap()),
    };
    let options = Options {
        snapshot_every: 4,
        lease: Duration::from_secs(2),
        ..Options::default()
    };
    FileDestination::open_for(Access::Write, target, Jsonl, options).await
}

#[async_trait]
impl BucketFormat for Lines {
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
        "jsonl"
    }

    fn rows(&self, bytes: Vec<u8>) -> Vec<String> {
        let text = String::from_utf8(bytes).unwrap();
        let row = |line| canonical_object(serde_json::from_str(line).unwrap());
        text.lines().map(row).collect()
    }
}

pipeline_testkit::destination_suite!(InBucket(Lines));
