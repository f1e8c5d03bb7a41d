//! Units of recorded exchanges: records of which a list of their own is asked for, found by their
//! ids in later requests.
//!
//! A case has often one such record only, and of one unit it is unknown whether it or the endpoint
//! fails. So each gets a twin: the same record and the same list once more, under other ids.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::fixture::{Exchange, RecordedRequest};

/// Members that count the records of a list.
pub(crate) const TOTALS: [&str; 3] = ["total", "count", "total_count"];

/// Added to numbers that identify something.
const APART: u64 = 50_000_000;

/// A record that has requests of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The exchange that lists it.
    listed: usize,
    /// Its id, as it is written in requests.
    pub(crate) id: String,
    /// The exchanges that are about it.
    pub(crate) own: Vec<usize>,
    /// All that name it: those and what is asked for because of records in them.
    named: Vec<usize>,
}

/// Parts of the names of parameters that say how much, from where on and in which form.
const HOW: [&str; 11] = [
    "limit", "size", "page", "start", "end", "cursor", "after", "before", "include", "expand",
    "created",
];

/// The units of a case, in the order of their lists.
pub(crate) fn units(exchanges: &[Exchange]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for (index, exchange) in exchanges
        .iter()
        .enumerate()
        .filter(|(_, exchange)| !exchange.request.is_for_token())
    {
        let named = values(&exchange.request)
            .into_iter()
            .rev()
            .find_map(|id| Some((listing(exchanges, index, &id)?, id)));
        let Some((listed, id)) = named else { continue };
        match units
            .iter_mut()
            .find(|unit| unit.listed == listed && unit.id == id)
        {
            Some(unit) => unit.own.push(index),
            None => units.push(Unit {
                listed,
                id,
                own: vec![index],
                named: Vec::new(),
            }),
        }
    }
    for unit in &mut units {
        let names = |exchange: &Exchange| {
            !exchange.request.is_for_token() && values(&exchange.request).contains(&unit.id)
        };
        unit.named = (unit.listed + 1..exchanges.len())
            .filter(|index| names(&exchanges[*index]))
            .collect();
    }
    units
}

/// What a request names: values of its body and of its parameters, then the segments of its path.
fn values(request: &RecordedRequest) -> Vec<String> {
    let form = request
        .body
        .iter()
        .flat_map(|body| url::form_urlencoded::parse(body.as_bytes()).into_owned());
    let pairs = form
        .chain(request.query.iter().cloned())
        .filter(|(name, _)| !HOW.iter().any(|part| name.contains(part)));
    let words = pairs.flat_map(|(_, value)| [words(&value), vec![value]].concat());
    words
        .chain(request.path.split('/').map(str::to_owned))
        .filter(|value| !value.is_empty())
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(|letter| !is_word(letter))
        .map(str::to_owned)
        .collect()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The exchange before this one, of another path, that lists a record with this id.
fn listing(exchanges: &[Exchange], before: usize, id: &str) -> Option<usize> {
    let own = &exchanges[before].request.path;
    let is_another = |path: &String| path != own && !path.split('/').any(|segment| segment == id);
    exchanges[..before].iter().rposition(|exchange| {
        let lists = || serde_json::from_slice::<Value>(&exchange.response.body).ok();
        is_another(&exchange.request.path) && lists().is_some_and(|body| find(&body, id).is_some())
    })
}

/// Where the record with this id is: the member of the body that holds the list, if it has a name,
/// and the index.
fn find(body: &Value, id: &str) -> Option<(Option<String>, usize)> {
    let at = |list: &Value| {
        list.as_array()?
            .iter()
            .position(|record| is_named(record, id))
    };
    if let Some(index) = at(body) {
        return Some((None, index));
    }
    body.as_object()?
        .iter()
        .find_map(|(name, list)| Some((Some(name.clone()), at(list)?)))
}

fn is_named(record: &Value, id: &str) -> bool {
    record.as_object().is_some_and(|members| {
        members
            .iter()
            .any(|(name, value)| identifies(name) && scalar(value).as_deref() == Some(id))
    })
}

fn identifies(member: &str) -> bool {
    member == "id" || member == "key" || member.ends_with("_id")
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The exchanges with a twin of the unit, which is listed before it. None when the case cannot be
/// doubled.
pub(crate) fn twin(exchanges: &[Exchange], unit: &Unit) -> Option<Vec<Exchange>> {
    let mut listing: Value = serde_json::from_slice(&exchanges[unit.listed].response.body).ok()?;
    let (member, index) = find(&listing, &unit.id)?;
    let record = member
        .as_ref()
        .map_or(&listing, |name| &listing[name.as_str()])
        .get(index)?
        .clone();
    let mut names = BTreeMap::from([(unit.id.clone(), renamed(&unit.id))]);
    collect(&record, &mut names);
    let bodies: Vec<Option<Value>> = unit
        .named
        .iter()
        .map(|named| serde_json::from_slice(&exchanges[*named].response.body).ok())
        .collect();
    bodies
        .iter()
        .flatten()
        .for_each(|body| collect(body, &mut names));
    let mut doubled = exchanges.to_vec();
    let list = match &member {
        Some(name) => listing.get_mut(name)?.as_array_mut()?,
        None => listing.as_array_mut()?,
    };
    let length = list.len() as u64;
    list.insert(index, rename("", record, &names));
    if let Some(members) = listing.as_object_mut() {
        count_one_more(members, length);
    }
    doubled[unit.listed].response.body = Bytes::from(listing.to_string());
    for (named, body) in unit.named.iter().zip(bodies) {
        let mut again = exchanges[*named].clone();
        ask_for(&mut again.request, &names);
        if let Some(body) = body {
            again.response.body = Bytes::from(rename("", body, &names).to_string());
        }
        doubled.push(again);
    }
    Some(doubled)
}

/// The exchanges with a record more at the beginning of each list, which is the first one under
/// another id.
pub(crate) fn grown(exchanges: &[Exchange]) -> Vec<Exchange> {
    let mut grown = exchanges.to_vec();
    for exchange in grown
        .iter_mut()
        .filter(|exchange| !exchange.request.is_for_token())
    {
        if let Some(body) = longer(&exchange.response.body) {
            exchange.response.body = body;
        }
    }
    grown
}

/// A body whose lists have a record more; none when it has no list of records with ids.
fn longer(body: &Bytes) -> Option<Bytes> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let grow = |list: &mut Value| {
        let list = list.as_array_mut()?;
        let first = list
            .first()
            .filter(|record| record.get("id").is_some())?
            .clone();
        let mut names = BTreeMap::new();
        collect(&first, &mut names);
        list.insert(0, rename("", first, &names));
        Some(list.len() as u64 - 1)
    };
    if body.is_array() {
        grow(&mut body)?;
    } else {
        let members = body.as_object_mut()?;
        let lengths: Vec<u64> = members
            .iter_mut()
            .filter_map(|(_, list)| grow(list))
            .collect();
        count_one_more(members, *lengths.first()?);
    }
    Some(Bytes::from(body.to_string()))
}

fn renamed(id: &str) -> String {
    id.parse::<u64>()
        .map_or_else(|_| format!("{id}b"), |number| (number + APART).to_string())
}

/// All ids in a value get other names.
fn collect(value: &Value, names: &mut BTreeMap<String, String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| collect(value, names)),
        Value::Object(members) => {
            for (name, value) in members {
                if let Some(id) = scalar(value).filter(|_| name == "id") {
                    names.entry(id.clone()).or_insert_with(|| renamed(&id));
                }
                collect(value, names);
            }
        }
        _ => {}
    }
}

/// The value with the new names: texts wherever they stand, numbers only where they identify
/// something.
fn rename(member: &str, value: Value, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Array(list) => list
            .into_iter()
            .map(|value| rename(member, value, names))
            .collect(),
        Value::Object(members) => {
            let members = members
                .into_iter()
                .map(|(name, value)| (name.clone(), rename(&name, value, names)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::String(text) => Value::String(names.get(&text).cloned().unwrap_or(text)),
        Value::Number(number) if identifies(member) => {
            let name = names
                .get(&number.to_string())
                .and_then(|name| name.parse::<u64>().ok());
            name.map_or(Value::Number(number), Value::from)
        }
        other => other,
    }
}

/// A list of so many records that says how many it has has one more now.
fn count_one_more(members: &mut Map<String, Value>, length: u64) {
    for name in TOTALS {
        if members.get(name).and_then(Value::as_u64) == Some(length) {
            members.insert(name.to_owned(), Value::from(length + 1));
        }
    }
}

/// The request for the twin.
fn ask_for(request: &mut RecordedRequest, names: &BTreeMap<String, String>) {
    let name = |text: &str| names.get(text).cloned().unwrap_or_else(|| text.to_owned());
    request.path = request
        .path
        .split('/')
        .map(name)
        .collect::<Vec<_>>()
        .join("/");
    for (_, value) in &mut request.query {
        *value = name(value);
    }
    if let Some(body) = &mut request.body {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (parameter, value) in url::form_urlencoded::parse(body.as_bytes()) {
            form.append_pair(&parameter, &words_renamed(&value, names));
        }
        *body = form.finish();
    }
}

/// A text in which words have new names.
fn words_renamed(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..]
            .find(|letter| !is_word(letter))
            .map_or(rest.len(), |length| start + length);
        out.push_str(&rest[..start]);
        out.push_str(
            names
                .get(&rest[start..end])
                .map_or(&rest[start..end], String::as_str),
        );
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn exchange(path: &str, query: &Value, response: &Value) -> Exchange {
        let request = json!({ "method": "GET", "path": path, "query": query });
        // The body is taken as text, which a value has none of.
        serde_json::from_str(
            &json!({ "request": request, "response": { "status": 200, "body": response } })
                .to_string(),
        )
        .unwrap()
    }

    fn case() -> Vec<Exchange> {
        vec![
            exchange(
                "/customers",
                &json!({}),
                &json!({ "data": [{ "id": "a" }, { "id": "b" }], "count": 2 }),
            ),
            exchange(
                "/customers",
                &json!({ "after": "b" }),
                &json!({ "data": [{ "id": "c" }], "count": 3 }),
            ),
            exchange(
                "/customers/b/cards",
                &json!({}),
                &json!({ "data": [{ "id": 7, "customer": "b" }], "count": 1 }),
            ),
            exchange(
                "/customers/b/cards",
                &json!({ "after": "7" }),
                &json!({ "data": [] }),
            ),
            exchange("/votes", &json!({ "customer": "c" }), &json!([])),
        ]
    }

    #[test]
    fn units_are_what_later_requests_name() {
        let found: Vec<_> = units(&case())
            .into_iter()
            .map(|unit| (unit.listed, unit.id, unit.own))
            .collect();
        assert_eq!(
            found,
            [
                (0, "b".to_owned(), vec![2, 3]),
                (1, "c".to_owned(), vec![4])
            ]
        );
    }

    #[test]
    fn a_twin_has_a_record_and_requests_of_its_own() {
        let case = case();
        let doubled = twin(&case, &units(&case)[0]).unwrap();
        let body =
            |index: usize| serde_json::from_slice::<Value>(&doubled[index].response.body).unwrap();
        assert_eq!(
            body(0),
            json!({ "data": [{ "id": "a" }, { "id": "bb" }, { "id": "b" }], "count": 3 })
        );
        assert_eq!(
            body(5),
            json!({ "data": [{ "id": 50_000_007, "customer": "bb" }], "count": 1 })
        );
        let asked: Vec<_> = doubled[5..]
            .iter()
            .map(|exchange| (exchange.request.path.as_str(), &exchange.request.query))
            .collect();
        let after = vec![("after".to_owned(), "50000007".to_owned())];
        assert_eq!(
            asked,
            [
                ("/customers/bb/cards", &Vec::new()),
                ("/customers/bb/cards", &after)
            ]
        );
    }

    #[test]
    fn every_list_grows_by_a_record() {
        let grown = grown(&case());
        let bodies = grown
            .iter()
            .map(|exchange| serde_json::from_slice::<Value>(&exchange.response.body).unwrap());
        let expected = [
            json!({ "data": [{ "id": "ab" }, { "id": "a" }, { "id": "b" }], "count": 3 }),
            json!({ "data": [{ "id": "cb" }, { "id": "c" }], "count": 3 }),
            json!({ "data": [{ "id": 50_000_007, "customer": "b" }, { "id": 7, "customer": "b" }], "count": 2 }),
            json!({ "data": [] }),
            json!([]),
        ];
        assert_eq!(bodies.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn bodies_name_units_too() {
        let names = BTreeMap::from([("1000".to_owned(), "2000".to_owned())]);
        assert_eq!(
            words_renamed("{\"id\":1000,\"x\":\"a1000\"}", &names),
            "{\"id\":2000,\"x\":\"a1000\"}"
        );
        assert!(words("{\"id\":1000}").contains(&"1000".to_owned()));
    }
}
