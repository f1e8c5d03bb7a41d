//! HTTP messages as every layer sees them: without credentials, and without a transport.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::memory::Lease;

/// A request that has not been authenticated yet. Credentials are added to a clone for every
/// attempt.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to; the query is kept apart. The path is the vendor's own: that of the base URL comes
    /// before it when it is sent.
    pub url: Url,
    /// Query parameters, in order. Sent percent-encoded.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body; empty for GET.
    pub body: Bytes,
    /// The path of the base URL, below which the vendor's paths are: links to a next page may have
    /// it, and `url` does not.
    pub(crate) mount: String,
}

impl Request {
    /// A request without parameters, headers or body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            mount: String::new(),
        }
    }

    /// Sets a query parameter, replacing one of the same name.
    pub fn set_query(&mut self, name: &str, value: impl Into<String>) {
        self.remove_query(name);
        self.query.push((name.to_owned(), value.into()));
    }

    /// Removes a query parameter.
    pub fn remove_query(&mut self, name: &str) {
        self.query.retain(|(known, _)| known != name);
    }

    /// The URL with the query, sorted by name, so that recorded requests compare.
    pub fn full_url(&self) -> Url {
        let mut url = self.url.clone();
        if !self.query.is_empty() {
            let mut query: Vec<_> = url
                .query_pairs()
                .into_owned()
                .chain(self.query.iter().cloned())
                .collect();
            query.sort();
            url.query_pairs_mut().clear().extend_pairs(query);
        }
        url
    }
}

impl fmt::Debug for Request {
    /// Method and path only: query values and headers may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url.path())
    }
}

/// A response read to its end, decompressed, within the configured limits.
#[derive(Clone)]
pub struct Response {
    /// The status; always a success unless the classifier ignored the response.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// True when the classifier said to take it as a page without records, whatever its status.
    pub is_ignored: bool,
    /// The memory that the body takes, and what is made of it may.
    pub(crate) lease: Option<Arc<Lease>>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a classifier sees of an answer.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    /// The request that was sent, without credentials.
    pub request: &'a Request,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body: whole when it is held in memory, its beginning when it is on disk.
    pub body: &'a [u8],
}
