//! Objects with the members that the specification gives them, and values that mean nothing.

use serde_json::{Map, Value, json};

use super::super::openapi::{Property, Spec};

/// When the newest object was created; each further one is a minute older.
const NEWEST: u64 = 1_769_814_000;

/// Objects inside objects inside an object.
const MAX_DEPTH: usize = 4;

/// How ids begin, where they do not begin with the object's name.
const PREFIXES: &[(&str, &str)] = &[
    ("account", "acct"),
    ("application_fee", "fee"),
    ("balance_transaction", "txn"),
    ("bank_account", "ba"),
    ("charge", "ch"),
    ("checkout.session", "cs"),
    ("credit_note", "cn"),
    ("credit_note_line_item", "cnli"),
    ("customer", "cus"),
    ("customer_balance_transaction", "cbtxn"),
    ("dispute", "dp"),
    ("event", "evt"),
    ("fee_refund", "fr"),
    ("invoice", "in"),
    ("invoice_payment", "inpay"),
    ("invoiceitem", "ii"),
    ("issuing.authorization", "iauth"),
    ("issuing.card", "ic"),
    ("issuing.cardholder", "ich"),
    ("issuing.transaction", "ipi"),
    ("item", "li"),
    ("line_item", "il"),
    ("payment_intent", "pi"),
    ("payment_method", "pm"),
    ("payout", "po"),
    ("product", "prod"),
    ("promotion_code", "promo"),
    ("radar.early_fraud_warning", "issfr"),
    ("radar.value_list", "rsl"),
    ("radar.value_list_item", "rsli"),
    ("refund", "re"),
    ("review", "prv"),
    ("setup_attempt", "setatt"),
    ("setup_intent", "seti"),
    ("shipping_rate", "shr"),
    ("subscription", "sub"),
    ("subscription_item", "si"),
    ("subscription_schedule", "sub_sched"),
    ("tax_id", "txi"),
    ("tax_rate", "txr"),
    ("topup", "tu"),
    ("transfer", "tr"),
    ("transfer_reversal", "trr"),
];

/// Values without which a record has no list of its own, see the table of streams.
const NEEDED: &[(&str, &str, &str)] = &[
    ("payout", "automatic", "true"),
    ("payout", "reconciliation_status", "\"completed\""),
];

/// The `number`th object of a component, with those of its members that are sent.
pub(super) fn object(
    spec: &Spec,
    component: &str,
    number: u64,
    is_sent: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    let Some(property) = spec.components.schemas.get(component) else {
        return Map::new();
    };
    let mut members = Map::new();
    for (name, member) in property.properties.iter().filter(|(name, _)| is_sent(name)) {
        let needed = NEEDED
            .iter()
            .find(|(object, needed, _)| *object == component && needed == name);
        let value = match (name.as_str(), needed) {
            (_, Some((_, _, value))) => serde_json::from_str(value).ok(),
            ("id", _) => Some(id(component, number).into()),
            ("created" | "date", _) => Some((NEWEST - 60 * number).into()),
            _ => value(spec, name, member, 0),
        };
        members.extend(value.map(|value| (name.clone(), value)));
    }
    members
}

/// A list of objects, as the vendor wraps it.
pub(super) fn list(url: &str, data: Vec<Map<String, Value>>) -> Value {
    json!({ "object": "list", "data": data, "has_more": false, "url": url })
}

fn id(component: &str, number: u64) -> String {
    let prefix = PREFIXES
        .iter()
        .find(|(object, _)| *object == component)
        .map_or_else(
            || component.replace('.', "_"),
            |(_, prefix)| (*prefix).to_owned(),
        );
    format!("{prefix}_fixture{number}")
}

/// A value of a member. Below the top only what is required is there, and what may be null is.
fn value(spec: &Spec, name: &str, property: &Property, depth: usize) -> Option<Value> {
    if property.nullable && (depth > 0 || !is_scalar(property)) && property.expansion.is_none() {
        return Some(Value::Null);
    }
    if let Some(expansion) = &property.expansion {
        let kind = expansion
            .one_of
            .iter()
            .find_map(Property::component)
            .unwrap_or("example");
        return Some(id(kind, 1).into());
    }
    if let Some(component) = property
        .component()
        .or_else(|| property.any_of.iter().find_map(Property::component))
    {
        let component = spec.components.schemas.get(component)?;
        return if depth < MAX_DEPTH {
            nested(spec, component, depth)
        } else {
            None
        };
    }
    if let Some(first) = property.values.first() {
        return Some(first.clone());
    }
    match property.kind.as_deref() {
        None if property.any_of.is_empty() => Some(json!({})),
        None | Some("string") => Some(text(name, property.format.as_deref()).into()),
        Some("boolean") => Some(false.into()),
        Some("integer") if property.format.as_deref() == Some("unix-time") => Some(NEWEST.into()),
        Some("integer") => Some(1000.into()),
        Some("number") => Some(1.5.into()),
        Some("array") => Some(json!([])),
        Some(_) if property.is_list() => Some(list("/v1/example", Vec::new())),
        Some(_) => nested(spec, property, depth),
    }
}

/// An object below the top, with what is required.
fn nested(spec: &Spec, component: &Property, depth: usize) -> Option<Value> {
    if !component.any_of.is_empty() {
        return component
            .any_of
            .iter()
            .find_map(Property::component)
            .and_then(|first| nested(spec, spec.components.schemas.get(first)?, depth));
    }
    let required = component
        .properties
        .iter()
        .filter(|(name, _)| component.required.contains(name));
    let members = required
        .filter_map(|(name, member)| Some((name.clone(), value(spec, name, member, depth + 1)?)));
    Some(Value::Object(members.collect()))
}

fn is_scalar(property: &Property) -> bool {
    matches!(
        property.kind.as_deref(),
        Some("string" | "integer" | "number" | "boolean")
    )
}

fn text(name: &str, format: Option<&str>) -> &'static str {
    match format {
        Some("currency") => "usd",
        Some("decimal") => "12.5",
        _ if name.contains("email") => "jenny@example.com",
        _ if name.ends_with("url") => "https://example.com/",
        _ if name.ends_with("country") => "US",
        _ if name == "currency" => "usd",
        _ => "example",
    }
}
