//! How large pages are asked for: less when the vendor, or memory, cannot hold a page, and more
//! again later.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::message::Request;

/// Pages that must succeed before a lowered size is doubled for the first time.
const PATIENCE: u32 = 4;

/// Most pages that must succeed before it is doubled.
const MOST_PATIENCE: u32 = 256;

/// The size of an endpoint's pages in one run: what one walk through a list learns holds for the
/// next.
#[derive(Debug)]
pub(super) struct PageSize {
    /// The query parameter.
    pub(super) param: Cow<'static, str>,
    /// Records that a page has unless they were too many.
    pub(super) most: u32,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    size: u32,
    /// Pages that succeeded since the size changed.
    succeeded: u32,
    /// Pages that must succeed before the size grows: twice as many after each failure, as it may
    /// well fail again.
    patience: u32,
}

impl PageSize {
    pub(super) fn new(param: Cow<'static, str>, most: u32) -> Self {
        let current = Current {
            size: most,
            succeeded: 0,
            patience: PATIENCE,
        };
        Self {
            param,
            most,
            current: Mutex::new(current),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a request ask for no more than fits at the moment. While nothing was too large, a
    /// paginator may ask for more than usual: it has met a second that does not fit on a usual
    /// page.
    pub(super) fn limit(&self, request: &mut Request) {
        let asked = request
            .query
            .iter()
            .find(|(name, _)| *name == self.param)
            .and_then(|(_, size)| size.parse().ok());
        let size = self.current().size;
        if asked.is_none_or(|asked: u32| asked > size && size < self.most) {
            request.set_query(&self.param, size.to_string());
        }
    }

    /// Takes note that a page of this size was too large. False when there is no smaller one.
    pub(super) fn too_large(&self, size: u32) -> bool {
        let mut current = self.current();
        // Several walks can fail with the same size: it is halved once.
        if current.size >= size {
            current.size = (size / 2).max(1);
            current.succeeded = 0;
            current.patience = (current.patience * 2).min(MOST_PATIENCE);
        }
        size > 1
    }

    /// Takes note of a page that succeeded.
    pub(super) fn succeeded(&self) {
        let mut current = self.current();
        if current.size == self.most {
            return;
        }
        current.succeeded += 1;
        if current.succeeded >= current.patience / 2 {
            current.size = current.size.saturating_mul(2).min(self.most);
            current.succeeded = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl PageSize {
        fn size(&self) -> u32 {
            self.current().size
        }
    }

    #[test]
    fn c32_a_size_is_halved_down_to_one_and_grows_back_ever_more_slowly() {
        let size = PageSize::new("per_page".into(), 1000);
        let mut asked = Vec::new();
        while size.too_large(size.size()) {
            asked.push(size.size());
        }
        assert_eq!(asked, [500, 250, 125, 62, 31, 15, 7, 3, 1]);

        let size = PageSize::new("per_page".into(), 100);
        let pages_until_full = || {
            (1..1000).find(|_| {
                size.succeeded();
                size.size() == 100
            })
        };
        assert!(size.too_large(100));
        let first = pages_until_full();
        assert!(size.too_large(100));
        let second = pages_until_full();
        assert_eq!((first, second), (Some(4), Some(8)));
    }

    #[test]
    fn a_larger_page_than_usual_is_asked_for_unless_pages_were_too_large() {
        let size = PageSize::new("per_page".into(), 100);
        let asked = |asked: &str| {
            let mut request = Request::new(
                http::Method::GET,
                "https://api.test/"
                    .parse()
                    .unwrap_or_else(|_| unreachable!()),
            );
            request.set_query("per_page", asked);
            size.limit(&mut request);
            request.query.pop().map(|(_, size)| size)
        };
        assert_eq!(
            (asked("1000").as_deref(), asked("20").as_deref()),
            (Some("1000"), Some("20"))
        );
        assert!(size.too_large(100));
        assert_eq!(
            (asked("1000").as_deref(), asked("20").as_deref()),
            (Some("50"), Some("20"))
        );
    }

    #[test]
    fn walks_that_fail_at_the_same_time_halve_the_size_once() {
        let size = PageSize::new("per_page".into(), 100);
        assert!(size.too_large(100) && size.too_large(100));
        assert_eq!(size.size(), 50);
    }
}
