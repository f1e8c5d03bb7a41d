//! D: what is in the records.

use crate::acts::{edit, edit_bytes, first_member, rename_all, set_first};
use crate::between::Trouble;
use crate::scenario::{Scenario, Store};
use crate::table::Reaction::{Absorb, FailStream, Quarantine, Retry};
use crate::table::{Fault, fault};

const CHARGES: &str = "/v1/charges";
const ROWS: &str = "SELECT count(*) FROM payments_charges";

/// The faults of this group.
pub(crate) fn content() -> Vec<Fault> {
    [texts(), sizes(), shapes()].into_iter().flatten().collect()
}

/// A page of which one record is odd. The next refresh stores it as it is.
fn odd(name: &'static str, value: impl Into<String>) -> Scenario {
    Scenario::stripe()
        .once(CHARGES, set_first(name, value))
        .refreshed()
}

/// Damages the text of a page.
type Damage = fn(&str) -> String;

fn texts() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    let mut broken = fault(
        "D01",
        "A page is not JSON: it is cut, has a comma too many, or something after its end",
        Retry,
        "0 or 4",
        "the page is refused as a whole and requested again; then the stream ends at its last \
         commit",
    );
    let damages: [(&str, Damage); 5] = [
        ("cut", |text| format!("{}}}", &text[..text.len() / 2])),
        ("a_comma_too_many", |text| {
            text.replacen("\"currency\"", ",\"currency\"", 1)
        }),
        ("garbage_inside", |text| {
            text.replacen("\"currency\":", "\"currency\" # ", 1)
        }),
        ("garbage_after_its_end", |text| {
            format!("{text}<!-- cached -->")
        }),
        ("nan", |text| first_member("amount", "NaN", text)),
    ];
    for (case, damage) in damages {
        broken = broken.plays(case, stripe().once(CHARGES, edit(damage)).at_least(5));
    }
    vec![
        broken
            .plays(
                "for_ever",
                stripe()
                    .trouble(
                        Trouble::new(
                            CHARGES,
                            edit(|text| text.replace("\"currency\":", "\"currency\" # ")),
                        )
                        .after(1),
                    )
                    .for_at_most("4s")
                    .exits(4)
                    .unharmed(&["coupons"]),
            )
            .core("declarative::tests::d01_a_page_that_is_damaged_on_the_way_is_asked_for_again"),
        fault(
            "D02",
            "A text is not UTF-8",
            Absorb,
            "0",
            "each broken character becomes U+FFFD, and is counted; the page is read on",
        )
        .plays(
            "in_a_value",
            stripe()
                .once(CHARGES, edit_bytes(not_utf8))
                .refreshed()
                .stores(ROWS, "250")
                .says("character"),
        )
        .plays(
            "in_an_export",
            Scenario::mixpanel()
                .first_export(edit_bytes(not_utf8_line))
                .exits_with_any(&[0, 4])
                .refreshed(),
        )
        .test(
            "connector-mixpanel",
            "--test=export",
            "c12_a_property_cut_within_a_character_is_kept_and_counted",
        ),
        fault(
            "D03",
            "Half a character, or NUL, in a text",
            Absorb,
            "0",
            "half a character becomes U+FFFD and is counted; NUL is kept",
        )
        .plays(
            "half_a_character",
            odd("description", r#""cut \ud83d here""#).stores(
                "SELECT count(*) FROM payments_charges WHERE description = 'cut ' || char(65533) \
                 || ' here'",
                "1",
            ),
        )
        .plays(
            "nul",
            odd("description", r#""a\u0000b""#).stores(ROWS, "250"),
        )
        .plays(
            "nul_into_parquet",
            odd("description", r#""a\u0000b""#).into(Store::Parquet),
        )
        .plays(
            "half_a_character_in_a_name",
            stripe()
                .once(
                    CHARGES,
                    edit(|text| text.replacen("\"data\"", "\"\\ud800\": 1, \"data\"", 1)),
                )
                .exits_with_any(&[0, 4]),
        )
        .test(
            "pipeline-cli",
            "--test=it",
            "refusals::half_characters_are_replaced_and_counted",
        ),
        fault(
            "D04",
            "An object has a member twice",
            Absorb,
            "0",
            "the last one counts, everywhere",
        )
        .plays(
            "in_a_record",
            stripe()
                .once(
                    CHARGES,
                    edit(|text| {
                        text.replacen("\"currency\":", "\"currency\": \"aaa\", \"currency\":", 1)
                    }),
                )
                .refreshed()
                .stores(
                    "SELECT count(*) FROM payments_charges WHERE currency = 'aaa'",
                    "0",
                ),
        ),
        fault(
            "D05",
            "Values are nested 200 000 deep",
            FailStream,
            "0 or 4",
            "the stack does not overflow",
        )
        .plays(
            "in_a_member",
            odd(
                "metadata",
                format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)),
            )
            .exits_with_any(&[0, 4]),
        )
        .plays(
            "without_an_end",
            stripe().once(
                CHARGES,
                edit(|text| first_member("metadata", &"[".repeat(200_000), text)),
            ),
        )
        .core("json::scan::tests::no_depth_exhausts_the_stack"),
        fault(
            "D06",
            "A number does not fit its column",
            Absorb,
            "0",
            "it is kept with all its digits in `_extra`, and counted",
        )
        .plays(
            "beyond_64_bits",
            odd("amount", "123456789012345678901234567890123456789").stores(
                "SELECT count(*) FROM payments_charges WHERE _extra LIKE \
                 '%123456789012345678901234567890123456789%'",
                "1",
            ),
        )
        .plays(
            "an_exponent",
            odd("amount", "1e400").stores(
                "SELECT count(*) FROM payments_charges WHERE _extra LIKE '%1e400%'",
                "1",
            ),
        )
        .plays(
            "a_fraction",
            odd("amount", "0.1").stores(
                "SELECT count(*) FROM payments_charges WHERE _extra LIKE '%0.1%'",
                "1",
            ),
        )
        .engine("decode::tests::values_that_fit_are_exact_and_values_that_do_not_are_kept"),
    ]
}

fn sizes() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    vec![
        fault(
            "D07",
            "A record or a page is very large",
            FailStream,
            "0 or 4",
            "a record of megabytes is a row; a page over 64 MiB ends its stream",
        )
        .plays(
            "a_record_of_8_mib",
            odd("description", format!("\"{}\"", "x".repeat(8 << 20))).stores(
                "SELECT max(length(description)) FROM payments_charges",
                "8388608",
            ),
        )
        .plays(
            "a_page_of_70_mib",
            stripe()
                .always(
                    CHARGES,
                    edit(|text| {
                        first_member(
                            "description",
                            &format!("\"{}\"", "x".repeat(70 << 20)),
                            text,
                        )
                    }),
                )
                .for_at_most("4s")
                .exits(4)
                .unharmed(&["coupons"]),
        )
        .core("http::tests::bodies::a_line_has_a_longest_length"),
        fault(
            "D08",
            "An object has 50 000 members",
            Absorb,
            "0",
            "members without a column stay in one JSON column",
        )
        .plays(
            "in_a_record",
            odd("metadata", many_members()).stores(
                "SELECT count(*) FROM payments_charges WHERE length(metadata) > 1000000",
                "1",
            ),
        )
        .engine("decode::tests::objects_used_as_maps_do_not_fill_the_memory"),
    ]
}

fn shapes() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    let extra = "SELECT count(*) FROM payments_charges WHERE _extra IS NOT NULL";
    vec![
        fault("D09", "A member is new, gone, or of another type", Absorb, "0", "what has no column, or does not fit it, is kept in `_extra`; both are named in the summary")
            .plays("renamed", stripe().once(CHARGES, rename_all("currency", "currency_code")).refreshed().stores("SELECT count(*) FROM payments_charges WHERE json_extract(_extra, '$.currency_code') IS NOT NULL", "100").says("currency_code"))
            .plays("an_object_for_a_number", odd("amount", r#"{"value": 1}"#).stores(extra, "1"))
            .plays("a_number_for_an_object", odd("billing_details", "7").exits(0).stores(ROWS, "250"))
            .test("connector-stripe", "--test=it", "cases::members::c46_a_value_of_another_type_is_kept_and_counted"),
        fault("D10", "A record has no id, or no time", Quarantine, "0", "it is kept in `_rejected` with the reason; the others are rows")
            .plays("null_for_an_id", odd("id", "null").stores(ROWS, "249").stores("SELECT count(*) FROM payments__rejected", "1"))
            .plays("a_number_for_an_id", odd("id", "7").stores(ROWS, "249").stores("SELECT count(*) FROM payments__rejected", "1"))
            .engine("decode::tests::what_is_not_a_record_is_rejected_with_the_reason"),
        fault("D11", "Names differ in case only, are empty, long, reserved, or of any \
                      script", Absorb, "0", "columns have declared names; other names stay inside \
                                             JSON, as they are")
            .plays("members_of_any_name", odd("metadata", r#"{"": 1, "ID": 2, "id": 3, "select": 4, "a.b": 5, "a": {"b": 6}, "😀": 7, "\"": 8}"#).stores("SELECT json_extract(metadata, '$.id') + json_extract(metadata, '$.ID') FROM payments_charges WHERE metadata LIKE '%select%'", "5"))
            .test("destination-sqlite", "--test=it", "strange_names_stay_apart")
            .test("connector-mixpanel", "--lib", "flatten::tests::c51_names_depend_on_the_property_alone"),
        fault("D12", "Texts are formulas, SQL, paths, or format strings", Absorb, "0", "they are stored as they are, and mean nothing")
            .plays("in_a_value", odd("description", r#""=cmd|'/C calc'!A0'); DROP TABLE payments_charges;-- %s%n ../../etc/passwd""#).stores("SELECT count(*) FROM payments_charges WHERE description = '=cmd|''/C calc''!A0''); DROP TABLE payments_charges;-- %s%n ../../etc/passwd'", "1")),
        fault("D13", "A byte order mark, CRLF, blank lines, or no newline at the end", Absorb, "0", "all of them are accepted")
            .plays("in_an_export", Scenario::mixpanel().first_export(edit(|text| format!("\u{feff}{}", text.trim_end().replace('\n', "\r\n\r\n")))).exits_with_any(&[0]))
            .plays("before_a_page", stripe().once(CHARGES, edit(|text| format!("\u{feff}{text}"))))
            .test("connector-mixpanel", "--test=export", "c03_c05_lines_end_at_line_feeds_only"),
        fault("D14", "A time is out of range, or a leap second", Absorb, "0", "a column of a time that cannot be is null, and the value is kept in `_extra`")
            .plays("beyond_the_calendar", odd("created", "99999999999999").exits(0).stores(ROWS, "250"))
            .plays("a_leap_second", Scenario::zendesk().first("/api/v2/groups", set_first("created_at", "\"2016-12-31T23:59:60Z\"")).refreshed())
            .plays("no_time_at_all", Scenario::zendesk().first("/api/v2/groups", set_first("created_at", "\"0000-00-00T00:00:00Z\"")).refreshed())
            .core("tests::slice::instants_are_read_in_their_format_only"),
    ]
}

/// The first value of a text becomes one that is not UTF-8.
fn not_utf8(body: Vec<u8>) -> Vec<u8> {
    replaced(body, b"\"currency\": \"", b"\"currency\": \"\xff")
}

fn not_utf8_line(body: Vec<u8>) -> Vec<u8> {
    replaced(body, b"\"distinct_id\":\"", b"\"distinct_id\":\"\xff")
}

fn replaced(body: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = body.windows(from.len()).position(|window| window == from);
    let at = at.unwrap_or_else(|| {
        panic!(
            "there is no {} in {}",
            String::from_utf8_lossy(from),
            String::from_utf8_lossy(&body)
        )
    });
    [&body[..at], to, &body[at + from.len()..]].concat()
}

fn many_members() -> String {
    let members: Vec<String> = (0..50_000)
        .map(|number| format!("\"a_member_{number}\": {number}"))
        .collect();
    format!("{{{}}}", members.join(", "))
}
