//! C: cursors, pages, limits, and time, as vendors document them and do not.

use crate::acts::{
    cursor_cycle, cursor_of_request, empty_page, ever_new_cursor, header, limited_to, rename_all,
    reversed, set_all, set_first, throttled, with_header,
};
use crate::between::Trouble;
use crate::runs::{a_clock_that_is_ahead, a_clock_that_is_far_behind};
use crate::scenario::{Scenario, Store};
use crate::table::Reaction::{Absorb, FailStream, Wait};
use crate::table::{Fault, fault, not_applicable};

const CHARGES: &str = "/v1/charges";
const GROUPS: &str = "/api/v2/groups";

/// The faults of this group.
pub(crate) fn semantics() -> Vec<Fault> {
    [cursors(), changes(), shapes(), limits()]
        .into_iter()
        .flatten()
        .collect()
}

/// A list of three pages that continues by cursors.
fn groups() -> Scenario {
    Scenario::zendesk().with("groups", 250)
}

fn cursors() -> Vec<Fault> {
    vec![
        fault("C01", "The next cursor is the one just used", FailStream, "4", "the stream ends at once; it does not read for ever")
            .plays("the_same_cursor", groups().always(GROUPS, cursor_of_request()).exits(4).unharmed(&["tickets"])),
        fault("C02", "Cursors go round in a circle", FailStream, "4", "the circle is noticed, and \
                                                                       the stream ends")
            .plays("a_circle_of_two", groups().always(GROUPS, cursor_cycle()).exits(4).unharmed(&["tickets"])),
        fault("C03", "The same page comes under ever new cursors", FailStream, "4", "the page is requested again, and the stream ends before it; no row is doubled or lost")
            .plays("in_sqlite", groups().always(GROUPS, ever_new_cursor()).exits(4).unharmed(&["tickets"]))
            .plays("in_json_lines", groups().into(Store::Jsonl).always(GROUPS, ever_new_cursor()).exits(4).unharmed(&["tickets"]))
            .core("declarative::tests::c03_the_same_page_under_ever_new_cursors_ends")
            .core("declarative::tests::b20_a_page_that_stays_an_earlier_one_is_never_believed")
            .test("connector-zendesk", "--test=it", "acceptance::repeated::b20_a_list_that_goes_on_by_cursors_is_not_read_past_a_page_that_came_before"),
        fault("C04", "A page says that more follow, and is empty", Absorb, "0 or 4", "where the page has a cursor, the next one is read; where the cursor is a record, or the empty pages do not end, the stream ends")
            .plays("one_page_without_records", groups().once(GROUPS, empty_page("groups")).exits_with_any(&[0, 4]))
            .plays("a_cursor_that_is_a_record", Scenario::stripe().once(CHARGES, empty_page("data")).exits_with_any(&[0, 4])),
        fault("C05", "A page says that it is the last, and has a link to the next", Absorb, "0", "the documented sign counts")
            .plays("has_more_is_false", groups().prepared().first(GROUPS, set_first("has_more", "false")).exits_with_any(&[0, 4]))
            .test("connector-zendesk", "--test=it", "acceptance::pages::c23_c25_only_the_flag_tells_that_there_is_more_and_cursors_are_encoded_once"),
    ]
}

fn changes() -> Vec<Fault> {
    vec![
        fault(
            "C06",
            "Records are made or deleted while pages are read",
            Absorb,
            "0",
            "cursors stay where they are; a record that was deleted is stepped over",
        )
        .core("connector::paginate::tests::a_deleted_id_is_recovered_from_by_the_one_before_it")
        .core("connector::paginate::tests::counted::a_counted_list_recovers_as_the_other_one_does")
        .test(
            "connector-zendesk",
            "--test=it",
            "acceptance::changes::c17_the_second_at_the_border_of_pages_is_written_once",
        ),
        fault(
            "C07",
            "A record is updated while the list is read",
            Absorb,
            "0",
            "the newest version is the one that is stored",
        )
        .test(
            "connector-stripe",
            "--test=it",
            "acceptance::whole::c51_an_account_that_changes_while_it_is_read_is_stored_as_it_is",
        ),
        fault(
            "C08",
            "More records share a second than fit on a page",
            Absorb,
            "0",
            "they are read page by page",
        )
        .plays(
            "250_charges_in_a_second",
            Scenario::stripe().with("burst", 1_000),
        )
        .engine("tests::one_second_with_many_records_is_read_page_by_page"),
        fault(
            "C09",
            "A record with an old time appears late",
            Absorb,
            "0",
            "the last minutes, hours, or days are read again, and nothing is stored twice",
        )
        .core("tests::slice::plans::a_resumed_plan_reads_again_what_late_records_may_have_joined")
        .test(
            "connector-stripe",
            "--test=it",
            "acceptance::events::c29_an_event_that_shows_late_is_found_and_no_event_is_followed_twice",
        ),
        fault(
            "C10",
            "A page is not in the documented order",
            Absorb,
            "0 or 4",
            "the position is never beyond what is unread",
        )
        .plays(
            "a_page_in_reverse",
            Scenario::stripe()
                .once(CHARGES, reversed())
                .exits_with_any(&[0, 4]),
        ),
        fault(
            "C11",
            "The vendor's clock is ahead or behind",
            Absorb,
            "0 or 4",
            "a position never passes the earlier of the two clocks",
        )
        .does("a_day_ahead", || {
            a_clock_that_is_ahead("Mon, 30 Aug 2027 00:00:00 GMT");
        })
        .does("days_behind", a_clock_that_is_far_behind)
        .does("in_the_year_9999", || {
            a_clock_that_is_ahead("Fri, 31 Dec 9999 23:59:59 GMT");
        })
        .test(
            "connector-stripe",
            "--test=it",
            "acceptance::clocks::a3_c11_nothing_of_stripes_is_lost_to_a_clock_that_was_wrong_once",
        )
        .test(
            "connector-stripe",
            "--test=it",
            "acceptance::clocks::a3_c11_a_difference_of_minutes_is_a_notice",
        ),
        fault(
            "C12",
            "The cursor has expired",
            Absorb,
            "0",
            "that part of the list is read again, and nothing is doubled",
        )
        .engine("tests::a_lost_position_restarts_the_rest_of_the_slice")
        .test(
            "connector-mixpanel",
            "--test=account",
            "c46_a_scan_whose_session_expired_begins_again",
        )
        .test(
            "connector-zendesk",
            "--test=it",
            "acceptance::changes::c16_a_refused_cursor_gives_way_to_its_second_and_loses_nothing",
        ),
    ]
}

fn shapes() -> Vec<Fault> {
    vec![
        fault("C13", "The vendor sends smaller pages than were requested", Absorb, "0", "a short page is not taken for the last")
            .plays("pages_of_seven", Scenario::stripe().always(CHARGES, limited_to("limit=100", "limit=7")).at_least(36)),
        fault(
            "C14",
            "The total changes from page to page",
            Absorb,
            "0",
            "it is information, except where it shows that a list ended short",
        )
        .core("connector::paginate::tests::counted::a_list_that_brings_what_is_counted_at_its_end_is_whole")
        .test("connector-mixpanel", "--lib", "tests::pages::a_scan_ends_when_the_page_and_the_total_agree"),
        fault(
            "C15",
            "The vendor returns no more than a fixed number of results",
            FailStream,
            "0 or 4",
            "a window is split and read in parts; a second that cannot be split is named",
        )
        .test("connector-mixpanel", "--test=export", "c25_a_day_that_times_out_is_read_in_quarters")
        .test("connector-zendesk", "--test=it", "acceptance::changes::c18_a_second_that_no_page_holds_ends_the_stream_and_is_named"),
        fault(
            "C16",
            "Records are deleted, and made again under the same id",
            Absorb,
            "0",
            "a deletion is a tombstone, and a record that is back is a row again",
        )
        .test("connector-stripe", "--test=it", "acceptance::events::objects::c19_a_deleted_customer_is_a_tombstone_that_nulls_nothing")
        .test(
            "connector-stripe",
            "--test=it",
            "acceptance::events::objects::c21_a_coupon_deleted_and_made_again_is_what_stripe_says_that_it_is",
        ),
        fault(
            "C17",
            "Ids change their type or their name",
            FailStream,
            "4",
            "records without a usable id are set aside, and a list of which too many are does not \
             replace its table",
        )
        .plays(
            "ids_are_numbers",
            Scenario::stripe()
                .prepared()
                .always("/v1/coupons", set_all("id", "7"))
                .args(&["sync", "--full-refresh"])
                .exits(4)
                .stores("SELECT count(*) FROM payments_coupons", "20"),
        )
        .plays(
            "ids_are_renamed",
            Scenario::stripe()
                .prepared()
                .always("/v1/coupons", rename_all("id", "uid"))
                .args(&["sync", "--full-refresh"])
                .exits(4)
                .stores("SELECT count(*) FROM payments_coupons", "20"),
        )
        .engine("tests::budget::a5_a_list_whose_records_are_all_rejected_does_not_replace_its_table"),
        fault(
            "C18",
            "The vendor answers in another version than was requested",
            Absorb,
            "0",
            "what a record has more is kept in `_extra`, and what it has less is null; the run \
             continues",
        )
        .plays("an_older_version", Scenario::stripe().always("/v1/", header("stripe-version", "2019-01-01"))),
    ]
}

fn limits() -> Vec<Fault> {
    vec![
        fault("C19", "A quota of an hour or a day is used up", FailStream, "4", "the run commits, ends, and says when to resume")
            .plays(
                "an_hour_longer_than_the_run_may_wait",
                Scenario::stripe()
                    .trouble(Trouble::new(CHARGES, throttled(Some(("retry-after", "3600")))).after(1))
                    .exits(4)
                    .unharmed(&["coupons"])
                    .at_most(12),
            )
            .core("http::tests::limits::c19_a_quota_that_is_spent_for_long_stops_the_run"),
        fault("C20", "429 although the rate is low: too many at once", Wait, "0", "fewer requests are sent at the same time")
            .core("http::tests::limits::concurrency::c20_too_many_at_once_cuts_the_concurrency")
            .core("rate_limit::adaptive::tests::too_many_at_once_are_cut_remembered_and_gone_beyond_slowly"),
        fault("C21", "The limit becomes half, and then double", Wait, "0", "the new limit is found, and used")
            .core("rate_limit::adaptive::tests::more_permits_are_found_and_fewer_are_kept_to")
            .core("rate_limit::adaptive::tests::what_was_accepted_between_two_refusals_is_the_limit"),
        fault("C22", "Headers say that requests are left, and yet 429", Wait, "0", "the refusal counts")
            .plays(
                "remaining_999",
                Scenario::stripe().trouble(Trouble::new(CHARGES, with_header(throttled(None), "ratelimit-remaining", "999")).times(2)),
            )
            .core("http::tests::limits::reported::a_lower_limit_in_the_headers_is_adopted_and_a_higher_one_is_not"),
        not_applicable("C23", "An export job never ends, fails, or its link expires", "No stream is read by export jobs."),
        fault(
            "C24",
            "A day is longer or shorter, or days are those of another zone",
            Absorb,
            "0",
            "windows are cut in UTC, and no hour is left out",
        )
        .test("connector-mixpanel", "--lib", "tests::c27_times_are_utc_whichever_way_they_were_stored")
        .test("connector-mixpanel", "--lib", "tests::c28_a_time_that_occurs_twice_is_the_earlier_one_and_says_so")
        .test("connector-mixpanel", "--lib", "tests::c29_today_is_the_day_in_the_zone_that_days_are_counted_by"),
    ]
}
