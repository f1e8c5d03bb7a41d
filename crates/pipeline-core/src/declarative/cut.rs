//! Cuts a response into the records that it lists.

use std::borrow::Cow;

use bytes::Bytes;

use super::List;
use super::distinct::Distinct;
use crate::connector::paginate::PageView;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{BODY_FACTOR, too_much};
use crate::message::{Request, Response};
use crate::model::record::{Advance, Envelope, RawRecord, RecordPath, Split, split_within};
use crate::model::state::Position;

/// Memory that is not asked for where a response is short and its records are many.
const USUAL_INDEX: usize = 256 << 10;

impl List<'_> {
    /// A body that is damaged by bytes that are not text, with U+FFFD in their place; none when it
    /// is text.
    fn readable(&self, body: &Bytes) -> Option<Bytes> {
        let text = String::from_utf8_lossy(body);
        let Cow::Owned(text) = text else { return None };
        let repaired = text.matches('\u{FFFD}').count()
            - body
                .utf8_chunks()
                .map(|chunk| chunk.valid().matches('\u{FFFD}').count())
                .sum::<usize>();
        self.reader
            .client()
            .tell_repaired(self.endpoint.name(), repaired as u64);
        Some(text.into())
    }

    /// Cuts a response into the records that it lists, and says what follows it.
    pub(super) async fn cut(
        &self,
        position: &Position,
        request: &Request,
        response: &Response,
        distinct: &mut Distinct,
    ) -> Result<(Vec<Vec<RawRecord>>, Advance)> {
        let paths: Vec<RecordPath> = self
            .endpoint
            .feeds
            .iter()
            .filter(|feed| feed.inside.is_none())
            .map(|feed| feed.path.clone())
            .collect();
        let split = match split(response, &response.body, &paths).await {
            Err(error) if error.kind() == ErrorKind::Decode => {
                split(
                    response,
                    &self.readable(&response.body).ok_or(error)?,
                    &paths,
                )
                .await?
            }
            split => split?,
        };
        if self.endpoint.paginator.expects_list()
            && let Some(path) = paths.iter().find(|path| is_object(path, &split.envelope))
        {
            let error = Error::new(
                ErrorKind::Decode,
                "the response has one object where the vendor documents a list of records",
            );
            return Err(error.with_context("path", path.name().unwrap_or_default().to_owned()));
        }
        let records = split.records.first().map_or(&[][..], Vec::as_slice);
        let paginator = &self.endpoint.paginator;
        let fresh = if paginator.counts() {
            distinct.fresh(paginator.round(position), records)
        } else {
            records.len()
        };
        let view = PageView {
            request,
            headers: &response.headers,
            envelope: &split.envelope,
            records,
            fresh,
        };
        let advance = paginator.advance(position, &view)?;
        Ok((split.records, advance))
    }
}

/// Cuts a response. The memory of its body covers that of as much again for its records; more is
/// waited for.
async fn split(response: &Response, body: &Bytes, paths: &[RecordPath]) -> Result<Split> {
    if let Some(split) = split_within(body, paths, body.len().max(USUAL_INDEX))? {
        return Ok(split);
    }
    let Some(lease) = response.lease.as_ref().filter(|lease| lease.is_bounded()) else {
        return crate::model::record::split(body, paths);
    };
    let (most, before) = (lease.most(), lease.bytes());
    lease.grow_patiently(most).await?;
    let split = split_within(body, paths, (body.len() + most).saturating_sub(before))?
        .ok_or_else(|| too_much(most))?;
    lease.shrink(body.len() * (BODY_FACTOR - 1) + split.memory);
    Ok(split)
}

/// True when one object stands at a path. The arrays that stand at a path are not in the envelope.
fn is_object(path: &RecordPath, envelope: &Envelope) -> bool {
    path.name()
        .and_then(|name| envelope.get(name))
        .is_some_and(|value| value.starts_with(b"{"))
}
