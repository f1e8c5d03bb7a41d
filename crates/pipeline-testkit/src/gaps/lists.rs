//! Refused lists, and lists that are shorter than the total that their vendor reports.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline_core::{Connector, ErrorKind, SyncMode};
use serde_json::Value;

use super::synced::{Synced, difference};
use super::{How, Situation, is_at};
use crate::fixture::{Exchange, RecordedRequest};
use crate::twin::{TOTALS, Unit};
use crate::vendor::{Trouble, Vendor};

impl Situation<'_> {
    /// The first list of the case, and the last one, are refused for good.
    pub(super) async fn check_lists(
        &mut self,
        units: &[Unit],
        healthy: &[Synced],
    ) -> Result<(), String> {
        let exchanges = &self.fixture.exchanges;
        let is_of_unit = |index: usize| units.iter().any(|unit| unit.own.contains(&index));
        let is_list = |(index, exchange): &(usize, &Exchange)| {
            (200..300).contains(&exchange.response.status)
                && !exchange.request.is_for_token()
                && !is_of_unit(*index)
        };
        let lists: Vec<&RecordedRequest> = exchanges
            .iter()
            .enumerate()
            .filter(is_list)
            .map(|(_, exchange)| &exchange.request)
            .collect();
        let places = BTreeSet::from([0, lists.len().saturating_sub(1)]);
        for request in places.into_iter().filter_map(|place| lists.get(place)) {
            for trouble in [Trouble::Refused, Trouble::Redirected, Trouble::Page] {
                for all in [true, false] {
                    self.found.troubles += 1;
                    if let Some(problem) = self.refuse(request, trouble, all, healthy).await? {
                        let named = if all { "" } else { ", streams named" };
                        self.problem(
                            &format!("{trouble:?} at {}{named}", shown(request)),
                            &problem,
                        );
                    }
                }
            }
        }
        Ok(())
    }

    async fn refuse(
        &self,
        request: &RecordedRequest,
        trouble: Trouble,
        all: bool,
        healthy: &[Synced],
    ) -> Result<Option<String>, String> {
        let (store, exchanges) = (Arc::default(), &self.fixture.exchanges);
        let sync = self
            .sync(
                &store,
                exchanges,
                How {
                    all,
                    ..How::troubled(request, trouble)
                },
            )
            .await?;
        if sync.endpoints().next().is_none() {
            // They are read when they are named, and otherwise not.
            return Ok(None);
        }
        if sync.failed() == Some(ErrorKind::Unexpected) {
            return Ok(Some(format!(
                "the vendor's answer is called a defect: {}",
                sync.outcomes()
            )));
        }
        if sync.unanswered > healthy[0].unanswered {
            // It is cut smaller, into requests that were not recorded.
            return Ok(None);
        }
        if sync.failed().is_none() && sync.told != healthy[0].told {
            // What could not be learned before is reported, and a full refresh fills what it would
            // have filled.
            return Ok(None);
        }
        let is_silent =
            sync.failed().is_none() && sync.gaps() == healthy[0].gaps() && sync.is_all_done();
        if is_silent && sync.rows != healthy[0].rows {
            return Ok(Some(format!(
                "rows are missing, and nothing says so: {:?}",
                difference(&healthy[0].rows, &sync.rows)
            )));
        }
        // A list of which a part was read is there, so that its refusal is a failure.
        if all
            && trouble == Trouble::Refused
            && sync.fails_without_a_record()
            && self.is_of_an_endpoint(request)?
        {
            return Ok(Some(format!(
                "what is not there fails a sync of everything: {}",
                sync.outcomes()
            )));
        }
        let healed = self.sync(&store, exchanges, How::default()).await?;
        Ok(healed.is_as(&healthy[1]))
    }

    /// Whether a request is one for an endpoint that is read, and not one that prepares the run.
    fn is_of_an_endpoint(&self, request: &RecordedRequest) -> Result<bool, String> {
        let connector = self.connect(&Arc::new(Vendor::new(&[], None, None)))?;
        Ok(connector
            .endpoints()
            .iter()
            .any(|endpoint| is_at(&request.path, endpoint.path())))
    }

    /// Lists that say how many records they have, and are the truth of what there is, bring one too
    /// few.
    pub(super) async fn check_totals(&mut self, healthy: &[Synced]) -> Result<(), String> {
        let connector = self.connect(&Arc::new(Vendor::new(&[], None, None)))?;
        let is_truth = |path: &str| {
            let mut endpoints = connector.endpoints().iter();
            endpoints.any(|endpoint| {
                endpoint.mode() == SyncMode::FullRefresh
                    && endpoint.parent().is_none()
                    && is_at(path, endpoint.path())
            })
        };
        let exchanges = &self.fixture.exchanges;
        let paths: BTreeSet<&str> = exchanges
            .iter()
            .map(|exchange| exchange.request.path.as_str())
            .filter(|path| is_truth(path))
            .collect();
        for path in paths {
            let pages = exchanges
                .iter()
                .filter(|exchange| exchange.request.path == path);
            let Some(last) = counted(pages) else { continue };
            self.found.troubles += 1;
            if let Some(problem) = self.shorten(&last.request, healthy).await? {
                self.problem(
                    &format!(
                        "one record fewer than the total at {}",
                        shown(&last.request)
                    ),
                    &problem,
                );
            }
        }
        Ok(())
    }

    async fn shorten(
        &self,
        request: &RecordedRequest,
        healthy: &[Synced],
    ) -> Result<Option<String>, String> {
        let (store, exchanges) = (Arc::default(), &self.fixture.exchanges);
        self.sync(&store, exchanges, How::default()).await?;
        let short = self
            .sync(&store, exchanges, How::troubled(request, Trouble::Short))
            .await?;
        if let Some(problem) = difference(&healthy[1].rows, &short.rows) {
            return Ok(Some(format!("it is taken for the truth: {problem}")));
        }
        if short.is_all_done() {
            return Ok(Some("nothing says that it is short".to_owned()));
        }
        let healed = self.sync(&store, exchanges, How::default()).await?;
        Ok(healed.is_as(&healthy[2]))
    }
}

/// The last page of a list of which the total is reported and right.
fn counted<'e>(pages: impl Iterator<Item = &'e Exchange>) -> Option<&'e Exchange> {
    let (mut sum, mut total, mut last) = (0, None, None);
    for page in pages {
        let body: Value = serde_json::from_slice(&page.response.body).ok()?;
        let members = body.as_object()?;
        total = total.or_else(|| TOTALS.iter().find_map(|name| members.get(*name)?.as_u64()));
        let lists = members
            .values()
            .filter_map(Value::as_array)
            .filter(|list| list.first().is_some_and(Value::is_object));
        let records: usize = lists.map(Vec::len).sum();
        sum += records as u64;
        last = if records > 0 { Some(page) } else { last };
    }
    last.filter(|_| total == Some(sum))
}

pub(super) fn shown(request: &RecordedRequest) -> String {
    let query: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!(
        "{} {} {}{}",
        request.method,
        request.path,
        query.join(" "),
        request.body.as_deref().unwrap_or_default()
    )
    .trim_end()
    .to_owned()
}
