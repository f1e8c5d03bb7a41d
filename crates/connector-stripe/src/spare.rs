//! Members that are worth asking for, and not worth losing a stream over: a key may read customers
//! and not their cash balance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::declarative::ListDef;
use pipeline_core::state::SliceState;
use pipeline_core::{Endpoint, Error, ErrorKind, Page, Reader, Result};

use crate::streams;
use crate::vendor::Stripe;

/// Which lists are read without such members, because Stripe refused to expand them.
#[derive(Clone, Debug)]
pub(crate) struct Spare(Arc<BTreeMap<&'static str, Plain>>);

/// A list as it is read without them.
#[derive(Debug)]
struct Plain {
    endpoint: Endpoint,
    is_read: AtomicBool,
}

impl Spare {
    pub(crate) fn new(stripe: &Stripe) -> Self {
        let plain = |endpoint: Endpoint| {
            let list = streams::stream(endpoint.name())?;
            let plain = Plain {
                endpoint,
                is_read: AtomicBool::new(false),
            };
            (!list.facts.spare.is_empty()).then_some((list.name, plain))
        };
        let endpoints = streams::endpoints(&stripe.without_spare());
        Self(Arc::new(endpoints.into_iter().filter_map(plain).collect()))
    }

    /// The members that objects of a list are asked for.
    pub(crate) fn asked_for(&self, list: &ListDef<Stripe>) -> impl Iterator<Item = &'static str> {
        let is_plain = self
            .0
            .get(list.name)
            .is_some_and(|plain| plain.is_read.load(Ordering::Relaxed));
        let (members, spare) = (list.facts.expand.iter().copied(), list.facts.spare);
        members.filter(move |member| !(is_plain && spare.contains(member)))
    }

    /// Reads a list; without those members when it is refused with them.
    pub(crate) fn read<'a>(
        &'a self,
        reader: &Reader,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        let Some(plain) = self.0.get(endpoint.name()) else {
            return reader.read(endpoint, slice);
        };
        if plain.is_read.load(Ordering::Relaxed) {
            return reader.read(&plain.endpoint, slice);
        }
        let reader = reader.clone();
        let begun = async move {
            let mut pages = reader.read(endpoint, slice.clone());
            let first = pages.try_next().await;
            let Err(refusal) = first else {
                return Ok::<_, Error>(stream::iter(first.transpose()).chain(pages).boxed());
            };
            if !may_be_of_members(&refusal) {
                return Err(refusal);
            }
            let mut pages = reader.read(&plain.endpoint, slice);
            let Ok(first) = pages.try_next().await else {
                return Err(refusal);
            };
            if !plain.is_read.swap(true, Ordering::Relaxed) {
                let members = streams::stream(endpoint.name())
                    .map_or(&[][..], |list| list.facts.spare)
                    .join("`, `");
                reader
                    .client()
                    .notice(endpoint.name(), &format!("read without `{members}`, which Stripe does not expand for this key: {refusal}"));
            }
            Ok(stream::iter(first.map(Ok)).chain(pages).boxed())
        };
        stream::once(begun).try_flatten().boxed()
    }
}

/// Whether a refusal can be one of what was to be expanded, and not of the list.
fn may_be_of_members(refusal: &Error) -> bool {
    let names_it = refusal
        .context_value("answer")
        .is_some_and(|answer| answer.contains("expand"));
    refusal.kind() == ErrorKind::PermissionDenied || names_it
}
