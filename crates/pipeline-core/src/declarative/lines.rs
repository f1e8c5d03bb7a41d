//! Responses of a record a line, which are spooled before they are read.

use std::sync::Arc;

use bytes::Bytes;
use futures::{TryStreamExt, stream};

use super::{List, Reader, call, map_records};
use crate::connector::Endpoint;
use crate::error::Result;
use crate::json::lines::Lines;
use crate::memory::{BODY_FACTOR, Hold, leased};
use crate::model::record::{Advance, BYTE_ORDER_MARK, Page, RawRecord};
use crate::model::state::SliceState;

/// Bytes of lines that make a page of a spooled response.
const SPOOL_PAGE: usize = 1 << 20;

/// Downloads a response of lines, and hands them out in pages.
pub(super) fn read_lines<'a>(
    reader: &Reader,
    endpoint: &'a Endpoint,
    slice: SliceState,
    lines: Lines,
) -> impl stream::Stream<Item = Result<Page>> + use<'a> {
    let list = List::new(reader, endpoint);
    let spool = async move {
        let request = list.request(&slice, &slice.position)?;
        list.reader
            .client()
            .download(&request, &call(endpoint, &slice.position), lines)
            .await
    };
    let pages = move |spool| {
        stream::try_unfold(Some(spool), move |spool| async move {
            let Some(mut spool): Option<crate::http::Spool> = spool else {
                return Ok(None);
            };
            let Some(lines) = spool.next_lines(SPOOL_PAGE).await? else {
                let end = Page::new(vec![Vec::new(); endpoint.feeds.len()], Some(Advance::End));
                return Ok(Some((end, None)));
            };
            // A response that is loaded alone must not wait for what cannot be written meanwhile.
            let lease = Hold::current().lease();
            lease.take(lines.len() * BODY_FACTOR);
            let lines = leased(lines, Arc::new(lease));
            let records = map_records(endpoint, vec![cut_lines(&lines)])?;
            Ok(Some((Page::new(records, None), Some(spool))))
        })
    };
    stream::once(spool).map_ok(pages).try_flatten()
}

/// Cuts at byte 0x0A only: other line separators are legal inside JSON strings. Blank lines and
/// byte order marks are passed over.
pub(super) fn cut_lines(lines: &Bytes) -> Vec<RawRecord> {
    let mut records = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', lines).chain([lines.len()]) {
        let line = lines[start..end].trim_ascii();
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if !line.is_empty() {
            records.push(RawRecord::upsert(lines.slice_ref(line)));
        }
        start = end + 1;
    }
    records
}
