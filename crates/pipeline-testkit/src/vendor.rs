//! A vendor that answers as it was recorded, sync after sync, and does something wrong with one
//! request.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pipeline_core::http::{
    HeaderMap, HeaderValue, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use serde_json::Value;
use tokio::sync::Notify;
use url::Url;

use crate::fault::{emptied, first_half};
use crate::fixture::{Exchange, RecordedRequest, RecordedResponse, is_for_token};
use crate::replay::{Replay, headers, is_recorded, status};
use crate::secrets::Secrets;
use crate::twin::TOTALS;

/// Members that say that a list has more pages, and what they are at its end.
const ENDS: [(&str, Value); 6] = [
    ("has_more", Value::Bool(false)),
    ("end_of_stream", Value::Bool(true)),
    ("next", Value::Null),
    ("next_page", Value::Null),
    ("next_page_url", Value::Null),
    ("after_url", Value::Null),
];

/// What a vendor answers to one request, however often it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// 422 with a reason of its own.
    Refused,
    /// 302 to a page where people log in.
    Redirected,
    /// A page for people with status 200.
    Page,
    /// 500.
    Failing,
    /// A body that ends in its middle, and nothing shows it.
    Truncated,
    /// The list without its last record, whose total is the old one.
    Short,
    /// An empty list: not a trouble, but what is there without the records of the request.
    Emptied,
}

impl Trouble {
    /// Whether asking again is no use, so that it must not cost more than one request.
    pub(crate) fn is_permanent(self) -> bool {
        matches!(self, Self::Refused | Self::Redirected)
    }

    fn answer(self, recorded: &RecordedResponse) -> Result<RawResponse, TransportError> {
        let refusal = |status, name: &'static str, value: &'static str, body: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            Ok(RawResponse::full(status, headers, body))
        };
        let page = "<!DOCTYPE html><html><body>Sign in</body></html>";
        let changed = |body| {
            Ok(RawResponse::full(
                status(recorded)?,
                headers(recorded)?,
                body,
            ))
        };
        match self {
            Self::Refused => {
                let body = r#"{"error":"this cannot be computed","description":"this cannot be computed"}"#;
                refusal(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "content-type",
                    "application/json",
                    body,
                )
            }
            Self::Redirected => refusal(StatusCode::FOUND, "location", "/login", page),
            Self::Page => refusal(StatusCode::OK, "content-type", "text/html", page),
            Self::Failing => refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "content-type",
                "text/plain",
                "something went wrong",
            ),
            Self::Truncated => changed(first_half(&recorded.body)),
            Self::Short => changed(short(&recorded.body)),
            Self::Emptied => changed(ended(&recorded.body)),
        }
    }
}

/// Answers every request that was recorded, and what was not with nothing new.
pub(crate) struct Vendor {
    replay: Replay,
    trouble: Option<(RecordedRequest, Trouble)>,
    met: AtomicUsize,
    asked: AtomicUsize,
    unanswered: AtomicUsize,
    /// The data request, counted from 1, that is never answered.
    kill_at: Option<usize>,
    killed: Notify,
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vendor")
    }
}

impl Vendor {
    pub(crate) fn new(
        exchanges: &[Exchange],
        trouble: Option<(RecordedRequest, Trouble)>,
        kill_at: Option<usize>,
    ) -> Self {
        let replay = Replay::new(exchanges.to_vec(), Secrets::default())
            .repeating_tokens()
            .repeating(u32::MAX - 1);
        Self {
            replay,
            trouble,
            met: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            kill_at,
            killed: Notify::new(),
        }
    }

    /// How many requests met the trouble.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    /// How many requests asked for something that was not recorded, and were answered that there is
    /// nothing.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Ends when the request came that kills its sender.
    pub(crate) async fn killed(&self) {
        self.killed.notified().await;
    }
}

#[async_trait]
impl HttpService for Vendor {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        if is_for_token(request.method.as_str(), request.url.path()) {
            return self.replay.call(request).await;
        }
        if self.kill_at == Some(self.asked.fetch_add(1, Ordering::Relaxed) + 1) {
            self.killed.notify_one();
            return std::future::pending().await;
        }
        let recorded = self.replay.peek(&request);
        if let Some((_, trouble)) = self
            .trouble
            .as_ref()
            .filter(|(troubled, _)| is_recorded(&request, troubled))
            && let Some(recorded) = recorded
        {
            self.met.fetch_add(1, Ordering::Relaxed);
            return trouble.answer(recorded);
        }
        let known = if recorded.is_none() {
            self.replay.of_path(&request)
        } else {
            Vec::new()
        };
        let Some(last) = known.last() else {
            return self.replay.call(request).await;
        };
        let body = if let Some(bounds) = Bounds::of(&request.full_url()) {
            bounds.page(&known)
        } else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            ended(&last.body)
        };
        Ok(RawResponse::full(status(last)?, headers(last)?, body))
    }
}

/// A span of one member's values, as `created[gte]=1` and `created[lt]=2` ask for it.
struct Bounds {
    member: String,
    values: Range<i64>,
}

impl Bounds {
    /// What a query asks for; none when it has no lower bound of this form.
    fn of(url: &Url) -> Option<Self> {
        let mut bounds: Option<Self> = None;
        let mut until = i64::MAX;
        for (name, value) in url.query_pairs() {
            let Some((member, operator)) =
                name.strip_suffix(']').and_then(|name| name.split_once('['))
            else {
                continue;
            };
            let Ok(value) = value.parse::<i64>() else {
                continue;
            };
            let since = match operator {
                "gte" => value,
                "gt" => value + 1,
                "lt" => {
                    until = value;
                    continue;
                }
                "lte" => {
                    until = value + 1;
                    continue;
                }
                _ => continue,
            };
            bounds = Some(Self {
                member: member.to_owned(),
                values: since..i64::MAX,
            });
        }
        bounds.map(|bounds| Self {
            values: bounds.values.start..until,
            ..bounds
        })
    }

    /// The last of these pages, with the records of all of them that are inside.
    fn page(&self, pages: &[&RecordedResponse]) -> Bytes {
        let is_inside = |record: &Value| {
            record[&self.member]
                .as_i64()
                .is_some_and(|value| self.values.contains(&value))
        };
        let mut records: Vec<Value> = Vec::new();
        for page in pages {
            let Ok(page) = serde_json::from_slice::<Value>(&page.body) else {
                continue;
            };
            let lists = page
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(_, member)| member.as_array());
            records.extend(lists.flatten().filter(|record| is_inside(record)).cloned());
        }
        let mut seen = BTreeSet::new();
        records.retain(|record| seen.insert(record.to_string()));
        let Some(last) = pages.last() else {
            return Bytes::new();
        };
        let Ok(mut page) = serde_json::from_slice::<Value>(&last.body) else {
            return ended(&last.body);
        };
        let total = Value::from(records.len());
        let lists = page
            .as_object_mut()
            .into_iter()
            .flatten()
            .filter_map(|(_, member)| member.as_array_mut());
        lists
            .filter(|list| list.iter().all(Value::is_object))
            .take(1)
            .for_each(|list| *list = std::mem::take(&mut records));
        end(&mut page);
        TOTALS
            .iter()
            .filter_map(|name| page.get_mut(*name).map(|old| *old = total.clone()))
            .for_each(drop);
        Bytes::from(page.to_string())
    }
}

/// Whether a list can be emptied, so that what is there without its records can be found out.
pub(crate) fn is_list(body: &Bytes) -> bool {
    serde_json::from_slice::<Value>(body).map_or(true, |value| value.is_array())
        || emptied(body).is_some()
}

/// The last page of a list that has no records. What is not a list comes as it is; lines are empty.
fn ended(body: &Bytes) -> Bytes {
    if body.ends_with(b"\n") {
        return Bytes::new();
    }
    match serde_json::from_slice::<Value>(body) {
        Err(_) => Bytes::new(),
        Ok(Value::Array(_)) => Bytes::from_static(b"[]"),
        Ok(_) => {
            let Some(mut page) =
                emptied(body).and_then(|body| serde_json::from_slice::<Value>(&body).ok())
            else {
                return body.clone();
            };
            end(&mut page);
            for (_, member) in page.as_object_mut().into_iter().flatten() {
                end(member);
            }
            TOTALS
                .iter()
                .filter_map(|name| page.get_mut(*name).map(|total| *total = Value::from(0)))
                .for_each(drop);
            Bytes::from(page.to_string())
        }
    }
}

fn end(page: &mut Value) {
    for (name, value) in ENDS {
        if let Some(member) = page.as_object_mut().and_then(|page| page.get_mut(name)) {
            *member = value;
        }
    }
}

/// The page without the last record of its list.
fn short(body: &Bytes) -> Bytes {
    let Ok(mut page) = serde_json::from_slice::<Value>(body) else {
        return body.clone();
    };
    let lists = page
        .as_object_mut()
        .into_iter()
        .flatten()
        .filter_map(|(_, member)| member.as_array_mut());
    lists
        .filter(|list| list.first().is_some_and(Value::is_object))
        .take(1)
        .for_each(|list| drop(list.pop()));
    Bytes::from(page.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(edit: fn(&Bytes) -> Bytes, body: &Value) -> Value {
        serde_json::from_slice(&edit(&Bytes::from(body.to_string()))).unwrap_or_default()
    }

    #[test]
    fn bounds_choose_among_all_pages() {
        let url = |query: &str| {
            Url::parse(&format!("https://host/list?{query}"))
                .unwrap_or_else(|error| panic!("{error}"))
        };
        let bounds = Bounds::of(&url("created[gte]=2&created[lt]=4&limit=9"))
            .unwrap_or_else(|| panic!("there are bounds"));
        let page = |ids: [i64; 2], more: bool| {
            let records = ids.map(|id| json!({ "id": id, "created": id }));
            let body = Bytes::from(json!({ "data": records, "has_more": more }).to_string());
            RecordedResponse {
                status: 200,
                headers: std::collections::BTreeMap::new(),
                body,
            }
        };
        let found: Value =
            serde_json::from_slice(&bounds.page(&[&page([4, 3], true), &page([2, 1], false)]))
                .unwrap_or_default();
        let expected = json!({ "data": [{ "id": 3, "created": 3 }, { "id": 2, "created": 2 }], "has_more": false });
        assert_eq!(found, expected);
        assert!(Bounds::of(&url("created[lt]=4")).is_none());
    }

    #[test]
    fn an_ended_list_is_empty_and_a_short_one_keeps_its_total() {
        let page = json!({ "data": [{ "id": 1 }, { "id": 2 }], "total": 2, "meta": { "has_more": true }, "next_page": "x" });
        let empty =
            json!({ "data": [], "total": 0, "meta": { "has_more": false }, "next_page": null });
        let one = json!({ "data": [{ "id": 1 }], "total": 2, "meta": { "has_more": true }, "next_page": "x" });
        assert_eq!((edited(ended, &page), edited(short, &page)), (empty, one));
        assert_eq!(edited(ended, &json!({ "id": 1 })), json!({ "id": 1 }));
        assert_eq!(ended(&Bytes::from_static(b"{}\n{}")), Bytes::new());
    }
}
