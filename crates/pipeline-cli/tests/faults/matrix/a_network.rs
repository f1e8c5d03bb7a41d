//! A: names, connections, TLS, and heads of answers.

use std::time::Duration;

use crate::acts::{
    answer_and_close, bytes, close, half_a_body, half_a_chunked_body, reset, reset_after_head,
    silence, status, trickle, web_page,
};
use crate::between::Then;
use crate::deeds::{address_without_listener, localhost, restored, unknown_host};
use crate::scenario::Scenario;
use crate::table::Reaction::{Absorb, FailRun, FailStream, Retry};
use crate::table::{Fault, fault};
use crate::tls;

const CHARGES: &str = "/v1/charges";

/// The faults of this group.
pub(crate) fn network() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    vec![
        fault(
            "A01",
            "The vendor's name has no address",
            Retry,
            "4",
            "the message names the host, and the next run resumes",
        )
        .plays(
            "an_unknown_host_is_named",
            stripe()
                .before(unknown_host)
                .repair(restored)
                .args(&["check"])
                .exits(4)
                .says("vendor.invalid"),
        )
        .core("http::tests::socket::a01_a_name_without_an_address_is_named")
        .test(
            "pipeline-cli",
            "--test=it",
            "check::d1_check_ends_within_seconds_where_there_is_no_way_to_the_vendor",
        ),
        fault(
            "A02",
            "The connection is refused",
            Retry,
            "4",
            "after ten failures in a row a host is left alone, and then tried with one request",
        )
        .plays(
            "a_refused_connection_is_named",
            stripe()
                .before(address_without_listener)
                .repair(restored)
                .args(&["check"])
                .exits(4)
                .says("127.0.0.1"),
        )
        .core("http::tests::socket::nobody_listens")
        .core("http::tests::breaker::opens_after_ten_failures_in_a_row_and_doubles_its_pause")
        .core("http::tests::breaker::lets_one_probe_through_and_closes_when_it_is_answered"),
        fault(
            "A03",
            "The connection is reset before, after, or in the middle of the head and body",
            Retry,
            "0",
            "the same page is requested again, and nothing of the broken one is stored",
        )
        .plays("before_any_byte", stripe().once(CHARGES, reset()))
        .plays("after_the_head", stripe().once(CHARGES, reset_after_head()))
        .plays(
            "in_the_body",
            stripe().once(CHARGES, half_a_body(Then::Reset)),
        )
        .plays(
            "in_an_export",
            Scenario::mixpanel().first_export(half_a_body(Then::Reset)),
        )
        .core("http::tests::faults::a03_a07_a_connection_that_breaks_gives_no_part_of_a_page"),
        fault(
            "A04",
            "The vendor accepts the connection and is silent",
            Retry,
            "0 or 4",
            "the wait for a connection ends after 10 s, the wait for an answer after 60 s; other \
             streams continue",
        )
        .plays(
            "one_silent_list_holds_up_no_other",
            stripe()
                .always(CHARGES, silence())
                .for_at_most("2s")
                .exits(4)
                .unharmed(&["coupons"]),
        )
        .core("http::tests::faults::a04_a05_silence_is_ended_and_retried"),
        fault(
            "A05",
            "The head of the answer never ends",
            Retry,
            "0 or 4",
            "the wait ends after 60 s without a byte, and the request is sent again",
        )
        .plays(
            "half_a_head_holds_up_no_other_list",
            stripe()
                .always(CHARGES, half_a_head())
                .for_at_most("2s")
                .exits(4)
                .unharmed(&["coupons"]),
        )
        .core("http::tests::faults::a04_a05_silence_is_ended_and_retried"),
        fault(
            "A06",
            "The body comes a byte at a time",
            Retry,
            "0 or 4",
            "a body that brings too little in a minute is given up, and requested again",
        )
        .plays(
            "a_trickle_holds_up_no_other_list",
            stripe()
                .always(CHARGES, trickle(Duration::from_millis(100)))
                .for_at_most("2s")
                .exits(4)
                .unharmed(&["coupons"]),
        )
        .core("http::tests::faults::a06_a_body_that_trickles_is_ended"),
        fault(
            "A07",
            "The body ends before its announced length, or before its last chunk",
            Retry,
            "0",
            "a short body is never taken for a short page",
        )
        .plays(
            "before_its_length",
            stripe().once(CHARGES, half_a_body(Then::Close)),
        )
        .plays(
            "before_the_last_chunk",
            stripe().once(CHARGES, half_a_chunked_body()),
        )
        .plays(
            "in_an_export",
            Scenario::mixpanel().first_export(half_a_chunked_body()),
        ),
        fault(
            "A08",
            "The vendor closes connections that were to be kept",
            Absorb,
            "0",
            "a new connection is made",
        )
        .plays(
            "after_every_answer",
            stripe().always("/", answer_and_close()).at_most(12),
        )
        .plays("without_an_answer", stripe().once(CHARGES, close())),
        fault(
            "A09",
            "HTTP/2: the vendor ends the connection, refuses a stream, or allows fewer at once",
            Retry,
            "0",
            "what was not processed is requested again on a new connection",
        )
        .does("go_away", || tls::http2(tls::Ending::GoAway))
        .does("refused_stream", || tls::http2(tls::Ending::RefusedStream))
        .does("one_stream_at_a_time", || {
            tls::http2(tls::Ending::OneAtATime);
        }),
        fault(
            "A10",
            "The certificate is self-signed, expired, or of another host",
            FailRun,
            "4",
            "the run ends at once; nothing is sent, and the check cannot be switched off",
        )
        .does("self_signed", || tls::refused(tls::Certificate::SelfSigned))
        .does("expired", || tls::refused(tls::Certificate::Expired))
        .does("of_another_host", || {
            tls::refused(tls::Certificate::OtherHost);
        })
        .test(
            "pipeline-cli",
            "--test=it",
            "tls::a8_what_is_wrong_with_tls_is_final_at_once_and_has_words_of_its_own",
        )
        .core("http::tests::faults::a10_a_refused_certificate_is_final"),
        fault(
            "A11",
            "A proxy or captive portal answers instead of the vendor",
            FailRun,
            "4 or 2",
            "a web page is recognised by its content (4); 407 names the proxy and where its \
             credentials go (2)",
        )
        .plays(
            "a_web_page_with_200",
            stripe()
                .prepared()
                .always("/", web_page(200))
                .exits(4)
                .says("captive portal")
                .at_most(12),
        )
        .plays(
            "a_407",
            stripe()
                .prepared()
                .always("/", status(407, ""))
                .exits(2)
                .says("proxy")
                .at_most(12),
        ),
        fault(
            "A12",
            "The head of the answer has 1 MiB, or 10 000 headers",
            FailStream,
            "4",
            "the answer is given up; other streams continue",
        )
        .plays(
            "a_header_of_1_mib",
            stripe()
                .always(CHARGES, bytes(head_of(1, 1 << 20)))
                .for_at_most("3s")
                .exits(4)
                .unharmed(&["coupons"]),
        )
        .plays(
            "ten_thousand_headers",
            stripe()
                .always(CHARGES, bytes(head_of(10_000, 20)))
                .for_at_most("3s")
                .exits(4)
                .unharmed(&["coupons"]),
        )
        .core("http::tests::socket::a12_headers_that_are_too_many_or_too_large_are_a_clear_error"),
        fault(
            "A13",
            "The name has addresses of both kinds, and only IPv4 answers",
            Absorb,
            "0",
            "the address that answers is used",
        )
        .plays(
            "localhost_that_listens_on_ipv4_only",
            stripe().before(localhost).repair(restored),
        ),
        fault(
            "A14",
            "The network is away for a while",
            Retry,
            "0",
            "the run continues by itself, from the page that it was at",
        )
        .plays(
            "three_resets_in_a_row",
            stripe()
                .trouble(
                    crate::between::Trouble::new(CHARGES, reset())
                        .after(1)
                        .times(3),
                )
                .at_least(7),
        )
        .core("http::tests::faults::a14_an_outage_of_half_a_minute_is_waited_out"),
    ]
}

fn half_a_head() -> crate::between::Act {
    crate::acts::bytes_then("HTTP/1.1 200 OK\r\ncontent-type: appl", Then::Silence)
}

/// An answer with this number of headers of this number of bytes.
fn head_of(headers: usize, length: usize) -> String {
    let lines: Vec<String> = (0..headers)
        .map(|number| format!("x-{number}: {}\r\n", "a".repeat(length)))
        .collect();
    let lines = lines.concat();
    format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\n{{}}")
}
