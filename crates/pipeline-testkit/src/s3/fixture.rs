//! File destinations in a bucket, under the conformance suite.

use async_trait::async_trait;
use pipeline_core::Result;
use pipeline_engine::{Destination, Table};

use super::{Prefix, missing};
use crate::destination_suite::{Damage, DestinationFixture, Scratch};

/// A format of files in a bucket.
#[async_trait]
pub trait BucketFormat: Send + Sync {
    /// Opens the destination.
    async fn open(&self, prefix: &Prefix) -> Result<Box<dyn Destination>>;

    /// The folder of a table and its visible files, as the newest manifest has them, each from the
    /// prefix on, oldest first.
    async fn committed(&self, prefix: &Prefix, table: &Table) -> (String, Vec<String>);

    /// What the names of data files end in, without the dot.
    fn extension(&self) -> &'static str;

    /// The rows of a file, in their order, each as
    /// [`canonical`](crate::destination_suite::canonical) text.
    fn rows(&self, bytes: Vec<u8>) -> Vec<String>;
}

/// The fixture of a format in a bucket.
#[derive(Clone, Copy, Debug)]
pub struct InBucket<F>(pub F);

impl<F: BucketFormat> InBucket<F> {
    /// The data files in a folder, as a plain listing shows them.
    pub fn listed(&self, prefix: &Prefix, folder: &str) -> Vec<String> {
        let end = format!(".{}", self.0.extension());
        let mut listed = prefix.objects(folder);
        listed.retain(|name| name.ends_with(&end));
        listed
    }

    fn read(&self, prefix: &Prefix, names: &[String]) -> Vec<String> {
        let rows = |name: &String| self.0.rows(prefix.read(name));
        names.iter().flat_map(rows).collect()
    }
}

#[async_trait]
impl<F: BucketFormat> DestinationFixture for InBucket<F> {
    async fn scratch(&self) -> Scratch {
        Prefix::new().scratch()
    }

    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        self.0.open(&Prefix::of(scratch)).await
    }

    fn missing(&self) -> Option<String> {
        missing()
    }

    /// By a plain listing, which must agree with the manifests.
    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        let prefix = Prefix::of(scratch);
        let (folder, committed) = self.0.committed(&prefix, table).await;
        let listed = self.listed(&prefix, &folder);
        assert_eq!(listed, committed, "a plain listing shows other files");
        let mut rows = self.read(&prefix, &listed);
        rows.sort();
        rows
    }

    fn upserts(&self) -> bool {
        false
    }

    fn crash_points(&self) -> &[&'static str] {
        &[
            "files-after-write",
            "files-before-manifest",
            "files-after-manifest",
            "files-after-carrying",
            "files-copied",
            "files-replacing",
            "files-discarding",
            "files-placing",
            "files-before-snapshot",
        ]
    }

    fn purge_crash_points(&self) -> &[&'static str] {
        &[
            "files-before-manifest",
            "files-after-manifest",
            "files-copied",
            "files-discarding",
            "files-rewriting",
            "files-replacing",
        ]
    }

    fn versions(&self, scratch: &Scratch, table: &Table) -> Option<Vec<String>> {
        let prefix = Prefix::of(scratch);
        let folder = format!("{}/{}", table.source, table.stream);
        let listed = self.listed(&prefix, &folder);
        Some(self.read(&prefix, &listed))
    }

    fn damages(&self) -> &[Damage] {
        &[
            Damage {
                name: "a truncated manifest",
                inflict: |scratch| {
                    change(scratch, "_manifest/0000000009.json", |text| {
                        text[..text.len() / 2].to_owned()
                    });
                },
            },
            Damage {
                name: "a changed manifest",
                inflict: |scratch| {
                    change(scratch, "_manifest/0000000009.json", |text| {
                        text.replace("\"8\"", "\"2\"")
                    });
                },
            },
            Damage {
                name: "a lost manifest",
                inflict: |scratch| {
                    let prefix = Prefix::of(scratch);
                    let last = prefix.read("_manifest/0000000009.json");
                    prefix.remove("_manifest/0000000009.json");
                    prefix.write("_manifest/0000000010.json", &last);
                },
            },
            Damage {
                name: "garbage as snapshot",
                inflict: |scratch| {
                    Prefix::of(scratch).write("_manifest/snapshot.json", b"garbage");
                },
            },
            Damage {
                name: "all manifests lost",
                inflict: |scratch| Prefix::of(scratch).remove("_manifest"),
            },
        ]
    }

    async fn stored(&self, scratch: &Scratch) -> Vec<String> {
        Prefix::of(scratch).objects("")
    }

    async fn find(&self, scratch: &Scratch, text: &str) -> Option<String> {
        let prefix = Prefix::of(scratch);
        let holds = |name: &String| {
            prefix
                .read(name)
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        prefix.objects("").into_iter().find(holds)
    }

    async fn strays(&self, scratch: &Scratch) -> Vec<String> {
        let prefix = Prefix::of(scratch);
        let (above, own) = prefix.prefix.rsplit_once('/').unwrap();
        let above = Prefix {
            prefix: above.to_owned(),
            ..prefix.clone()
        };
        let own = format!("{own}/");
        let mut beside = above.objects("");
        beside.retain(|name| !name.starts_with(&own));
        beside
    }

    async fn unusable(&self) -> Vec<Scratch> {
        let missing = Prefix {
            bucket: "nobodys-bucket".to_owned(),
            ..Prefix::new()
        };
        vec![missing.scratch()]
    }
}

fn change(scratch: &Scratch, name: &str, change: impl Fn(&str) -> String) {
    let prefix = Prefix::of(scratch);
    let before = String::from_utf8(prefix.read(name)).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    prefix.write(name, after.as_bytes());
}
