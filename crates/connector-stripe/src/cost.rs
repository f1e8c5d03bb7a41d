//! What lists that every record has will cost, said before it is spent.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use pipeline_core::declarative::ListDef;
use pipeline_core::state::{Position, SliceState, Window};
use pipeline_core::{Endpoint, Page, Reader, Result, SyncMode};

use crate::streams::{asked_for_each, stream, streams};
use crate::vendor::Stripe;

/// Pages of records that are counted: beyond, their number is said to be larger.
const MOST_PAGES: usize = 10;

/// Requests that are not worth a word.
const SMALL: usize = 50;

/// Says once a run, for the records of each list, how many requests their own lists take.
#[derive(Debug)]
pub(crate) struct Cost {
    /// Requests per second.
    rate: f64,
    /// Where the configuration lets the reading begin.
    start: Option<DateTime<Utc>>,
    /// Names of the endpoints that the run reads.
    selected: HashSet<String>,
    /// Lists whose records were counted, by account.
    told: futures::lock::Mutex<HashSet<(String, &'static str)>>,
}

impl Cost {
    pub(crate) fn new(rate: f64, start: Option<DateTime<Utc>>, endpoints: &[&str]) -> Self {
        let selected = endpoints.iter().map(|name| (*name).to_owned()).collect();
        Self {
            rate,
            start,
            selected,
            told: futures::lock::Mutex::default(),
        }
    }

    /// Counts the records of a list before their own lists are read for the first time.
    pub(crate) fn tell<'a>(
        &'a self,
        reader: Reader,
        endpoint: &'a Endpoint,
        slice: SliceState,
        pages: BoxStream<'a, Result<Page>>,
    ) -> BoxStream<'a, Result<Page>> {
        let is_first = |window: Window| window.since.is_none() || window.since == self.start;
        let is_whole = slice.position == Position::Start
            && slice.unit.is_none()
            && slice.window.is_some_and(is_first);
        let Some(parent) = endpoint
            .parent()
            .filter(|_| is_whole && endpoint.mode() == SyncMode::Incremental)
        else {
            return pages;
        };
        let count = async move { self.count(&reader, parent, slice).await };
        futures::stream::once(count)
            .filter_map(|()| std::future::ready(None))
            .chain(pages)
            .boxed()
    }

    async fn count(&self, reader: &Reader, parent: &Endpoint, slice: SliceState) {
        let Some(list) = stream(parent.name()) else {
            return;
        };
        // Whoever comes next waits, so that nothing is spent before it is said.
        let mut told = self.told.lock().await;
        if !told.insert((
            reader.client().account().unwrap_or_default().to_owned(),
            list.name,
        )) {
            return;
        }
        let (lists, is_alone) = {
            let selected = &self.selected;
            let is_of_it = |child: &&ListDef<Stripe>| asked_for_each(child) == Some(list.name);
            let mut lists: Vec<&str> = streams()
                .filter(is_of_it)
                .map(|child| child.name)
                .filter(|name| selected.contains(*name))
                .collect();
            lists.sort_unstable();
            (
                lists,
                selected
                    .iter()
                    .filter(|name| stream(name).is_some())
                    .count()
                    == 1,
            )
        };
        let Some(first) = lists.first() else { return };
        // Whoever asks for nothing else knows what it is asked for.
        if is_alone {
            reader
                .client()
                .notice(first, &message_of_one(first, list.name));
            return;
        }
        let mut pages = reader.read(parent, slice).take(MOST_PAGES + 1);
        let (mut records, mut counted) = (0, 0);
        // A list that cannot be read says so where it is read.
        while let Ok(Some(page)) = pages.try_next().await {
            counted += 1;
            if counted > MOST_PAGES {
                break;
            }
            records += page.records.first().map_or(0, Vec::len);
        }
        if records * lists.len() < SMALL {
            return;
        }
        reader.client().notice(
            first,
            &self.message(list.name, &lists, records, counted > MOST_PAGES),
        );
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn message(&self, parent: &str, lists: &[&str], records: usize, more: bool) -> String {
        let requests = records * lists.len();
        let minutes = (requests as f64 / self.rate / 60.0).ceil().max(1.0);
        let (number, cost, time) = if more {
            ("more than ", "more than ", " or longer")
        } else {
            ("", "about ", "")
        };
        let lists = lists
            .iter()
            .map(|list| format!("`{list}`"))
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            "{lists}: each of {number}{records} `{parent}` has such a list, so this first reading takes {cost}{requests} requests, \
             {minutes:.0} min{time}. Later syncs read the lists of what is new or has changed. To spend less, select fewer streams"
        )
    }
}

fn message_of_one(list: &str, parent: &str) -> String {
    format!(
        "`{list}`: each of the `{parent}` has such a list, so this first reading takes a request at least for each of them. Later syncs \
         read the lists of what is new or has changed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_said_in_requests_and_time() {
        let cost = Cost::new(80.0, None, &[]);
        assert_eq!(
            cost.message(
                "customers",
                &["customer_tax_ids", "payment_methods"],
                30_000,
                true
            ),
            "`customer_tax_ids`, `payment_methods`: each of more than 30000 `customers` has such a list, so this first reading takes more than \
             60000 requests, 13 min or longer. Later syncs read the lists of what is new or has changed. To spend less, select fewer streams"
        );
        assert_eq!(
            cost.message("products", &["product_features"], 100, false),
            "`product_features`: each of 100 `products` has such a list, so this first reading takes about 100 requests, 1 min. Later syncs \
             read the lists of what is new or has changed. To spend less, select fewer streams"
        );
    }
}
