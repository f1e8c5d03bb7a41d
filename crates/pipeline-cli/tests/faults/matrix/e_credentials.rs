//! E: tokens, keys, and where they must not be.

use crate::acts::{change, echo, header, status};
use crate::between::{Answer, Trouble};
use crate::deeds::{
    empty_secret_file, no_secret_file, readable_secret_file, restored, restored_without_secret,
    secret_file_with_newline,
};
use crate::scenario::{KEY, Scenario};
use crate::table::Reaction::{Absorb, FailRun, Reauth, Retry};
use crate::table::{Fault, fault};

const TOKENS: &str = "/oauth/tokens";

/// An account that is read with tokens of client credentials.
fn oauth() -> Scenario {
    Scenario::zendesk().members("client_id = \"sim_client\"\nclient_secret = \"${SECRET}\"")
}

/// Replaces how long a token says that it lives.
fn living(seconds: &'static str) -> Scenario {
    let token = change(move |_, answer| {
        let text = String::from_utf8(answer.body).unwrap();
        let at = text
            .find("\"expires_in\":")
            .unwrap_or_else(|| panic!("no `expires_in` in the answer for tokens"));
        let end = at + text[at..].find([',', '}']).unwrap();
        let member = if seconds.is_empty() {
            "\"other\":1".to_owned()
        } else {
            format!("\"expires_in\":{seconds}")
        };
        Answer {
            body: format!("{}{member}{}", &text[..at], &text[end..]).into_bytes(),
            ..answer
        }
    });
    oauth().always(TOKENS, token)
}

/// The faults of this group.
pub(crate) fn credentials() -> Vec<Fault> {
    let stripe = Scenario::stripe;
    let mut lives = fault(
        "E05",
        "A token lives for no time, for ages, or does not say how long",
        Absorb,
        "0",
        "nonsense is replaced by a default or a bound; tokens are renewed early",
    );
    for (case, seconds) in [
        ("nothing", ""),
        ("zero", "0"),
        ("ages", "99999999999999"),
        ("a_text", "\"7200\""),
        ("negative", "-1"),
    ] {
        lives = lives.plays(case, living(seconds).exits(0));
    }
    vec![
        fault("E01", "A token is refused while fifty requests use it", Reauth, "0", "it is renewed once, and all continue")
            .plays("once", oauth().once("/api/v2/", status(401, r#"{"error":"invalid_token"}"#)))
            .core("http::tests::oauth::e01_fifty_refused_tasks_cause_one_refresh")
            .test("connector-zendesk", "--test=it", "acceptance::auth::c05_an_expired_token_is_refreshed_once_stored_and_then_used_by_all"),
        fault(
            "E02",
            "The program ends between the use of a refresh token and its successor",
            FailRun,
            "3",
            "the new pair is on the disk before it is used",
        )
        .core("http::tests::oauth::e02_a_rotated_token_is_stored_before_its_sibling_is_used")
        .core("http::tests::oauth::e02_a_token_that_cannot_be_stored_is_not_asked_for")
        .core("http::tests::oauth::e02_a_pair_that_cannot_be_stored_is_kept_and_not_used")
        .core("http::tests::oauth::e02_processes_that_share_a_store_refresh_once"),
        fault("E03", "The refresh token is dead", FailRun, "3", "no second try; the message says \
                                                                 how to authorise again")
            .plays("invalid_grant", oauth().always(TOKENS, status(400, r#"{"error":"invalid_grant"}"#)).exits(3).at_most(6))
            .core("http::tests::oauth::e03_a_dead_refresh_token_says_what_to_do")
            .test(
                "connector-zendesk",
                "--test=it",
                "acceptance::auth::c06_a_dead_refresh_token_stops_the_run_says_what_to_do_and_keeps_the_state",
            ),
        fault("E04", "The token endpoint answers 429 or 503, or slowly", Retry, "0", "it is asked a few times, with growing pauses")
            .plays("503_once", oauth().first(TOKENS, status(503, "")))
            .plays("429_once", oauth().first(TOKENS, status(429, "")))
            .core("http::tests::oauth::e04_the_token_endpoint_is_asked_again_but_not_hammered"),
        lives
            .test(
                "connector-zendesk",
                "--test=it",
                "acceptance::auth::c07_a_token_that_does_not_say_how_long_it_lives_is_renewed_after_half_an_hour_at_most",
            )
            .core("http::tests::oauth::a_token_is_replaced_after_three_quarters_of_its_life"),
        fault(
            "E06",
            "A clock jumps by a day while a token lives",
            Absorb,
            "0",
            "the life of a token is counted on a clock that does not jump",
        )
        .plays("a_vendor_a_day_ahead", oauth().always("/", header("date", "Tue, 01 Dec 2037 12:00:00 GMT")).at_most(12))
        .plays("a_vendor_years_behind", oauth().always("/", header("date", "Tue, 01 Dec 2020 12:00:00 GMT")).at_most(12))
        .core("http::tests::oauth::a_token_is_replaced_after_three_quarters_of_its_life"),
        fault(
            "E07",
            "A secret meets logs, proxies, and errors",
            Absorb,
            "0",
            "it is in no output at any level, and requests to this machine go to no proxy",
        )
        .plays("at_the_level_trace", stripe().env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full"))
        .plays(
            "with_a_proxy",
            stripe().env("HTTP_PROXY", "http://user:password@127.0.0.1:9").env("http_proxy", "http://user:password@127.0.0.1:9"),
        )
        .core("http::tests::secrets::e07_e09_whatever_the_server_echoes")
        .core("http::tests::secrets::debug_prints_hold_no_secret")
        .core("http::tests::secrets::a9_no_form_of_a_credential_leaves_the_client")
        .test("pipeline-cli", "--test=it", "failures::no_output_holds_the_key"),
        fault(
            "E08",
            "The file of a secret is missing, empty, ends with a newline, or can be read by every \
             user; a variable is not set",
            FailRun,
            "2",
            "the message names the member and its place; the newline is cut off; a file that every \
             user can read is a warning",
        )
        .plays("a_missing_file", stripe().before(no_secret_file).repair(restored).exits(2).says("api_key").at_most(0))
        .plays("an_empty_file", stripe().before(empty_secret_file).repair(restored_without_secret).exits(2).says("api_key").at_most(0))
        .plays("a_variable_that_is_not_set", stripe().shell("unset SECRET").exits(2).says("SECRET").at_most(0))
        .plays("a_newline", stripe().before(secret_file_with_newline).repair(restored_without_secret))
        .plays("readable_by_all", stripe().before(readable_secret_file).repair(restored_without_secret).says("warning"))
        .test("pipeline-cli", "--bin=pipeline", "config::reference::tests::references_are_replaced_where_they_stand"),
        fault("E09", "The vendor repeats the credential in its error", FailRun, "4", "it is cut out by its value, in every encoding")
            .plays("raw", stripe().always("/v1/charges", echo(str::to_owned)).exits(4).unharmed(&["coupons"]))
            .plays(
                "without_the_scheme_in_base64",
                stripe().always("/v1/charges", echo(|header| base64(header.trim_start_matches("Bearer ")))).exits(4),
            )
            .plays("whole_in_base64", stripe().always("/v1/charges", echo(base64)).exits(4))
            .plays("in_hex", stripe().always("/v1/charges", echo(hex)).exits(4).hides(Box::leak(hex(KEY).into_boxed_str())))
            .plays("in_percent", stripe().always("/v1/charges", echo(|header| header.replace(' ', "%20").replace('/', "%2F"))).exits(4))
            .plays("in_the_request_id", stripe().trouble(Trouble::new("/v1/charges", crate::acts::echo_request_id())).exits(4)),
    ]
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
