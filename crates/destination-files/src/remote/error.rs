//! What a failure of an object store means to the user.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use pipeline_core::http::TransportError;
use pipeline_core::{Error, ErrorKind};

/// Codes with which stores refuse the credentials themselves.
const BAD_CREDENTIALS: [&str; 10] = [
    "AccessKeyIdNotFound",
    "AuthenticationFailed",
    "AuthenticationRequired",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];
/// Where machines of the providers get credentials of their own.
const IDENTITY_HOSTS: [&str; 4] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "metadata.google.internal",
];

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Credentials,
    NoCredentials,
    Denied,
    NoBucket,
    OtherRegion,
    Clock,
    Untrusted,
    /// It was tried again, and failed again.
    Unavailable,
    Other,
}

/// A failure of an object store, without anything that could be a credential: stores repeat in
/// their answers what they were sent.
#[derive(Debug)]
pub(crate) struct StoreError {
    fault: Fault,
    text: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for StoreError {}

impl StoreError {
    pub(crate) fn new(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
        let status = between(&text, "status code: ", " ").and_then(|text| text.parse().ok());
        let transport = causes(error).find_map(|cause| cause.downcast_ref::<TransportError>());
        let fault = fault(error, code, status, transport, &text);
        let shown = match (transport, status) {
            (Some(transport), _) => transport.to_string(),
            (None, Some(status)) if code.is_empty() => format!("the store answered {status}"),
            (None, Some(status)) => format!("the store answered {status} {code}"),
            (None, None) if fault == Fault::NoCredentials => {
                "this machine has no identity of its own".to_owned()
            }
            (None, None) => match causes(error).last() {
                Some(cause) => cause.to_string(),
                None => variant(error).to_owned(),
            },
        };
        Self { fault, text: shown }
    }

    /// True when trying again may help.
    pub(crate) fn is_passing(&self) -> bool {
        self.fault == Fault::Unavailable
    }

    /// The error that a user reads.
    pub(crate) fn explain(&self, operation: &'static str) -> Error {
        let (kind, message, help) = self.meaning();
        let error = Error::new(kind, message)
            .with_operation(operation)
            .with_help(help)
            .with_source(Self {
                fault: self.fault,
                text: self.text.clone(),
            });
        if self.is_passing() {
            error.temporary().persistent()
        } else {
            error
        }
    }

    fn meaning(&self) -> (ErrorKind, &'static str, &'static str) {
        match self.fault {
            Fault::Credentials => (
                ErrorKind::ConfigInvalid,
                "the object store refused the credentials",
                "check the keys in `[destination.storage]` or in the environment, and whether they have expired",
            ),
            Fault::NoCredentials => (
                ErrorKind::ConfigInvalid,
                "no credentials for the object store were found",
                "set them in `[destination.storage]` or in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_KEY), or give this machine an identity",
            ),
            Fault::Denied => (
                ErrorKind::Destination,
                "the object store denies this to the credentials",
                "allow them to list the bucket, and to read, write and delete objects below the prefix",
            ),
            Fault::NoBucket => (
                ErrorKind::Destination,
                "the bucket does not exist",
                "create it, or check its name and the `endpoint` in `[destination.storage]`",
            ),
            Fault::OtherRegion => (
                ErrorKind::ConfigInvalid,
                "the bucket is in another region",
                "set `region` in `[destination.storage]`",
            ),
            Fault::Clock => (
                ErrorKind::Destination,
                "the clock of this machine differs too much from the object store's",
                "set the clock, and run again",
            ),
            Fault::Untrusted => (
                ErrorKind::Untrusted,
                "the object store cannot be spoken to in safety",
                "check `endpoint` in `[destination.storage]`, and the certificates of this machine",
            ),
            Fault::Unavailable => (
                ErrorKind::Destination,
                "the object store does not answer, or fails",
                "run again when it works; nothing that was committed is lost",
            ),
            Fault::Other => (
                ErrorKind::Destination,
                "the object store refused a request",
                "check the bucket and `[destination.storage]`, and run again; nothing that was committed is lost",
            ),
        }
    }
}

fn fault(
    error: &object_store::Error,
    code: &str,
    status: Option<u16>,
    transport: Option<&TransportError>,
    text: &str,
) -> Fault {
    use object_store::Error as Store;
    if matches!(transport, Some(TransportError::Tls { .. })) {
        return Fault::Untrusted;
    }
    if IDENTITY_HOSTS.iter().any(|host| text.contains(host)) {
        return Fault::NoCredentials;
    }
    if code == "RequestTimeTooSkewed" {
        return Fault::Clock;
    }
    if BAD_CREDENTIALS.contains(&code) || matches!(error, Store::Unauthenticated { .. }) {
        return Fault::Credentials;
    }
    match (code, status) {
        ("NoSuchBucket" | "ContainerNotFound" | "NoSuchContainer", _) => Fault::NoBucket,
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, Some(301 | 307)) => {
            Fault::OtherRegion
        }
        (_, Some(403)) => Fault::Denied,
        (_, Some(500..)) => Fault::Unavailable,
        (_, None) if transport.is_some() => Fault::Unavailable,
        _ if text.contains("incorrectly configured region") => Fault::OtherRegion,
        _ => Fault::Other,
    }
}

/// An error of the object store as one of a file system, which holds a [`StoreError`].
pub(crate) fn io_error(error: object_store::Error) -> io::Error {
    let explained = StoreError::new(&error);
    let kind = match error {
        object_store::Error::NotFound { .. } if explained.fault == Fault::Other => {
            io::ErrorKind::NotFound
        }
        object_store::Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, explained)
}

/// The failure of a listing: what is not found is the bucket.
pub(crate) fn listing_error(error: object_store::Error) -> io::Error {
    let is_missing = matches!(error, object_store::Error::NotFound { .. });
    let mut explained = StoreError::new(&error);
    if is_missing {
        explained.fault = Fault::NoBucket;
    }
    io::Error::other(explained)
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

fn variant(error: &object_store::Error) -> &'static str {
    match error {
        object_store::Error::NotFound { .. } => "the object does not exist",
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
            "the store does not support this"
        }
        _ => "the request failed",
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split(end).next()
}
