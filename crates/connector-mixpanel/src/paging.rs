//! The pages of the App API: most lists come whole, and those that do not name the next page.

use pipeline_core::http::Request;
use pipeline_core::paginate::{PageView, Paginator};
use pipeline_core::state::Position;
use pipeline_core::{Advance, Result};

/// Where an answer names its next page; absent or null in an answer that is whole.
const NEXT: &str = "pagination/next_cursor";

/// Walks a list by the cursor that each of its answers names for the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppPages;

impl Paginator for AppPages {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        if let Position::At(cursor) = at {
            request.set_query("cursor", cursor.clone());
        }
        Ok(())
    }

    fn advance(&self, _at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let next = page.envelope.text(NEXT).filter(|cursor| !cursor.is_empty());
        Ok(next.map_or(Advance::End, Advance::Next))
    }
}
