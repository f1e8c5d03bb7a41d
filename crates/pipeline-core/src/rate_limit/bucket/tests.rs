#![allow(clippy::unwrap_used, clippy::float_cmp)]

use super::*;

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn bucket(quota: Quota) -> Bucket {
    Bucket::new(
        BucketKey {
            account: 1,
            bucket: "read".to_owned(),
        },
        quota,
    )
}

fn wall(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap()
}

const NOTHING: Learned = Learned {
    at: DateTime::UNIX_EPOCH,
    rate: None,
    window: None,
    slots: None,
    told: None,
};

/// A bucket that goes on with what was learned an hour before.
fn recalled(quota: Quota, learned: Learned) -> Bucket {
    let bucket = bucket(quota);
    bucket.recall(
        second(100),
        wall(3_600),
        &Learned {
            at: wall(0),
            ..learned
        },
    );
    bucket
}

fn window(permits: f64, seconds: f64) -> Learned {
    Learned {
        window: Some(LearnedWindow { permits, seconds }),
        ..NOTHING
    }
}

/// The limit in words, after one request.
fn limit(bucket: &Bucket) -> String {
    bucket.granted(second(100));
    bucket.usage().unwrap().limit
}

#[test]
fn a_burst_is_a_tenth_of_a_second_of_an_unknown_limit_and_no_more_than_the_pace_of_a_known_one() {
    let burst = |bucket: &Bucket| {
        (
            bucket.charge(second(100)).pace.burst.get(),
            bucket.charge(second(100)).pace.permits,
        )
    };
    assert_eq!(burst(&bucket(Quota::unknown())), (2, 4.0));
    let (burst_of_many, permits) = burst(&recalled(
        Quota::unknown(),
        Learned {
            rate: Some(95.0),
            ..NOTHING
        },
    ));
    assert_eq!(f64::from(burst_of_many), (permits / 10.0).floor());
    assert!(burst_of_many > 2, "{burst_of_many}");
    let slowed = bucket(Quota::per_second(100).burst(100));
    assert_eq!(burst(&slowed), (100, 100.0));
    let five = RateLimitInfo {
        limit: Some(5.0),
        window: Some(second(1)),
        ..RateLimitInfo::default()
    };
    slowed.learn(second(100), second(99), &[&five]);
    assert_eq!(burst(&slowed), (5, 5.0));
}

#[test]
fn the_limit_that_binds_is_named() {
    let narrow = bucket(Quota::per_second(10).concurrency(2));
    assert_eq!(narrow.describe(second(100)), "read: 10 requests/s");
    narrow.granted(second(100));
    narrow.granted(second(100));
    assert_eq!(narrow.describe(second(100)), "read: 2 requests at once");
    narrow.released();
    assert_eq!(narrow.describe(second(100)), "read: 10 requests/s");
    let known = recalled(Quota::unknown(), window(700.0, 60.0));
    assert_eq!(
        known.describe(second(100)),
        "read: 700 requests in 60 s, as was found out"
    );
    let refused = bucket(Quota::unknown());
    for n in 0..4 {
        refused.refused(second(101 + n), second(100 + n), None);
    }
    refused.granted(second(105));
    assert_eq!(
        refused.describe(second(105)),
        "read: everything is refused, asked again from time to time"
    );
}

#[test]
fn what_was_found_out_is_named_where_it_is_less_than_what_is_allowed() {
    let found = |quota: Quota, learned| limit(&recalled(quota, learned));
    let rate = |rate| Learned {
        rate: Some(rate),
        ..NOTHING
    };
    assert_eq!(
        found(Quota::unknown(), rate(95.0)),
        "95.0 requests/s, as was found out"
    );
    assert_eq!(
        found(Quota::per_second(10), rate(9.5)),
        "9.5 requests/s, as was found out"
    );
    assert_eq!(found(Quota::per_second(10), rate(10.0)), "10 requests/s");
    assert_eq!(found(Quota::per_second(10), rate(11.0)), "10 requests/s");
    assert_eq!(
        found(Quota::unknown(), window(700.0, 60.0)),
        "700 requests in 60 s, as was found out"
    );
    assert_eq!(
        found(Quota::unknown(), window(700.0, 0.0)),
        "no known limit",
        "a window without a length is not one"
    );
    assert_eq!(
        found(Quota::unknown(), window(700.0, -1.0)),
        "no known limit"
    );
    assert_eq!(
        found(
            Quota::per_second(10),
            Learned {
                slots: Some(7),
                ..NOTHING
            }
        ),
        "10 requests/s, 7 at once"
    );
}

#[test]
fn who_is_refused_far_below_the_limit_has_too_many_requests_under_way() {
    let refuse = |at_once: u32, wait: Option<Duration>| {
        let bucket = bucket(Quota::per_second(100));
        (0..at_once).for_each(|_| bucket.granted(second(100)));
        bucket.refused(second(101), second(100), wait);
        let usage = bucket.usage().unwrap();
        assert_eq!(usage.refused, 1);
        usage.limit
    };
    assert_eq!(refuse(5, None), "100 requests/s, 4 at once");
    assert_eq!(
        refuse(1, None),
        "100 requests/s",
        "one at once is not too many"
    );
    assert_eq!(
        refuse(5, Some(second(1))),
        "100 requests/s",
        "the vendor says that it is the rate"
    );
}

#[test]
fn too_many_at_once_leave_fewer_slots() {
    let bucket = bucket(Quota::unknown());
    (0..8).for_each(|_| bucket.granted(second(100)));
    bucket.too_many(second(101), second(100));
    let usage = bucket.usage().unwrap();
    assert_eq!(
        (usage.refused, usage.limit.as_str()),
        (1, "no known limit, 7 at once")
    );
    assert!(matches!(
        bucket.obstacle(second(101)),
        Some(Obstacle::Concurrency)
    ));
    (0..3).for_each(|_| bucket.released());
    assert!(bucket.obstacle(second(101)).is_none(), "5 of 6");
}

#[test]
fn a_question_whose_answer_is_lost_is_asked_again() {
    let bucket = bucket(Quota::unknown());
    for n in 0..4 {
        bucket.granted(second(100 + n));
        bucket.refused(second(101 + n), second(100 + n), None);
        bucket.released();
    }
    assert!(bucket.obstacle(second(200)).is_none());
    bucket.granted(second(200));
    assert!(matches!(
        bucket.obstacle(second(200)),
        Some(Obstacle::Gate(Gate::Answer))
    ));
    bucket.unanswered(second(230), second(200));
    bucket.released();
    assert!(bucket.obstacle(second(230)).is_none());
}

#[test]
fn what_was_learned_is_forgotten_after_a_week() {
    let after = |seconds| {
        let bucket = bucket(Quota::unknown());
        bucket.recall(
            second(100),
            wall(seconds),
            &Learned {
                at: wall(0),
                rate: Some(95.0),
                ..NOTHING
            },
        );
        limit(&bucket)
    };
    let week = 7 * 24 * 3_600;
    assert_eq!(after(week), "95.0 requests/s, as was found out");
    assert_eq!(after(week + 1), "no known limit");
}

#[test]
fn each_thing_that_was_learned_is_kept_once_a_minute() {
    let quota = || Quota::per_hour(60).published();
    assert_eq!(
        recalled(quota(), NOTHING).to_keep(wall(3_600)),
        None,
        "nothing was learned"
    );
    let kept = [
        Learned {
            rate: Some(0.01),
            ..NOTHING
        },
        window(30.0, 3_600.0),
        Learned {
            slots: Some(7),
            ..NOTHING
        },
        Learned {
            told: Some(120.0),
            ..NOTHING
        },
    ];
    for learned in kept {
        let bucket = recalled(quota(), learned);
        assert_eq!(bucket.to_keep(wall(59)), None, "{learned:?}");
        assert_eq!(
            bucket.to_keep(wall(60)),
            Some(Learned {
                at: wall(60),
                ..learned
            })
        );
        assert_eq!(bucket.to_keep(wall(60)), None, "it is kept already");
        assert_eq!(
            bucket.to_keep(wall(120)),
            Some(Learned {
                at: wall(120),
                ..learned
            })
        );
    }
}

#[test]
fn what_headers_tell_replaces_a_published_quota_and_lowers_a_long_one() {
    let allowed = |quota: Quota, told: f64| {
        let bucket = bucket(quota);
        bucket.learn(
            second(100),
            second(99),
            &[&RateLimitInfo {
                limit: Some(told),
                ..RateLimitInfo::default()
            }],
        );
        bucket.allowed().permits
    };
    assert_eq!(
        [240.0, 20.0].map(|told| allowed(Quota::per_hour(60).published(), told)),
        [240.0, 20.0]
    );
    assert_eq!(
        [240.0, 20.0].map(|told| allowed(Quota::per_hour(60), told)),
        [60.0, 20.0]
    );
    assert_eq!(
        [240.0, 20.0].map(|told| allowed(Quota::per_minute(60), told)),
        [60.0; 2],
        "the pace is enough"
    );
}
