//! Which days are planned, and how a slice is walked: all of it pure.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use pipeline_core::http::Method;
use pipeline_core::state::Gap;

use super::place::SHORTEST;
use super::*;

fn at(text: &str) -> DateTime<Utc> {
    let text = if text.contains('T') {
        format!("{text}:00Z")
    } else {
        format!("{text}T00:00:00Z")
    };
    text.parse().unwrap()
}

fn days(window: i64) -> Days {
    Days {
        oldest: at("2026-01-01"),
        window: TimeDelta::days(window),
        bytes: 1_000,
        lookback: TimeDelta::days(5),
        sweep: TimeDelta::zero(),
        include_today: false,
        reread: Reread::All,
    }
}

fn slice(since: &str, until: &str) -> SliceState {
    SliceState {
        window: Some(Window {
            since: Some(at(since)),
            until: at(until),
        }),
        ..SliceState::default()
    }
}

/// What was read before: everything up to here.
fn covered(until: &str) -> EndpointState {
    EndpointState {
        cursor: Some(at(until)),
        ..EndpointState::default()
    }
}

fn short(time: DateTime<Utc>) -> String {
    let text = time.format("%m-%dT%H:%M").to_string();
    text.trim_end_matches("T00:00").to_owned()
}

/// Slices as text: their span, where they are, and their watermark.
fn planned(days: &Days, state: &EndpointState, now: &str) -> String {
    let shown = |slice: SliceState| {
        let Window { since, until } = slice.window.unwrap();
        let filter = processed_since(&slice).map(|since| {
            format!(
                " processed since {}",
                short(DateTime::from_timestamp_millis(since).unwrap())
            )
        });
        format!(
            "{}..{}{}",
            short(since.unwrap()),
            short(until),
            filter.unwrap_or_default()
        )
    };
    days.plan(state, TimeRange::all(), at(now))
        .into_iter()
        .map(shown)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Walks a slice; `answer` gives the bytes of a request, none when it is not finished. The
/// requests, in order.
fn walk(days: &Days, slice: &SliceState, answer: impl Fn(Window) -> Option<u64>) -> Vec<String> {
    let since = slice.window.unwrap().since.unwrap();
    let mut place = days.place(slice).unwrap();
    let mut requests = Vec::new();
    loop {
        let window = Days::next(place, since);
        requests.push(format!(
            "{}..{}",
            short(window.since.unwrap()),
            short(window.until)
        ));
        let next = match answer(window) {
            Some(bytes) => days.after(place, window, since, bytes),
            None => Some(days.smaller(place, window).unwrap()),
        };
        // Every place is one that a stored position brings back.
        let Some(next) = next.map(|next| Place::parse(&next.to_text()).unwrap()) else {
            return requests;
        };
        place = next;
    }
}

#[test]
fn c16_days_are_asked_for_once_each() {
    let requests = walk(&days(1), &slice("2026-01-01", "2026-01-04"), |_| Some(7));
    assert_eq!(requests, ["01-03..01-04", "01-02..01-03", "01-01..01-02"]);
    let rendered = |slice: &SliceState| {
        let mut request = Request::new(
            Method::GET,
            "https://data.mixpanel.com/api/2.0/export".parse().unwrap(),
        );
        days(1).apply(slice, &mut request).unwrap();
        request
            .query
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
    };
    assert_eq!(
        rendered(&slice("2026-01-03", "2026-01-04")),
        "from_date=2026-01-03&to_date=2026-01-03"
    );
    assert_eq!(
        rendered(&slice("2026-01-01", "2026-01-04")),
        "from_date=2026-01-01&to_date=2026-01-03"
    );
}

#[test]
fn c26_a_small_project_needs_few_requests() {
    let year = slice("2025-01-01", "2026-01-01");
    assert_eq!(
        walk(&days(30), &year, |_| Some(7)).len(),
        13,
        "the first asks for the days beyond twelve requests"
    );
    assert_eq!(walk(&days(30), &year, |_| Some(0)).len(), 13, "empty days");
    // A day that holds a third of what a request should bring: three days, then.
    let third = |window: Window| {
        Some(u64::try_from((window.until - window.since.unwrap()).num_days()).unwrap() * 300)
    };
    assert_eq!(walk(&days(30), &year, third).len(), 1 + 120);
    assert_eq!(
        walk(&days(30), &year, |window| Some(
            window.until.timestamp().unsigned_abs()
        ))
        .len(),
        1 + 360,
        "days beyond the aim"
    );
}

#[test]
fn c25_a_day_that_is_not_finished_is_read_in_parts_that_cover_it() {
    // Nothing above six hours is finished.
    let fails_above = |hours: i64| {
        move |window: Window| {
            (window.until - window.since.unwrap() <= TimeDelta::hours(hours)).then_some(1)
        }
    };
    let requests = walk(
        &days(30),
        &slice("2026-01-01", "2026-01-03"),
        fails_above(6),
    );
    assert_eq!(
        requests.join(" "),
        "01-01..01-03 01-02..01-03 01-02T18:00..01-03 01-02..01-02T18:00 01-02T12:00..01-02T18:00 01-02T06:00..01-02T12:00 \
         01-02..01-02T06:00 01-01T18:00..01-02 01-01T12:00..01-01T18:00 01-01T06:00..01-01T12:00 01-01..01-01T06:00"
    );
    // And so on, to a quarter of an hour; without a gap, whatever the parts were.
    let least = walk(&days(30), &slice("2026-01-01", "2026-01-02"), |window| {
        (window.until - window.since.unwrap() <= TimeDelta::minutes(15)).then_some(1)
    });
    assert_eq!(
        least.len(),
        96 + 5,
        "a day, six hours, an hour and a half, and 22 minutes were tried, and the rest of a part after those"
    );
    let window = Window {
        since: Some(at("2026-01-01")),
        until: at("2026-01-01T00:15"),
    };
    let place = Place::new(window.until, SHORTEST, SHORTEST);
    assert_eq!(
        days(30).smaller(place, window),
        None,
        "there is nothing smaller"
    );
}

#[test]
fn c25_parts_of_a_day_are_half_open() {
    let condition = |since: &str, until: &str| {
        let mut request = Request::new(
            Method::GET,
            "https://data.mixpanel.com/api/2.0/export".parse().unwrap(),
        );
        days(1).apply(&slice(since, until), &mut request).unwrap();
        request
            .query
            .iter()
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        condition("2026-01-01", "2026-01-01T06:00"),
        "2026-01-01 2026-01-01 properties[\"$time\"] < datetime(1767247200)"
    );
    assert_eq!(
        condition("2026-01-01T06:00", "2026-01-01T12:00"),
        "2026-01-01 2026-01-01 properties[\"$time\"] >= datetime(1767247200) and properties[\"$time\"] < datetime(1767268800)"
    );
    assert_eq!(
        condition("2026-01-01T18:00", "2026-01-02"),
        "2026-01-01 2026-01-01 properties[\"$time\"] >= datetime(1767290400)"
    );
}

#[test]
fn longer_requests_are_tried_again_at_growing_distances() {
    // Months are never finished, weeks are: months are asked for at the start, behind the first
    // part, and not again for two months.
    let weeks =
        |window: Window| (window.until - window.since.unwrap() <= TimeDelta::days(7)).then_some(1);
    let requests = walk(&days(30), &slice("2026-01-01", "2026-04-01"), weeks);
    assert!(requests.len() <= 3 + 13, "{requests:?}");
    let year = walk(&days(30), &slice("2025-01-01", "2026-01-01"), weeks);
    let months = year
        .iter()
        .filter(|request| request.len() == "11-01..12-01".len())
        .count();
    assert!(year.len() <= 4 + 54, "{} requests, {months}", year.len());
}

/// Walks a slice whose first requests are not finished.
fn after_failures(failures: usize) -> usize {
    let left = std::cell::Cell::new(failures);
    let answer = |_: Window| {
        if left.get() == 0 {
            Some(1)
        } else {
            left.set(left.get() - 1);
            None
        }
    };
    walk(&days(30), &slice("2025-01-01", "2026-02-05"), answer).len()
}

#[test]
fn a_few_requests_that_are_not_finished_do_not_make_a_long_history_expensive() {
    assert_eq!(after_failures(0), 14, "four hundred days");
    let more: Vec<usize> = (1..=6)
        .map(|failures| after_failures(failures) - failures - 14)
        .collect();
    assert!(
        more.iter().all(|more| *more <= 6),
        "requests beyond those that failed: {more:?}"
    );
}

/// Walks a slice of which some days fail. The number of requests, and the days that were passed
/// over.
fn look_for(days: &Days, slice: &SliceState, fails: &[&str]) -> (usize, Vec<String>) {
    let since = slice.window.unwrap().since.unwrap();
    let mut place = days.place(slice).unwrap();
    let (mut requests, mut read, mut passed) = (0, Vec::new(), Vec::new());
    loop {
        let window = Days::next(place, since);
        requests += 1;
        let holds = |day: &&str| (window.since.unwrap()..window.until).contains(&at(day));
        let next = if !fails.iter().any(holds) {
            read.push((window.since.unwrap(), window.until));
            days.after(place, window, since, 1)
        } else if let Some(place) = place.suspecting(window) {
            Some(place)
        } else {
            let last = passed.last().copied();
            let (day, place) = days.pass(window, last).unwrap();
            passed.push(day.since.unwrap());
            Some(place).filter(|place| place.until > since)
        };
        let Some(next) = next.map(|next| Place::parse(&next.to_text()).unwrap()) else {
            break;
        };
        place = next;
    }
    // Everything is read once, or passed over.
    let all = read
        .iter()
        .copied()
        .chain(passed.iter().map(|day| (*day, *day + DAY)));
    let span = (since, slice.window.unwrap().until);
    assert_eq!(without(span, all.clone()), []);
    assert_eq!(
        all.map(|(since, until)| (until - since).num_days())
            .sum::<i64>(),
        (span.1 - span.0).num_days()
    );
    (requests, passed.into_iter().map(short).collect())
}

#[test]
fn days_that_fail_are_found_and_the_others_read_once() {
    let sixty = slice("2026-01-01", "2026-03-02");
    assert_eq!(look_for(&days(30), &sixty, &[]), (2, vec![]));
    for day in 1..=31 {
        let day = format!("2026-01-{day:02}");
        let (requests, found) = look_for(&days(30), &sixty, &[&day]);
        assert_eq!(found, [day[5..].to_owned()]);
        assert!(requests <= 2 + 7, "{day}: {requests}");
    }
    let (requests, found) = look_for(
        &days(30),
        &sixty,
        &["2026-01-07", "2026-02-01", "2026-02-23"],
    );
    assert_eq!(found, ["02-23", "02-01", "01-07"]);
    assert_eq!(requests, 21);
    // A whole week fails: after two days in a row, one is asked for at a time.
    let week: Vec<String> = (10..17).map(|day| format!("2026-02-{day}")).collect();
    let (requests, found) = look_for(
        &days(30),
        &sixty,
        &week.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(found.len(), 7);
    assert!(requests <= 2 + 2 * 6 + 5, "{requests}");
    assert_eq!(
        look_for(
            &days(30),
            &slice("2026-01-01", "2026-01-02"),
            &["2026-01-01"]
        ),
        (1, vec!["01-01".to_owned()])
    );
}

#[test]
fn days_that_are_missing_are_not_read_with_those_around_them() {
    let missing = slice("2026-02-07", "2026-02-08");
    let gap = |stale| Gap {
        name: "2026-02-07".to_owned(),
        reason: String::new(),
        since: at("2026-02-10"),
        tried: at("2026-02-10"),
        attempts: 1,
        keep: BTreeMap::new(),
        stale,
        given_up: false,
        rejected: false,
        slice: missing.clone(),
    };
    let state = |stale| EndpointState {
        gaps: BTreeMap::from([(9, gap(stale))]),
        ..covered("2026-02-10")
    };
    assert_eq!(
        planned(&days(30), &state(false), "2026-02-11T09:00"),
        "02-05..02-07, 02-08..02-11"
    );
    assert_eq!(
        planned(&days(30), &state(true), "2026-02-11T09:00"),
        "02-05..02-11",
        "everything is read again"
    );
}

#[test]
fn positions_of_earlier_versions_are_read() {
    let place = Place::parse("2026-02-10T00:00:00Z 604800 2592000").unwrap();
    assert_eq!(
        place,
        Place::new(at("2026-02-10"), TimeDelta::days(7), TimeDelta::days(30))
    );
    assert_eq!(Place::parse("2026-02-10T00:00:00Z 604800 60"), None);
    assert_eq!(Place::parse("soon"), None);
}

#[test]
fn c19_c20_days_are_read_again_from_the_last_sync_on() {
    let days = days(30);
    assert_eq!(
        planned(&days, &EndpointState::default(), "2026-02-10T09:00"),
        "01-01..02-10"
    );
    assert_eq!(
        planned(&days, &covered("2026-02-10"), "2026-02-10T23:00"),
        "",
        "once a day"
    );
    assert_eq!(
        planned(&days, &covered("2026-02-10"), "2026-02-11T00:05"),
        "02-05..02-11"
    );
    assert_eq!(
        planned(&days, &covered("2026-02-10"), "2026-02-20T09:00"),
        "02-05..02-20",
        "after an outage"
    );
    let weekly = Days {
        sweep: TimeDelta::days(30),
        ..days.clone()
    };
    assert_eq!(
        planned(&weekly, &covered("2026-02-11"), "2026-02-12T09:00"),
        "01-12..02-12",
        "a week ends with Wednesday"
    );
    assert_eq!(
        planned(&weekly, &covered("2026-02-12"), "2026-02-13T09:00"),
        "02-07..02-13"
    );
    let running = Days {
        include_today: true,
        ..days
    };
    assert_eq!(
        planned(&running, &covered("2026-02-11"), "2026-02-10T10:00"),
        "02-10..02-11"
    );
    assert_eq!(
        planned(&running, &covered("2026-02-11"), "2026-02-11T10:00"),
        "02-05..02-12"
    );
}

#[test]
fn what_an_interrupted_plan_left_is_not_planned_twice() {
    let mut state = EndpointState::default();
    let place = Place::new(at("2026-02-08"), DAY, DAY);
    state.add_slice(SliceState {
        position: place.position(),
        ..slice("2026-01-01", "2026-02-10")
    });
    assert_eq!(planned(&days(30), &state, "2026-02-10T20:00"), "");
    // The next day it adds the new day, and of those that are read again only what was read.
    assert_eq!(
        planned(&days(30), &state, "2026-02-11T20:00"),
        "02-08..02-11"
    );
    state.add_slice(SliceState {
        position: Position::Start,
        ..slice("2026-02-06", "2026-02-07")
    });
    assert_eq!(
        planned(&days(30), &state, "2026-02-11T20:00"),
        "02-08..02-11"
    );
}

#[test]
fn c21_of_days_read_again_only_new_events_are_stored_if_wanted() {
    let days = Days {
        reread: Reread::New,
        ..days(30)
    };
    assert_eq!(
        planned(&days, &covered("2026-02-10"), "2026-02-11T09:00"),
        "02-05..02-10 processed since 02-09T09:00, 02-10..02-11"
    );
    let page = |events: &[&str]| {
        let events: Vec<RawRecord> = events
            .iter()
            .map(|event| RawRecord::upsert((*event).to_owned()))
            .collect();
        Page::new(vec![events], None)
    };
    let events = [
        r#"{"mp_processing_time_ms":999}"#,
        r#"{"mp_processing_time_ms":1000}"#,
        r#"{"event":"A"}"#,
    ];
    assert_eq!(newer(page(&events[..1]), Some(1_000)).records[0].len(), 0);
    assert_eq!(newer(page(&events), Some(1_000)).records[0].len(), 2);
    assert_eq!(newer(page(&events), None).records[0].len(), 3);
}

#[test]
fn a_slice_gives_whole_requests_away() {
    let days = days(30);
    let start = slice("2026-01-01", "2026-04-11");
    assert_eq!(
        (days.requests_left(&start), days.split(&start)),
        (None, None),
        "the size of a day is not known yet"
    );
    let place = Place::new(at("2026-04-11"), TimeDelta::days(7), TimeDelta::days(30));
    let running = SliceState {
        position: place.position(),
        ..start
    };
    assert_eq!(days.requests_left(&running), Some(15));
    let (kept, given) = days.split(&running).unwrap();
    assert_eq!(
        (days.requests_left(&kept), days.requests_left(&given)),
        (Some(8), Some(7))
    );
    assert_eq!(
        kept.window.unwrap().since,
        Some(given.window.unwrap().until)
    );
    assert_eq!(given.window.unwrap().since, Some(at("2026-01-01")));
    let nearly = Place {
        until: at("2026-01-10"),
        ..place
    };
    assert_eq!(
        days.split(&SliceState {
            position: nearly.position(),
            ..running
        }),
        None
    );
}

#[test]
fn what_arrives_later_than_days_are_read_again_is_told() {
    let days = days(30);
    let after = |days: &Days, late: i64| {
        days.too_late(TimeDelta::days(late).num_milliseconds())
            .is_some()
    };
    assert!(!after(&days, 5) && after(&days, 6));
    assert!(!after(
        &Days {
            sweep: TimeDelta::days(30),
            ..days
        },
        6
    ));
}
