//! Which limit a vendor says was hit.

use std::borrow::Cow;

/// The limit that a throttled request hit, by the name of its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// Too many requests in a span: the bucket pauses for all requests.
    Rate(Cow<'static, str>),
    /// Too many requests at once: fewer are under way from now on.
    Concurrency(Cow<'static, str>),
}
