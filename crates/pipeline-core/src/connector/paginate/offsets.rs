//! Lists walked by counting. Rows can move between pages while they are read.

use super::{PageView, Paginator, current};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Request;
use crate::model::record::Advance;
use crate::model::state::Position;

/// Pages are numbered; an empty page, or the page that the total names, is the last.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{PageNumber, Paginator};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = PageNumber { param: "page", first: 1, total_pages: None };
/// paginator.apply(&Position::At("2".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?page=2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PageNumber {
    /// Query parameter that takes the number.
    pub param: &'static str,
    /// Number of the first page, 0 or 1.
    pub first: u64,
    /// Path of the number of pages in the body, where the vendor reports it.
    pub total_pages: Option<&'static str>,
}

impl Paginator for PageNumber {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        request.set_query(self.param, count_at(at, self.first)?.to_string());
        Ok(())
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let number = count_at(at, self.first)?;
        let total = self
            .total_pages
            .and_then(|path| page.envelope.text(path)?.parse::<u64>().ok());
        let next = number.saturating_add(1);
        let past_total = total.is_some_and(|total| next >= total.saturating_add(self.first));
        Ok(if page.records.is_empty() || past_total {
            Advance::End
        } else {
            Advance::Next(next.to_string())
        })
    }

    fn shifts(&self) -> bool {
        true
    }
}

/// Rows are counted; an empty page, or the total, ends the list. A short page does not: servers
/// lower limits silently.
///
/// ```
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::paginate::{Offset, Paginator};
/// use pipeline_core::state::Position;
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// let paginator = Offset { param: "offset", total: Some("meta/total") };
/// paginator.apply(&Position::At("200".to_owned()), &mut request)?;
/// assert_eq!(request.full_url().as_str(), "https://api.acme.example/orders?offset=200");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Offset {
    /// Query parameter that takes the number of rows to skip.
    pub param: &'static str,
    /// Path of the number of rows in the body, where the vendor reports it.
    pub total: Option<&'static str>,
}

impl Paginator for Offset {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        request.set_query(self.param, count_at(at, 0)?.to_string());
        Ok(())
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let next = count_at(at, 0)?.saturating_add(page.records.len() as u64);
        let total = self
            .total
            .and_then(|path| page.envelope.text(path)?.parse::<u64>().ok());
        let complete = page.records.is_empty() || total.is_some_and(|total| next >= total);
        Ok(if complete {
            Advance::End
        } else {
            Advance::Next(next.to_string())
        })
    }

    fn shifts(&self) -> bool {
        true
    }
}

fn count_at(at: &Position, first: u64) -> Result<u64> {
    current(at).map_or(Ok(first), |text| {
        text.parse().map_err(|error| {
            Error::new(ErrorKind::Decode, "the stored position is not a number").with_source(error)
        })
    })
}
