//! Addresses of buckets.

use std::fmt;
use std::path::Path;

use pipeline_core::{Error, ErrorKind, Result};

/// Who keeps a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

const SCHEMES: [(&str, Scheme); 3] = [("s3", Scheme::S3), ("gs", Scheme::Gs), ("az", Scheme::Az)];

/// A prefix in a bucket, as `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    pub(crate) bucket: String,
    /// Without a slash at either end; empty: the bucket itself.
    pub(crate) prefix: String,
}

impl Address {
    /// The address that a path is; none: it is a path of this machine's.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when it is an address, and cannot be used.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>> {
        let Some((scheme, rest)) = path.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(None);
        };
        let known = SCHEMES.iter().find(|(name, _)| *name == scheme);
        let Some((_, scheme)) = known else {
            return Err(invalid(format!("unknown storage `{scheme}://`"))
                .with_help("use s3://, gs:// or az:// for a bucket, or a path without a scheme"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if bucket.contains(['@', ':', '?', '#']) || prefix.contains(['?', '#']) {
            return Err(
                invalid("the address of a bucket has more than a name and a prefix").with_help(
                    "put credentials, the endpoint and the region into `[destination.storage]`",
                ),
            );
        }
        let is_segment =
            |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\\');
        if bucket.is_empty() || !(prefix.is_empty() || prefix.split('/').all(is_segment)) {
            return Err(
                invalid("the address names no bucket, or an empty folder in it")
                    .with_help("write it as s3://bucket/prefix"),
            );
        }
        Ok(Some(Self {
            scheme: *scheme,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SCHEMES.iter().find(|(_, scheme)| *scheme == self.scheme);
        let name = name.map_or("", |(name, _)| name);
        write!(f, "{name}://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("field", "path")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        for (text, shown, prefix) in [
            ("s3://lake", "s3://lake", ""),
            ("s3://lake/", "s3://lake", ""),
            ("gs://lake/a/b b/", "gs://lake/a/b b", "a/b b"),
            ("az://box/x%2Fy", "az://box/x%2Fy", "x%2Fy"),
        ] {
            let address = Address::of(Path::new(text)).unwrap().unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.prefix.as_str()),
                (shown, prefix)
            );
        }
        for path in ["lake", "/lake", "C:\\lake", "s3:lake", "-"] {
            assert_eq!(Address::of(Path::new(path)).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn an_address_holds_no_credentials() {
        for wrong in [
            "s3://key:secret@lake/x",
            "s3://lake/x?versionId=1",
            "s3:///x",
            "s3://lake//x",
            "s3://lake/../x",
            "ftp://lake/x",
            "https://lake.example/x",
        ] {
            let error = Address::of(Path::new(wrong)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{wrong}");
            assert!(error.help().is_some(), "{wrong}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
