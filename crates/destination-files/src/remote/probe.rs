//! Tries whether a store keeps two writers apart, before anything is written to it.

use std::path::Path;

use chrono::{DateTime, Utc};
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use pipeline_core::{Error, ErrorKind, Result};

use crate::disk;
use crate::error::Explain;
use crate::remote::bucket::Bucket;
use crate::remote::error::io_error;

const PROBING: &str = "trying whether the bucket can be written";

/// What a store answers to a second object of the same name.
enum Second {
    Refused,
    Accepted,
}

/// Puts an object that must not exist twice, and returns what the store's clock says.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] when the store accepts the second one: some accept the condition
/// and ignore it.
pub(crate) fn probe(bucket: &Bucket) -> Result<DateTime<Utc>> {
    let name = format!(".probe-{}", disk::unique_name());
    let path = bucket.root().join("_manifest").join(name);
    let (probed, target) = (bucket.clone(), path.clone());
    let probing = async move {
        let key = probed.key(&target)?;
        let store = probed.store();
        // The first put may be refused as its own repetition.
        probed.create(&target, b"first".to_vec()).await?;
        let options = PutOptions::from(PutMode::Create);
        let second = match store.put_opts(&key, "second".into(), options).await {
            Ok(_) => Second::Accepted,
            Err(object_store::Error::AlreadyExists { .. }) => Second::Refused,
            Err(error) => return Err(io_error(error)),
        };
        let meta = store.head(&key).await.map_err(io_error)?;
        probed.delete(&target).await?;
        Ok((second, meta.last_modified))
    };
    match bucket.io().run(probing).explain(PROBING, &path)? {
        (Second::Refused, now) => Ok(now),
        (Second::Accepted, _) => Err(ignores(bucket.root())),
    }
}

fn ignores(root: &Path) -> Error {
    Error::new(
        ErrorKind::ConfigInvalid,
        "this store ignores conditional writes, so two writers could overwrite each other",
    )
    .with_operation(PROBING)
    .with_context("path", root.display().to_string())
    .with_help(
        "use a store that has them, such as Amazon S3, Google Cloud Storage, Azure Blob Storage, \
         Cloudflare R2 or SeaweedFS",
    )
}

/// The error for a rule of the bucket that removes manifests some day.
pub(crate) fn expires(root: &Path, rule: &str) -> Error {
    Error::new(
        ErrorKind::ConfigInvalid,
        "a lifecycle rule of the bucket removes the manifests, and with them the tables",
    )
    .with_operation("checking the bucket")
    .with_context("path", root.join("_manifest").display().to_string())
    .with_context("rule", rule.to_owned())
    .with_help("change the rule so that it leaves out the destination's prefix")
}
