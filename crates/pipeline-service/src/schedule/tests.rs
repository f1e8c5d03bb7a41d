//! Schedules over changes of the clock, leap days, and jitter.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The next `count` starts after an instant, in the local time of a zone.
fn starts(expression: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let zone = zone(zone_name).unwrap();
    let schedule = Schedule::cron(expression, zone).unwrap();
    let mut at = at(after);
    let mut found = Vec::new();
    for _ in 0..count {
        at = schedule.next(at, Jitter::none()).unwrap();
        found.push(at.with_timezone(&zone).format("%m-%d %H:%M %Z").to_string());
    }
    found
}

#[test]
fn a_daily_run_happens_once_on_the_days_when_the_clock_changes() {
    let cases: [(&str, &str, &str, &[&str]); 7] = [
        // In spring 02:30 does not exist in Berlin: the run is made up for at the end of the gap.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            &["03-28 02:30 CET", "03-29 03:00 CEST", "03-30 02:30 CEST"],
        ),
        // In autumn it exists twice.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T00:00:00Z",
            &["10-24 02:30 CEST", "10-25 02:30 CEST", "10-26 02:30 CET"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T04:00:00Z",
            &["10-31 01:30 EDT", "11-01 01:30 EDT", "11-02 01:30 EST"],
        ),
        // Quarters of an hour go on through both: an interval is an interval.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:20:00Z",
            &["03-29 01:30 CET", "03-29 03:00 CEST", "03-29 03:30 CEST"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:20:00Z",
            &[
                "10-25 02:30 CEST",
                "10-25 02:00 CET",
                "10-25 02:30 CET",
                "10-25 03:00 CET",
            ],
        ),
        // Half an hour of daylight saving.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            &["10-04 02:30 +11", "10-05 02:15 +11"],
        ),
        (
            "0 0 29 2 *",
            "UTC",
            "2026-01-01T00:00:00Z",
            &["02-29 00:00 UTC"],
        ),
    ];
    for (expression, zone, after, expected) in cases {
        assert_eq!(
            starts(expression, zone, after, expected.len()),
            expected,
            "{expression} in {zone} after {after}"
        );
    }
}

#[test]
fn fields_mean_what_they_mean_in_cron() {
    // The 13th, or a Friday.
    assert_eq!(
        starts("0 6 13 * 5", "UTC", "2026-11-01T00:00:00Z", 4),
        [
            "11-06 06:00 UTC",
            "11-13 06:00 UTC",
            "11-20 06:00 UTC",
            "11-27 06:00 UTC"
        ]
    );
    // Both 0 and 7 are Sunday; L is the last day of the month.
    let sundays = starts("0 6 * * 0", "UTC", "2026-11-01T12:00:00Z", 2);
    assert_eq!(
        starts("0 6 * * 7", "UTC", "2026-11-01T12:00:00Z", 2),
        sundays
    );
    assert_eq!(sundays, ["11-08 06:00 UTC", "11-15 06:00 UTC"]);
    assert_eq!(
        starts("0 6 L * *", "UTC", "2026-02-01T00:00:00Z", 1),
        ["02-28 06:00 UTC"]
    );
}

#[test]
fn what_is_not_a_schedule_is_refused() {
    for wrong in [
        "",
        "x",
        "* * * *",
        "60 * * * *",
        "* * * * * *",
        "0 25 * * *",
    ] {
        assert!(
            matches!(
                Schedule::cron(wrong, Tz::UTC),
                Err(InvalidSchedule::Cron(_))
            ),
            "{wrong}"
        );
    }
    assert_eq!(
        Schedule::cron("0 0 30 2 *", Tz::UTC),
        Err(InvalidSchedule::Never)
    );
    for wrong in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
        assert_eq!(Schedule::every(wrong), Err(InvalidSchedule::Interval));
    }
    assert!(zone("Europe/Berlin").is_ok() && zone("Berlin").is_err());
}

#[test]
fn an_interval_is_counted_from_midnight_not_from_the_start_of_the_process() {
    let schedule = Schedule::every(Duration::from_mins(15)).unwrap();
    let next = |after| schedule.next(at(after), Jitter::none()).unwrap();
    assert_eq!(next("2026-11-30T10:07:13Z"), at("2026-11-30T10:15:00Z"));
    assert_eq!(next("2026-11-30T10:15:00Z"), at("2026-11-30T10:30:00Z"));
    assert_eq!(next("1969-12-31T23:50:00Z"), at("1970-01-01T00:00:00Z"));
}

#[test]
fn jitter_follows_from_the_name_and_differs_between_names() {
    let hourly = Schedule::cron("0 * * * *", Tz::UTC).unwrap();
    let next = |name: &str| {
        let jitter = Jitter::of(name, Duration::from_mins(1));
        hourly.next(at("2026-11-30T10:30:00Z"), jitter).unwrap()
    };
    let names = ["payments", "support", "events", "a", "b"];
    let delays: Vec<_> = names.map(next).into_iter().collect();
    assert_eq!(names.map(next).to_vec(), delays, "the same each time");
    for (delay, name) in delays.iter().zip(names) {
        let late = *delay - at("2026-11-30T11:00:00Z");
        assert!(
            late >= TimeDelta::zero() && late <= TimeDelta::seconds(60),
            "{name}: {late}"
        );
        assert_eq!(
            delays.iter().filter(|other| *other == delay).count(),
            1,
            "{name}"
        );
    }
    // An interval of a second is not delayed by a minute.
    let often = Schedule::every(Duration::from_secs(1)).unwrap();
    let jitter = Jitter::of("payments", Duration::from_mins(1));
    let first = often.next(at("2026-11-30T10:30:00Z"), jitter).unwrap();
    assert!(first <= at("2026-11-30T10:30:01.1Z"), "{first}");
}

proptest! {
    /// Whatever the instant, zone and jitter: the next start is later, nothing is left out between
    /// the two, and the following start is later still.
    #[test]
    fn starts_are_in_order_and_none_is_skipped(
        seconds in 1_700_000_000_i64..1_900_000_000,
        minute in 0_u32..60,
        step in 1_u32..59,
        most in 0_u64..600,
        name in "[a-z]{1,8}",
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata",
        ]),
        form in 0_u8..3,
    ) {
        let zone = super::zone(zone).unwrap();
        let schedule = match form {
            0 => Schedule::cron(&format!("{minute} * * * *"), zone).unwrap(),
            1 => Schedule::cron(&format!("{minute} 2 * * *"), zone).unwrap(),
            _ => Schedule::every(Duration::from_secs(u64::from(step) * 7)).unwrap(),
        };
        let jitter = Jitter::of(&name, Duration::from_secs(most));
        let after = DateTime::from_timestamp(seconds, 0).unwrap();
        let next = schedule.next(after, jitter).unwrap();
        prop_assert!(next > after);
        let following = schedule.next(next, jitter).unwrap();
        prop_assert!(following > next);
        // Asked at any time in between, the answer is the same.
        let middle = after + (next - after) / 2;
        if middle < next {
            prop_assert_eq!(schedule.next(middle, jitter).unwrap(), next);
        }
    }
}
