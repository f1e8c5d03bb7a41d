//! B: statuses, redirects, encodings, and answers that are none.

use std::net::TcpListener;

use crate::acts::{
    edit, edit_bytes, first_page, gzip, header, instead, redirect, refusal, status, throttled,
    web_page, with_header,
};
use crate::between::{Answer, Trouble};
use crate::scenario::{Scenario, Store};
use crate::stage;
use crate::table::Reaction::{Absorb, FailStream, Reauth, Retry, Wait};
use crate::table::{Fault, fault};

const CHARGES: &str = "/v1/charges";
const COUPONS: &str = "/v1/coupons";
/// A table that is read as a whole still has its rows.
const ALL_COUPONS: (&str, &str) = ("SELECT count(*) FROM payments_coupons", "20");

/// The faults of this group.
pub(crate) fn http() -> Vec<Fault> {
    [throttling(), refusals(), redirects(), bodies()]
        .into_iter()
        .flatten()
        .collect()
}

fn throttling() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    let zendesk = || {
        Scenario::zendesk()
            .trouble(Trouble::new("/api/v2/groups", throttled(Some(("retry-after", "1")))).times(1))
    };
    let mut nonsense = fault(
        "B04",
        "`Retry-After` is 0, negative, no number, or ages",
        Wait,
        "0 or 4",
        "small nonsense is a short wait; a wait longer than `--max-wait` ends the stream at its \
         last commit, and says when to resume",
    );
    for (case, value) in [
        ("zero", "0"),
        ("negative", "-5"),
        ("no_number", "abc"),
        ("a_fraction", "0.5"),
        ("empty", ""),
    ] {
        nonsense = nonsense.plays(
            case,
            stripe().once(CHARGES, throttled(Some(("retry-after", value)))),
        );
    }
    for (case, value) in [
        ("thirty_years", "1000000000"),
        ("beyond_64_bits", "18446744073709551616"),
        ("forty_digits", "9999999999999999999999999999999999999999"),
    ] {
        let waits = stripe()
            .always(CHARGES, throttled(Some(("retry-after", value))))
            .for_at_most("3s")
            .exits(4)
            .unharmed(&["coupons"])
            .at_most(30);
        nonsense = nonsense.plays(case, waits);
    }
    vec![
        fault(
            "B01",
            "429 with `Retry-After` in seconds",
            Wait,
            "0",
            "all requests under the limit pause that long, and at most a tenth longer",
        )
        .plays("one_second", zendesk())
        .core("http::tests::faults::b01_retry_after_pauses_everybody_who_shares_the_bucket"),
        fault(
            "B02",
            "429 with `Retry-After` as a date, and the machine's clock is wrong",
            Wait,
            "0",
            "the wait is counted from the answer's own `Date`",
        )
        .plays(
            "an_hour_apart",
            stripe().once(
                CHARGES,
                with_header(
                    throttled(Some(("retry-after", "Sun, 01 Nov 2026 10:00:01 GMT"))),
                    "date",
                    "Sun, 01 Nov 2026 10:00:00 GMT",
                ),
            ),
        )
        .core("http::tests::faults::b02_a_date_counts_from_the_servers_clock_and_not_from_ours"),
        fault(
            "B03",
            "429 without any header",
            Wait,
            "0",
            "requests become slower, and faster again when they are accepted",
        )
        .plays(
            "twice",
            stripe().trouble(Trouble::new(CHARGES, throttled(None)).times(2)),
        )
        .core("http::tests::faults::b03_a_429_without_headers_slows_the_bucket_down"),
        nonsense
            .core("http::tests::faults::b04_nonsense_in_retry_after_is_bounded")
            .core("http::tests::headers::retry_after_in_every_form"),
        fault(
            "B05",
            "503 with `Retry-After`: maintenance",
            Wait,
            "0",
            "as long as was asked for; it counts as an outage",
        )
        .plays(
            "one_second",
            stripe().once(CHARGES, with_header(status(503, ""), "retry-after", "1")),
        )
        .core("http::tests::faults::b05_maintenance_waits_as_told_and_counts_as_an_outage"),
    ]
}

fn refusals() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    let mut errors = fault(
        "B06",
        "500, 502, 504, or 529",
        Retry,
        "0 or 4",
        "eight attempts with growing pauses; then the stream ends at its last commit",
    );
    for code in [500, 502, 504, 529] {
        errors = errors.plays(
            case(code),
            stripe().once(CHARGES, status(code, "")).at_least(5),
        );
    }
    let mut refused = fault(
        "B08",
        "400, 404, 405, 410, 422, and every other status that is not a success",
        FailStream,
        "4",
        "no second try; the vendor's words are shown; other streams continue",
    );
    for code in [400, 402, 404, 405, 406, 410, 411, 418, 422, 426, 451, 499] {
        let scenario = stripe()
            .always(CHARGES, refusal(code, "Not for this account."))
            .exits(4)
            .says("Not for this account.");
        refused = refused.plays(
            case(code),
            scenario.says("charges").unharmed(&["coupons"]).at_most(12),
        );
    }
    for code in [300, 600, 999] {
        refused = refused.plays(
            case(code),
            stripe()
                .always(CHARGES, status(code, ""))
                .for_at_most("4s")
                .exits(4)
                .unharmed(&["coupons"]),
        );
    }
    vec![
        errors
            .plays("for_ever", stripe().always(CHARGES, status(500, "")).for_at_most("3s").exits(4).unharmed(&["coupons"]))
            .core("http::tests::faults::b06_server_errors_are_retried_and_then_persistent"),
        fault("B07", "408, 409, or 425", Retry, "0", "the request is sent again")
            .plays("408", stripe().once(CHARGES, status(408, "")))
            .plays("409", stripe().once(CHARGES, status(409, "")))
            .plays("425", stripe().once(CHARGES, status(425, "")))
            .core("http::tests::faults::b07_timeouts_of_the_server_are_retried"),
        refused.core("http::tests::faults::b08_refusals_are_not_retried_and_say_why"),
        fault("B09", "401", Reauth, "3", "credentials that can be renewed are renewed once; a \
                                          second 401 ends the run")
            .plays("a_key", stripe().prepared().always("/", refusal(401, "Invalid API Key")).exits(3).at_most(8))
            .plays("an_api_token", Scenario::zendesk().prepared().always("/", status(401, r#"{"error":"Couldn't authenticate you"}"#)).exits(3).at_most(8))
            .core("http::tests::faults::b09_a_second_401_is_final"),
        fault("B10", "403 for one stream", FailStream, "3", "the stream is named with the vendor's \
                                                             reason; others continue")
            .plays("one_list", stripe().always(CHARGES, refusal(403, "The key lacks a \
                                                                      permission.")).exits(3).says("lacks a permission").unharmed(&["coupons"])),
        fault("B11", "413, 414, or a page that is too large", FailStream, "0 or 4", "a page that the vendor or the program cannot hold is requested with half its size where the API has one; a refusal by its status ends the stream")
            .plays("a_list_that_cannot_be_smaller", stripe().always(CHARGES, status(413, "")).for_at_most("3s").exits(4).unharmed(&["coupons"]))
            .plays("an_address_that_is_too_long", stripe().always(CHARGES, status(414, "")).for_at_most("3s").exits(4).unharmed(&["coupons"]))
            .core("declarative::page_size::tests::c32_a_size_is_halved_down_to_one_and_grows_back_ever_more_slowly")
            .test("connector-stripe", "--test=it", "cases::pages::a15_a_page_that_is_too_large_is_asked_for_in_smaller_ones")
            .test("connector-zendesk", "--test=it", "acceptance::pages::c53_pages_larger_than_a_body_may_be_are_asked_for_in_parts"),
    ]
}

fn redirects() -> Vec<Fault> {
    let mut elsewhere = fault(
        "B12",
        "A redirect to another host, port, or scheme",
        FailStream,
        "4",
        "no redirect is followed, so that no credential goes anywhere else",
    );
    for code in [301, 302, 303, 307, 308] {
        elsewhere = elsewhere.does(case(code), move || nobody_comes(code));
    }
    let stripe = Scenario::stripe;
    vec![
        elsewhere
            .core("http::tests::faults::b12_redirects_are_named_and_not_followed")
            .core("http::tests::socket::a_redirect_is_not_followed"),
        fault(
            "B13",
            "A redirect in a circle or to a private address; a next link to another host",
            FailStream,
            "4",
            "links give their cursor and no host",
        )
        .plays(
            "in_a_circle",
            stripe()
                .always(CHARGES, redirect(302, "/v1/charges"))
                .exits(4)
                .unharmed(&["coupons"])
                .at_most(12),
        )
        .plays(
            "to_the_machines_metadata",
            stripe()
                .always(CHARGES, redirect(302, "http://169.254.169.254/latest"))
                .exits(4)
                .at_most(12),
        )
        .plays(
            "a_link_elsewhere",
            Scenario::zendesk().with("groups", 250).always(
                "/api/v2/groups",
                edit(|text| text.replace("http://127.0.0.1", "http://169.254.169.254")),
            ),
        )
        .core("connector::paginate::tests::links::the_next_url_is_followed_within_the_host_only")
        .test(
            "connector-zendesk",
            "--lib",
            "tests::c02_c25_a_link_gives_its_cursor_and_no_host",
        ),
    ]
}

/// A server listens where the redirect leads, and is not asked.
fn nobody_comes(code: u16) {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("http://{}/v1/charges", elsewhere.local_addr().unwrap());
    let scenario = Scenario::stripe().always(CHARGES, redirect(code, &location));
    stage::play(
        &scenario
            .exits(4)
            .says("redirect")
            .unharmed(&["coupons"])
            .at_most(12),
    );
    assert!(elsewhere.accept().is_err(), "the redirect was followed");
}

fn bodies() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    let mut hollow = fault(
        "B14",
        "200 with an error, a web page, or nothing in the body",
        FailStream,
        "4",
        "this is never an empty list: a table that is read as a whole keeps its rows",
    );
    for (case, body) in [
        (
            "an_error",
            r#"{"error":{"type":"api_error","message":"Something went wrong."}}"#,
        ),
        ("an_empty_object", "{}"),
        ("nothing", ""),
        ("null", "null"),
        (
            "null_for_the_list",
            r#"{"object":"list","has_more":false,"url":"/v1/coupons","data":null}"#,
        ),
        (
            "an_object_for_the_list",
            r#"{"object":"list","has_more":false,"url":"/v1/coupons","data":{}}"#,
        ),
    ] {
        hollow = hollow.plays(
            case,
            stripe()
                .prepared()
                .always(COUPONS, status(200, body))
                .for_at_most("4s")
                .exits(4)
                .stores(ALL_COUPONS.0, ALL_COUPONS.1),
        );
    }
    vec![
        hollow
            .plays("a_web_page", stripe().prepared().always(COUPONS, web_page(200)).exits(4).stores(ALL_COUPONS.0, ALL_COUPONS.1))
            .core("http::tests::faults::b14_a_success_that_is_none_is_never_an_empty_page"),
        fault("B15", "204 or 304 to a list", FailStream, "4", "neither is an empty list: the \
                                                               stored rows and the position stay")
            .plays(
                "204",
                stripe().prepared().always(COUPONS, status(204, "")).for_at_most("4s").exits(4).stores(ALL_COUPONS.0, ALL_COUPONS.1),
            )
            .plays(
                "304",
                stripe().prepared().always(COUPONS, status(304, "")).for_at_most("4s").exits(4).stores(ALL_COUPONS.0, ALL_COUPONS.1),
            ),
        fault("B16", "The content type lies", Absorb, "0", "the content decides: JSON is read \
                                                            whatever it is called, and so is gzip")
            .plays("json_called_html", stripe().always(CHARGES, header("content-type", "text/html")))
            .plays("gzip_that_nobody_announced", stripe().always(CHARGES, edit_bytes(|body| gzip(&body))))
            .core("http::tests::bodies::b16_b17_the_content_decides_how_it_is_compressed"),
        fault(
            "B17",
            "gzip is announced and not sent, is sent twice, or the encoding is unknown",
            Absorb,
            "0 or 4",
            "the content decides; an unknown encoding ends the stream",
        )
        .plays("plain", stripe().always(CHARGES, header("content-encoding", "gzip")))
        .plays(
            "an_unknown_encoding",
            stripe().always(CHARGES, header("content-encoding", "snail")).for_at_most("3s").exits(4).unharmed(&["coupons"]),
        )
        .core("http::tests::bodies::b17_an_unknown_encoding_is_final"),
        fault("B18", "A small body that becomes gigabytes", FailStream, "4", "decompression stops at 64 MiB, or at the largest ratio")
            .plays(
                "200_mib_of_zeros",
                stripe()
                    .always(CHARGES, instead(Answer::json(200, bomb()).with("content-encoding", "gzip")))
                    .shell("ulimit -v 6000000")
                    .for_at_most("4s")
                    .exits(4)
                    .unharmed(&["coupons"]),
            )
            .core("http::tests::bodies::b18_a_bomb_stops_at_the_size_and_at_the_ratio"),
        fault("B19", "An export that began with 200 ends with an error", Retry, "0", "nothing of it is stored, and it is requested again")
            .plays(
                "in_its_last_line",
                Scenario::mixpanel().first_export(edit(|text| format!("{text}{{\"error\": \"terminated early\"}}\n"))),
            )
            .core("http::tests::bodies::b19_a_line_that_says_so_fails_the_attempt_and_not_more")
            .test("connector-mixpanel", "--test=export", "c07_c08_an_export_that_says_that_it_broke_off_does_not_count"),
        fault(
            "B20",
            "A cache answers with another page",
            Retry,
            "0",
            "a page that comes again in the place of another is requested again, and doubles \
             nothing",
        )
        .plays("in_sqlite", stripe().once(CHARGES, first_page()))
        .plays("in_parquet", stripe().into(Store::Parquet).once(CHARGES, first_page()))
        .plays("in_json_lines", stripe().into(Store::Jsonl).once(CHARGES, first_page()))
        .core("declarative::tests::b20_a_page_that_comes_again_in_the_place_of_another_is_asked_for_again"),
    ]
}

/// A mebibyte of gzip, roughly, that becomes 200.
fn bomb() -> Vec<u8> {
    gzip(&vec![b' '; 200 << 20])
}

/// The name of a case that is about a status.
fn case(code: u16) -> &'static str {
    Box::leak(code.to_string().into_boxed_str())
}
