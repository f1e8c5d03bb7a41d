//! Columns from a specification of one object, and what happens when the table and the
//! specification disagree.

#![allow(clippy::unwrap_used)]

use connector_stripe::tables::{Stripe, stream};
use pipeline_core::declarative::ListDef;

use super::openapi::{Property, Spec};
use super::stripe::columns::{Column, columns, data_type, render, verify_seal};
use super::stripe::readme::with_table;

/// The coupon of a specification that has one member of each kind.
fn spec(change: impl FnOnce(&mut serde_json::Value)) -> Spec {
    let parameter =
        |name: &str| serde_json::json!({ "name": name, "in": "query", "required": false });
    let parameters = [
        "created",
        "ending_before",
        "expand",
        "limit",
        "starting_after",
    ]
    .map(parameter);
    let mut spec = serde_json::json!({
        "info": { "version": "2026-05-27.dahlia" },
        "paths": { "/v1/coupons": { "get": { "parameters": parameters }, "post": {} } },
        "components": { "schemas": { "coupon": {
            "required": ["id"],
            "x-expandableFields": ["applies_to", "currency_options"],
            "properties": {
                "amount_off": { "type": "integer", "nullable": true },
                "applies_to": { "$ref": "#/components/schemas/coupon_applies_to" },
                "created": { "type": "integer", "format": "unix-time" },
                "id": { "type": "string", "maxLength": 5000 },
                "metadata": { "type": "object", "additionalProperties": { "type": "string" } },
                "object": { "type": "string", "enum": ["coupon"] },
                "percent_off": { "type": "number", "nullable": true },
                "valid": { "type": "boolean" }
            }
        } } }
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn coupons() -> &'static ListDef<Stripe> {
    stream("coupons").unwrap()
}

#[test]
fn every_kind_of_member_has_its_column_and_the_key_comes_first() {
    let columns = columns(&spec(|_| {}), coupons()).unwrap();
    let columns: Vec<_> = columns
        .iter()
        .map(|Column { name, data_type }| (name.as_str(), *data_type))
        .collect();
    let expected = [
        ("id", "String"),
        ("amount_off", "Int64"),
        ("applies_to", "Object"),
        ("created", "Timestamp(UnixSeconds)"),
        ("metadata", "Object"),
        ("object", "String"),
        ("percent_off", "Float64"),
        ("valid", "Bool"),
    ];
    assert_eq!(columns, expected);
}

#[test]
fn members_map_to_types_by_shape() {
    let cases = [
        (
            r##"{"anyOf":[{"maxLength":5000,"type":"string"},{"$ref":"#/c"}],"x-expansionResources":{"oneOf":[{"$ref":"#/c"}]}}"##,
            Ok("Reference"),
        ),
        (
            r##"{"type":"array","items":{"anyOf":[{"type":"string"},{"$ref":"#/c"}],"x-expansionResources":{}}}"##,
            Ok("Array"),
        ),
        (
            r##"{"anyOf":[{"$ref":"#/components/schemas/c"}],"nullable":true}"##,
            Ok("Object"),
        ),
        (r##"{"$ref":"#/components/schemas/c"}"##, Ok("Object")),
        (
            r##"{"anyOf":[{"type":"string"},{"$ref":"#/components/schemas/c"}]}"##,
            Ok("Json"),
        ),
        (
            r#"{"anyOf":[{"type":"string"},{"type":"string","enum":[""]}]}"#,
            Ok("String"),
        ),
        (r#"{"type":"string","format":"decimal"}"#, Ok("String")),
        (r#"{"type":"string","format":"currency"}"#, Ok("String")),
        (r#"{"type":"boolean","enum":[true]}"#, Ok("Bool")),
        (
            r#"{"type":"string","format":"date"}"#,
            Err("there is no column for the type `string` with the format `date`".to_owned()),
        ),
    ];
    for (json, expected) in cases {
        let property: Property = serde_json::from_str(json).unwrap();
        assert_eq!(data_type(&property), expected, "{json}");
    }
}

#[test]
fn members_that_no_request_expands_have_no_column() {
    let spec = spec(|spec| {
        let customer = serde_json::json!({ "x-expandableFields": ["cash_balance", "sources", "tax"], "properties": {
            "cash_balance": { "type": "object", "nullable": true },
            "created": { "type": "integer", "format": "unix-time" },
            "id": { "type": "string" },
            "object": { "type": "string", "enum": ["customer"] },
            "sources": { "type": "object" },
            "tax": { "type": "object" }
        } });
        spec["components"]["schemas"]["customer"] = customer;
        spec["paths"]["/v1/customers"] = spec["paths"]["/v1/coupons"].clone();
    });
    let customers = stream("customers").unwrap();
    let names: Vec<_> = columns(&spec, customers)
        .unwrap()
        .into_iter()
        .map(|column| column.name)
        .collect();
    assert_eq!(names, ["id", "cash_balance", "created", "object", "tax"]);
}

#[test]
fn a_table_that_the_specification_contradicts_is_refused() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 9] = [
        (
            |spec| spec["paths"] = serde_json::json!({}),
            "GET /v1/coupons does not exist",
        ),
        (
            |spec| spec["components"]["schemas"] = serde_json::json!({}),
            "there is no object `coupon`",
        ),
        (
            |spec| spec["paths"]["/v1/coupons"]["get"]["parameters"][1]["required"] = true.into(),
            "the list requires the parameter `ending_before`",
        ),
        (
            |spec| spec["paths"]["/v1/coupons"]["get"]["parameters"][0]["name"] = "date".into(),
            "the list does not take the parameter `created`",
        ),
        (
            |spec| {
                spec["components"]["schemas"]["coupon"]["x-expandableFields"] =
                    serde_json::json!([]);
            },
            "`applies_to` cannot be expanded",
        ),
        (
            |spec| {
                let coupon = &mut spec["components"]["schemas"]["coupon"];
                coupon["properties"]["sparkles"] = serde_json::json!({ "type": "object" });
                coupon["x-expandableFields"] =
                    serde_json::json!(["applies_to", "currency_options", "sparkles"]);
            },
            "it is not known whether `sparkles` comes without being asked for",
        ),
        (
            |spec| {
                let discount =
                    serde_json::json!({ "oneOf": [{ "$ref": "#/components/schemas/discount" }] });
                let coupon = &mut spec["components"]["schemas"]["coupon"];
                coupon["properties"]["discounts"] = serde_json::json!({ "type": "array", "items": { "x-expansionResources": discount } });
                coupon["x-expandableFields"] =
                    serde_json::json!(["applies_to", "currency_options", "discounts"]);
            },
            "nothing expands the discounts in `discounts`, which are in no list",
        ),
        (
            |spec| {
                spec["components"]["schemas"]["coupon"]["properties"]["object"]["enum"] =
                    serde_json::json!(["plan"]);
            },
            "the object does not call itself `coupon`",
        ),
        (
            |spec| {
                spec["components"]["schemas"]["coupon"]["properties"]["created"]["format"] =
                    serde_json::Value::Null;
            },
            "the cursor `created` is not a time",
        ),
    ];
    for (change, expected) in cases {
        let error = columns(&spec(change), coupons()).unwrap_err();
        assert_eq!(error.to_string(), format!("stream `coupons`: {expected}"));
    }
}

#[test]
fn an_edited_file_breaks_its_seal() {
    let columns = [columns(&spec(|_| {}), coupons()).unwrap()];
    let text = render(&[coupons()], &columns);
    verify_seal(&text).unwrap();
    for edited in [
        text.replace("Int64", "Float64"),
        text.replace("API version: 2", "API version: 1"),
        text.replace("Seal: ", "Seal: 0"),
    ] {
        assert_ne!(edited, text);
        verify_seal(&edited).unwrap_err();
    }
}

#[test]
fn only_what_stands_between_the_markers_changes() {
    let readme = "# a\n<!-- streams: written by `cargo xtask codegen stripe` -->\nbefore it\n<!-- end of streams -->\nb\n";
    let written = with_table(readme, |_| 8).unwrap();
    assert!(
        written.starts_with("# a\n<!--")
            && written.ends_with("-->\nb\n")
            && !written.contains("before it"),
        "{written}"
    );
    let row = "| `coupons` | `/v1/coupons` | `id` | 8 | new and changed | reported by the feed of changes |";
    assert!(written.contains(row), "{written}");
    assert_eq!(with_table(&written, |_| 8).unwrap(), written);
    with_table("# a\n", |_| 8).unwrap_err();
}
