//! What vendors could send that would take memory.

use std::fmt::Write as _;
use std::io::Write;

use super::server::{Answer, Asked, Part};

/// One thing that a vendor sends.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The source, as the configuration has it.
    pub(super) source: &'static str,
    /// The streams that are read; none: all.
    pub(super) streams: &'static [&'static str],
    pub(super) answer: Answer,
}

const STRIPE: &str = "connector = \"stripe\"\napi_key = \"sk_test_memory\"\nrate_share = \
                      1.0\naccount_rps = 1000000\nlist_rps = 1000000\n";
const ZENDESK: &str = "connector = \"zendesk\"\nsubdomain = \"hostile\"\nemail = \
                       \"a@b.test\"\napi_token = \"secret-of-the-bench\"\nstart_date = \
                       \"2026-01-01\"\n";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Lists that no other list hangs on.
const FLAT: &[&str] = &[
    "apple_pay_domains",
    "balance_transactions",
    "charges",
    "coupons",
    "disputes",
    "events",
    "files",
    "file_links",
    "plans",
    "payouts",
    "payment_intents",
    "prices",
    "products",
    "promotion_codes",
    "refunds",
    "reviews",
    "setup_intents",
    "shipping_rates",
    "tax_rates",
    "top_ups",
    "webhook_endpoints",
    "credit_notes",
    "tax_ids",
    "payment_links",
];

/// What is read of Zendesk.
const TICKETS: &[&str] = &["tickets"];

pub(super) fn all() -> Vec<Row> {
    let stripe = |name, streams, answer| Row {
        name,
        source: STRIPE,
        streams,
        answer,
    };
    let zendesk = |name, answer| Row {
        name,
        source: ZENDESK,
        streams: TICKETS,
        answer,
    };
    vec![
        stripe(
            "all lists, pages of 30 MB of 1 KB records, lists of records among them",
            &[],
            |asked| list(asked, 30 * MIB, KIB),
        ),
        stripe(
            "60 parents with pages of 0.1 MB for each",
            FAMILIES,
            |asked| family(asked, MIB / 10),
        ),
        stripe(
            "60 parents with pages of 1 MB for each",
            FAMILIES,
            |asked| family(asked, MIB),
        ),
        stripe(
            "60 parents with pages of 4 MB for each",
            FAMILIES,
            |asked| family(asked, 4 * MIB),
        ),
        stripe(
            "60 parents with pages of 10 MB for each",
            FAMILIES,
            |asked| family(asked, 10 * MIB),
        ),
        stripe("24 lists, one page of 1 MB", FLAT, |asked| {
            list(asked, MIB, KIB)
        }),
        stripe("24 lists, one page of 4 MB", FLAT, |asked| {
            list(asked, 4 * MIB, KIB)
        }),
        stripe("24 lists, one page of 12 MB", FLAT, |asked| {
            list(asked, 12 * MIB, KIB)
        }),
        stripe("24 lists, one page of 30 MB", FLAT, |asked| {
            list(asked, 30 * MIB, KIB)
        }),
        stripe(
            "records without a key, 9 MB a page, for 30 s",
            &["charges"],
            |asked| keyless(asked, 9 * MIB),
        ),
        stripe("one page of 59 MiB of `{\"a\":1}`", &["tax_ids"], |asked| {
            repeated(asked, "{\"a\":1}", 59 * MIB)
        }),
        stripe("one record of 10 million members", &["tax_ids"], |asked| {
            one(asked, |out| {
                (0..10_000_000).try_for_each(|_| out.write_all(b",\"a\":1"))
            })
        }),
        stripe(
            "names that no other record has, 240 pages",
            &["charges"],
            names,
        ),
        stripe("one record of 10 MB", &["tax_ids"], |asked| {
            one(asked, |out| text(out, 10 * MIB))
        }),
        stripe("one record of 40 MB", &["tax_ids"], |asked| {
            one(asked, |out| text(out, 40 * MIB))
        }),
        stripe("one record of 63 MB", &["tax_ids"], |asked| {
            one(asked, |out| text(out, 63 * MIB))
        }),
        zendesk("Zendesk exports, 1,000 records of 5 KB", |asked| {
            export(asked, 5 * KIB)
        }),
        zendesk("Zendesk exports, 1,000 records of 30 KB", |asked| {
            export(asked, 30 * KIB)
        }),
        zendesk("Zendesk exports, 1,000 records of 60 KB", |asked| {
            export(asked, 60 * KIB)
        }),
        stripe("nesting of 5 million", &["tax_ids"], |asked| {
            one(asked, |out| {
                out.write_all(b",\"a\":")?;
                out.write_all(&vec![b'['; 5_000_000])?;
                out.write_all(&vec![b']'; 5_000_000])
            })
        }),
        stripe("one record of 50,000 keys", &["tax_ids"], |asked| {
            one(asked, |out| {
                (0..50_000).try_for_each(|key| write!(out, ",\"key_{key}\":{key}"))
            })
        }),
        stripe(
            "compressed to a thousandth, without an end",
            &["tax_ids"],
            endless,
        ),
    ]
}

/// A list of records of a list, four of them for each of the parents.
const FAMILIES: &[&str] = &[
    "customer_balance_transactions",
    "payment_methods",
    "customer_cards",
    "customer_tax_ids",
];

/// What Stripe answers besides lists.
fn other(asked: &Asked) -> Option<Vec<Part>> {
    match asked.path.as_str() {
        "/v1/account" => Some(vec![Part::Text("{\"id\":\"acct_1\"}".to_owned())]),
        "/v1/events" => Some(empty()),
        _ => None,
    }
}

fn empty() -> Vec<Part> {
    vec![Part::Text(
        "{\"object\":\"list\",\"data\":[],\"has_more\":false}".to_owned(),
    )]
}

/// The only page of a list.
fn list(asked: &Asked, bytes: usize, record: usize) -> Vec<Part> {
    if let Some(other) = other(asked) {
        return other;
    }
    let inside = inside(&asked.path);
    vec![Part::Made(
        format!("list {bytes} {record} {inside}"),
        Box::new(move |out| {
            out.write_all(b"{\"object\":\"list\",\"has_more\":false,\"data\":[")?;
            for number in 0..bytes / record {
                let comma = if number == 0 { "" } else { "," };
                write!(
                    out,
                    "{comma}{{\"id\":\"id_{number:09}\",\"object\":\"thing\",\"created\":1760000000,\"amount\":{number},\"description\":\""
                )?;
                text_of(out, number, record.saturating_sub(100))?;
                out.write_all(b"\"")?;
                if !inside.is_empty() {
                    write!(
                        out,
                        ",\"{inside}\":{{\"object\":\"list\",\"has_more\":false,\"data\":[]}}"
                    )?;
                }
                out.write_all(b"}")?;
            }
            out.write_all(b"]}")
        }),
    )]
}

/// The member of a list's records in which Stripe always sends a list; empty where there is none.
fn inside(path: &str) -> &'static str {
    match path {
        "/v1/credit_notes" | "/v1/invoices" => "lines",
        "/v1/subscriptions" => "items",
        "/v1/application_fees" => "refunds",
        "/v1/transfers" => "reversals",
        "/v1/radar/value_lists" => "list_items",
        _ => "",
    }
}

/// Sixty customers, and lists of each.
fn family(asked: &Asked, bytes: usize) -> Vec<Part> {
    if asked.path == "/v1/customers" {
        list(asked, 60 * KIB, KIB)
    } else {
        list(asked, bytes, KIB)
    }
}

/// Pages of records of which only the last of each has a key.
fn keyless(asked: &Asked, bytes: usize) -> Vec<Part> {
    if let Some(other) = other(asked) {
        return other;
    }
    let page = asked
        .query
        .get("starting_after")
        .and_then(|after| after.strip_prefix("ch_")?.parse().ok())
        .unwrap_or(0_u64)
        + 1;
    vec![
        Part::Made(
            "keyless".to_owned(),
            Box::new(move |out| {
                out.write_all(b"{\"object\":\"list\",\"has_more\":true,\"data\":[")?;
                for number in 0..bytes / KIB {
                    write!(out, "{{\"created\":1760000000,\"description\":\"")?;
                    text_of(out, number, KIB - 60)?;
                    out.write_all(b"\"},")?;
                }
                Ok(())
            }),
        ),
        Part::Text(format!(
            "{{\"id\":\"ch_{page}\",\"created\":{}}}]}}",
            1_760_000_000 - page
        )),
    ]
}

/// The same record again and again.
fn repeated(asked: &Asked, record: &'static str, bytes: usize) -> Vec<Part> {
    if let Some(other) = other(asked) {
        return other;
    }
    vec![Part::Made(
        "repeated".to_owned(),
        Box::new(move |out| {
            out.write_all(b"{\"object\":\"list\",\"has_more\":false,\"data\":[")?;
            out.write_all(record.as_bytes())?;
            (1..bytes / (record.len() + 1)).try_for_each(|_| write!(out, ",{record}"))?;
            out.write_all(b"]}")
        }),
    )]
}

/// One record with members of any kind.
fn one(asked: &Asked, members: fn(&mut dyn Write) -> std::io::Result<()>) -> Vec<Part> {
    if let Some(other) = other(asked) {
        return other;
    }
    vec![Part::Made(
        "one".to_owned(),
        Box::new(move |out| {
            out.write_all(b"{\"object\":\"list\",\"has_more\":false,\"data\":[{\"id\":\"one\"")?;
            members(out)?;
            out.write_all(b"}]}")
        }),
    )]
}

/// A member with a long text.
fn text(out: &mut dyn Write, bytes: usize) -> std::io::Result<()> {
    out.write_all(b",\"description\":\"")?;
    text_of(out, 0, bytes)?;
    out.write_all(b"\"")
}

fn text_of(out: &mut dyn Write, seed: usize, bytes: usize) -> std::io::Result<()> {
    let word = format!("text {seed:07} of a record. ");
    let mut left = bytes;
    while left > 0 {
        let part = left.min(word.len());
        out.write_all(&word.as_bytes()[..part])?;
        left -= part;
    }
    Ok(())
}

/// Pages of a hundred records, each with a hundred names of its own.
fn names(asked: &Asked) -> Vec<Part> {
    if let Some(other) = other(asked) {
        return other;
    }
    let page = asked
        .query
        .get("starting_after")
        .and_then(|after| after.strip_prefix("ch_")?.parse().ok())
        .unwrap_or(0_u64)
        / 100;
    let mut text = format!(
        "{{\"object\":\"list\",\"has_more\":{},\"data\":[",
        page < 240
    );
    for number in page * 100 + 1..=page * 100 + 100 {
        let comma = if number % 100 == 1 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{{\"id\":\"ch_{number}\",\"created\":{}",
            1_760_000_000 - number
        );
        for name in 0..100 {
            let _ = write!(text, ",\"name_{number}_{name}\":1");
        }
        text.push('}');
    }
    text.push_str("]}");
    vec![Part::Text(text)]
}

/// A page of the export of tickets.
fn export(asked: &Asked, record: usize) -> Vec<Part> {
    if !asked.path.starts_with("/api/v2/incremental/tickets/cursor") {
        // No custom fields, and nothing else either.
        let name = asked
            .path
            .trim_start_matches("/api/v2/")
            .trim_end_matches(".json");
        return vec![Part::Text(format!(
            "{{\"{name}\":[],\"meta\":{{\"has_more\":false}}}}"
        ))];
    }
    let page: usize = asked
        .query
        .get("cursor")
        .and_then(|cursor| cursor.parse().ok())
        .unwrap_or(0);
    let tail = format!(
        "],\"after_cursor\":\"{}\",\"end_of_stream\":{}}}",
        page + 1,
        page >= 2
    );
    vec![
        Part::Made(
            format!("export {page}"),
            Box::new(move |out| {
                out.write_all(b"{\"tickets\":[")?;
                for number in 0..1_000 {
                    let comma = if number == 0 { "" } else { "," };
                    let id = page * 1_000 + number;
                    write!(
                        out,
                        "{comma}{{\"id\":{},\"generated_timestamp\":1767300000,\"description\":\"",
                        id + 1
                    )?;
                    text_of(out, number, record)?;
                    out.write_all(b"\"}")?;
                }
                Ok(())
            }),
        ),
        Part::Text(tail),
    ]
}

/// Zeros without an end.
fn endless(asked: &Asked) -> Vec<Part> {
    if let Some(other) = other(asked) {
        return other;
    }
    let zeros = vec![0_u8; 16 * MIB];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let member = encoder
        .write_all(&zeros)
        .and_then(|()| encoder.finish())
        .unwrap_or_default();
    vec![Part::Endless(member)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;

    fn sent(path: &str) -> String {
        let asked = Asked {
            path: path.to_owned(),
            query: HashMap::new(),
        };
        let mut out = Vec::new();
        for part in list(&asked, 4 * KIB, KIB) {
            match part {
                Part::Text(text) => out.extend(text.into_bytes()),
                Part::Made(_, make) => make(&mut out).unwrap(),
                Part::Endless(_) => panic!("a list has an end"),
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_have_the_lists_that_stripe_documents_inside_them() {
        let lists = |path: &str, member: &str| {
            let body: serde_json::Value = serde_json::from_str(&sent(path)).unwrap();
            body["data"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|record| record[member]["object"] == "list")
                .count()
        };
        assert_eq!(
            [
                lists("/v1/credit_notes", "lines"),
                lists("/v1/subscriptions", "items"),
                lists("/v1/charges", "lines")
            ],
            [4, 4, 0]
        );
    }
}
