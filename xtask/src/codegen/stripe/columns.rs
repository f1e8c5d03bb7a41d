//! The columns of the streams, and the file that holds them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use connector_stripe::API_VERSION;
use connector_stripe::tables::{Stripe, owner};
use pipeline_core::declarative::ListDef;

use super::super::Result;
use super::super::openapi::{Property, Spec};
use super::verify::verify;

/// Starts the header's line with the hash of the rest of the file.
const SEAL: &str = "//! Seal: ";

/// Members that objects have only when a request expands them. The specification does not tell them
/// from others: it says of every member with an object inside that it can be expanded. [`verify`]
/// finds those that are in neither of the two tables.
const INCLUDABLE: &[(&str, &[&str])] = &[
    ("charge", &["refunds"]),
    ("checkout.session", &["line_items"]),
    ("coupon", &["applies_to", "currency_options"]),
    (
        "customer",
        &["cash_balance", "sources", "subscriptions", "tax", "tax_ids"],
    ),
    ("invoice", &["confirmation_secret", "payments"]),
    ("issuing.card", &["cvc", "number"]),
    ("issuing.token", &["network_data"]),
    ("item", &["discounts", "taxes"]),
    ("payment_link", &["line_items"]),
    ("plan", &["tiers"]),
    ("price", &["currency_options", "tiers"]),
    ("quote", &["line_items"]),
    ("treasury.financial_account", &["features"]),
    ("treasury.transaction", &["entries"]),
];

/// Members that are there without being asked for, although objects may be without them: what not
/// every object has. All of them where there are none named.
const PRESENT: &[(&str, &[&str])] = &[
    ("account", &[]),
    ("capability", &[]),
    ("card", &["networks"]),
    ("charge", &["presentment_details", "radar_options"]),
    (
        "checkout.session",
        &[
            "branding_settings",
            "name_collection",
            "phone_number_collection",
            "presentment_details",
            "tax_id_collection",
        ],
    ),
    ("climate.order", &["beneficiary"]),
    ("customer", &["invoice_settings"]),
    ("customer_cash_balance_transaction", &[]),
    ("dispute", &["payment_method_details"]),
    ("identity.verification_report", &[]),
    ("identity.verification_session", &["related_person"]),
    ("invoice", &["threshold_reason"]),
    ("invoiceitem", &["proration_details"]),
    (
        "payment_intent",
        &[
            "amount_details",
            "hooks",
            "payment_details",
            "presentment_details",
        ],
    ),
    ("payment_link", &["name_collection"]),
    ("payment_method", &[]),
    ("payment_method_configuration", &[]),
    ("person", &[]),
    (
        "refund",
        &["destination_details", "next_action", "presentment_details"],
    ),
    ("scheduled_query_run", &["error"]),
    ("shipping_rate", &["fixed_amount"]),
    ("subscription", &["presentment_details"]),
    ("terminal.configuration", &[]),
    ("terminal.location", &[]),
    (
        "treasury.received_debit",
        &["initiating_payment_method_details"],
    ),
];

/// The members of an object that come only when they are asked for.
pub(super) fn includable(object: &str) -> &'static [&'static str] {
    INCLUDABLE
        .iter()
        .find(|(known, _)| *known == object)
        .map_or(&[], |(_, members)| members)
}

/// Whether a member is known to be there without being asked for.
pub(super) fn is_present(object: &str, member: &str) -> bool {
    PRESENT.iter().any(|(known, members)| {
        *known == object && (members.is_empty() || members.contains(&member))
    })
}

/// Members that hold seconds since 1970 although the specification does not say so.
const UNTAGGED_TIMES: &[(&str, &str)] = &[
    ("subscription_item", "created"),
    ("topup", "expected_availability_date"),
];

pub(super) const TIMESTAMP: &str = "Timestamp(UnixSeconds)";

/// One column: its name and its type as Rust.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: &'static str,
}

/// False for a member that the object does not have, because nobody asks for it.
pub(super) fn is_sent(stream: &ListDef<Stripe>, member: &str) -> bool {
    !includable(stream.facts.object).contains(&member) || stream.facts.expand.contains(&member)
}

/// The columns of a stream, after everything that the table says about it was found to be true.
pub(crate) fn columns(spec: &Spec, stream: &ListDef<Stripe>) -> Result<Vec<Column>> {
    let wrong = |what: String| format!("stream `{}`: {what}", stream.name);
    verify(spec, stream).map_err(wrong)?;
    let component = spec
        .components
        .schemas
        .get(stream.facts.object)
        .ok_or_else(|| wrong("its object is missing".to_owned()))?;
    let mut columns = Vec::new();
    for (name, property) in component
        .properties
        .iter()
        .filter(|(name, _)| is_sent(stream, name))
    {
        let is_time = UNTAGGED_TIMES.contains(&(stream.facts.object, name));
        let data_type = if is_time {
            Ok(TIMESTAMP)
        } else {
            data_type(property)
        };
        columns.push(Column {
            name: name.clone(),
            data_type: data_type.map_err(|what| wrong(format!("`{name}`: {what}")))?,
        });
    }
    // Where objects do not name the record that they belong to, a column does.
    if let Some(owner) = owner(stream).filter(|owner| !component.properties.contains_key(*owner)) {
        columns.push(Column {
            name: owner.to_owned(),
            data_type: "String",
        });
    }
    // The key first, the parent's part of it before the record's own.
    let key = stream.streams.first().map_or(&[][..], |stream| stream.key);
    columns.sort_by_key(|column| {
        key.iter()
            .position(|member| *member == column.name)
            .unwrap_or(usize::MAX)
    });
    Ok(columns)
}

/// The column that holds a member. Everything that is no scalar is JSON; every component of the
/// file is an object, so that what refers to one is too.
pub(crate) fn data_type(property: &Property) -> Result<&'static str, String> {
    if !property.any_of.is_empty() {
        let is_text = |alternative: &Property| alternative.kind.as_deref() == Some("string");
        return Ok(match &property.any_of {
            any_of if property.expansion.is_some() && any_of.iter().any(is_text) => "Reference",
            any_of if any_of.iter().all(is_text) => "String",
            any_of if any_of.iter().all(is_object) => "Object",
            _ => "Json",
        });
    }
    let Some(kind) = property.kind.as_deref() else {
        return Ok(if is_object(property) {
            "Object"
        } else {
            "Json"
        });
    };
    match (kind, property.format.as_deref()) {
        ("boolean", None) => Ok("Bool"),
        ("integer", Some("unix-time")) => Ok(TIMESTAMP),
        ("integer", None) => Ok("Int64"),
        ("number", None) => Ok("Float64"),
        ("string", None | Some("currency" | "decimal")) => Ok("String"),
        ("array", _) => Ok("Array"),
        ("object", _) => Ok("Object"),
        (kind, format) => Err(format!(
            "there is no column for the type `{kind}` with the format `{}`",
            format.unwrap_or_default()
        )),
    }
}

fn is_object(property: &Property) -> bool {
    property.kind.as_deref() == Some("object") || property.component().is_some()
}

/// The text of `schema.rs`.
pub(crate) fn render(streams: &[&ListDef<Stripe>], columns: &[Vec<Column>]) -> String {
    let used: BTreeSet<&str> = columns
        .iter()
        .flatten()
        .map(|column| column.data_type.split('(').next().unwrap_or_default())
        .collect();
    let used: Vec<&str> = used.into_iter().collect();
    let mut body = format!(
        "use pipeline_core::DataType::{{{}}};\nuse pipeline_core::Field;\nuse pipeline_core::TimeFormat::UnixSeconds;\n\n",
        used.join(", ")
    );
    body.push_str("/// Columns of a stream; empty when it is not known.\npub(crate) fn columns(stream: &str) -> &'static [Field] {\n    match stream {\n");
    for stream in streams {
        let _ = writeln!(
            body,
            "        \"{}\" => {},",
            stream.name,
            stream.name.to_uppercase()
        );
    }
    body.push_str("        _ => &[],\n    }\n}\n");
    for (stream, columns) in streams.iter().zip(columns) {
        let _ = writeln!(
            body,
            "\nconst {}: &[Field] = &[",
            stream.name.to_uppercase()
        );
        for column in columns {
            let _ = writeln!(
                body,
                "    Field::new(\"{}\", {}),",
                column.name, column.data_type
            );
        }
        body.push_str("];\n");
    }
    let head = format!(
        "//! The columns of every stream, from Stripe's OpenAPI file.\n//!\n//! Written by `cargo xtask codegen stripe --spec FILE`; do \
         not edit.\n//!\n//! API version: {API_VERSION}\n//! Specification: stripe/openapi, openapi.spec3.json of that version\n"
    );
    let seal = seal(&head, &body);
    format!("{head}{SEAL}{seal}\n\n{body}")
}

/// A hash of the file without the line that holds it.
fn seal(head: &str, body: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(body.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Fails when the file is not as it was written.
pub(crate) fn verify_seal(text: &str) -> Result<()> {
    let intact = text.split_once(SEAL).and_then(|(head, rest)| {
        let (known, body) = rest.split_once("\n\n")?;
        Some(known == seal(head, body))
    });
    match intact {
        Some(true) => Ok(()),
        _ => Err("the generated columns were edited by hand; run `cargo xtask codegen stripe --spec FILE`".into()),
    }
}
