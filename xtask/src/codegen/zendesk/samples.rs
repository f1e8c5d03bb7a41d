//! Fixture cases of plain lists, made of the shapes that the OpenAPI files describe. The values are
//! invented.

use std::path::PathBuf;

use connector_zendesk::tables::{Described, Pages, Slices, Zendesk};
use pipeline_core::declarative::ListDef;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::{Result, described, lists};
use crate::output::root;

/// When every case is read, and from when on.
const NOW: &str = "2026-11-22T12:00:00Z";
const START: &str = "2026-11-01";

/// The same moments as lists are asked for them.
const START_SECONDS: &str = "1793491200";
const START_TEXT: &str = "2026-11-01T00:00:00Z";
const UNTIL_TEXT: &str = "2026-11-22T12:00:01Z";
const UNTIL_SECONDS: &str = "1795348739";

/// The files of a case for every list that needs no more than its description.
pub(super) fn cases(api: &Api) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for list in lists().filter(|list| is_plain(list)) {
        let folder = root()
            .join("fixtures/zendesk")
            .join(format!("list_{}", list.name));
        let mut exchanges = exchanges(api, list)?;
        if ["/api/v2/help_center/", "/api/v2/community/"]
            .iter()
            .any(|beginning| list.path.starts_with(beginning))
        {
            exchanges.push(brands(api)?);
        }
        // Which fields the account has would be asked for before, with requests of their own.
        let case = json!({
            "origin": "documented",
            "source": format!("the vendor's description of GET {}; the values are invented", list.path),
            "config": {
                "subdomain": "acme", "email": "admin@acme.test", "api_token": "dummy-token", "start_date": START,
                "custom_field_columns": false,
            },
            "streams": list.streams.iter().map(|stream| stream.name).collect::<Vec<_>>(),
            "now": NOW,
        });
        let exchanges = exchanges
            .iter()
            .enumerate()
            .map(|(index, exchange)| (format!("{:03}.json", index + 1), exchange));
        for (name, value) in exchanges.chain([("case.json".to_owned(), &case)]) {
            files.push((
                folder.join(name),
                format!("{}\n", serde_json::to_string_pretty(value)?),
            ));
        }
    }
    Ok(files)
}

/// Lists without a parent, whose one stream stands in the answer as it is.
fn is_plain(list: &ListDef<Zendesk>) -> bool {
    let [stream] = list.streams else { return false };
    list.parent.is_none()
        && stream.is_generated()
        && matches!(stream.facts, Described::Here)
        && !list.records.contains('/')
}

/// Two pages of a list by cursor, one of any other.
fn exchanges(api: &Api, list: &ListDef<Zendesk>) -> Result<Vec<Value>> {
    let record = |number| record(api, list, number);
    let links = json!({ "next": format!("https://acme.zendesk.com{}?page%5Bafter%5D=ZW5k", list.path), "prev": null });
    let page = |records: Vec<Map<String, Value>>, more: Value| {
        let mut body = Map::from_iter([(list.records.to_owned(), json!(records))]);
        body.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(body)
    };
    let Pages::Cursor(_) = list.pages else {
        let envelope = match list.pages {
            Pages::CursorExport => {
                json!({ "after_cursor": "MTc5MzY5NzI0MC4wfHwzfA==", "after_url": null, "end_of_stream": true })
            }
            Pages::TimeExport => {
                json!({ "count": 2, "end_time": 1_793_697_240, "next_page": null, "end_of_stream": true })
            }
            Pages::TimePages | Pages::CursorFeed => {
                json!({ "count": 2, "end_time": 1_793_697_240, "next_page": null })
            }
            Pages::Numbered => json!({ "count": 2, "next_page": null, "previous_page": null }),
            Pages::Once | Pages::Cursor(_) => json!({}),
        };
        let mut exchanges = vec![exchange(
            list,
            &[],
            page(vec![record(1)?, record(2)?], envelope.clone()),
        )];
        if list.pages == Pages::TimePages {
            // Nothing but a time that stands still says that this export is at its end.
            exchanges.push(exchange(
                list,
                &[("start_time", "1793697240")],
                page(vec![record(2)?], envelope),
            ));
        }
        return Ok(exchanges);
    };
    // The link to a next page is there on the last one as well.
    let first = json!({ "meta": { "has_more": true, "after_cursor": "YSs/Yg==", "before_cursor": "Yg==" }, "links": links });
    let end = json!({ "meta": { "has_more": false, "after_cursor": "ZW5k", "before_cursor": "Yw==" }, "links": links });
    Ok(vec![
        exchange(list, &[], page(vec![record(1)?, record(2)?], first)),
        exchange(
            list,
            &[("page[after]", "YSs/Yg==")],
            page(vec![record(3)?], end),
        ),
    ])
}

/// The one brand of the account, whose Help Center is read: which there are is asked for before any
/// list of one.
fn brands(api: &Api) -> Result<Value> {
    let list = lists()
        .find(|list| list.name == "brands")
        .ok_or("there is no list of brands")?;
    let mut brand = record(api, list, 1)?;
    brand.extend([
        ("subdomain".to_owned(), json!("acme")),
        ("has_help_center".to_owned(), json!(true)),
    ]);
    let body = json!({ "brands": [brand], "meta": { "has_more": false, "after_cursor": "ZW5k", "before_cursor": "Yg==" }, "links": { "next": null, "prev": null } });
    Ok(exchange(list, &[], body))
}

fn record(api: &Api, list: &ListDef<Zendesk>, number: u64) -> Result<Map<String, Value>> {
    let (path, records) = described(list, &list.streams[0]);
    let mut record = api.item(path, records)?.sample(number);
    let is_marked = |name: &str| matches!(name, "deleted" | "is_deleted");
    record
        .iter_mut()
        .filter(|(name, _)| is_marked(name))
        .for_each(|(_, value)| *value = Value::from(number == 2));
    for key in list.streams[0]
        .key
        .iter()
        .filter(|key| **key != "time" && **key != "type")
    {
        if let Some(Value::String(text)) = record.get_mut(*key) {
            *text = format!("{key} {number}");
        }
    }
    Ok(record)
}

/// A request as the connector makes it, and its answer.
fn exchange(list: &ListDef<Zendesk>, page: &[(&str, &str)], body: Value) -> Value {
    let mut query: Vec<(String, String)> = list
        .params
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut add = |name: &str, value: &str| query.push((name.to_owned(), value.to_owned()));
    match list.pages {
        Pages::Cursor(size) => add("page[size]", &size.to_string()),
        Pages::Numbered => add("per_page", "100"),
        Pages::CursorExport | Pages::TimeExport => add("per_page", "1000"),
        Pages::TimePages | Pages::CursorFeed | Pages::Once => {}
    }
    match list.slices {
        Some(Slices::Changes(_)) => add("start_time", START_SECONDS),
        Some(Slices::Windows) => {
            add("start_time", START_SECONDS);
            add("end_time", UNTIL_SECONDS);
        }
        Some(Slices::Created) => {
            add("filter[created_at][]", START_TEXT);
            add("filter[created_at][]", UNTIL_TEXT);
        }
        Some(Slices::Search) => add(
            "query",
            &format!("updated_at>={START_TEXT} updated_at<={UNTIL_TEXT}"),
        ),
        Some(Slices::NewestFirst) | None => {}
    }
    query.retain(|(known, _)| !page.iter().any(|(name, _)| known == name));
    query.extend(
        page.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    query.sort();
    let headers = json!({ "content-type": "application/json", "x-rate-limit": "700", "x-rate-limit-remaining": "699" });
    json!({
        "request": { "method": "GET", "path": list.path, "query": query },
        "response": { "status": 200, "headers": headers, "body": body },
    })
}
