//! What is sent, and that it is sent once.

#![allow(clippy::unwrap_used)]

use insta::assert_snapshot;

use super::message::Status;
use super::*;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap()
}

fn settings(kinds: &[Kind]) -> AlertSettings {
    AlertSettings {
        slack: None,
        webhook: Some("https://example.com/hook".into()),
        when: kinds.iter().copied().collect(),
    }
}

fn ended(verdict: Verdict) -> Ended {
    let mut ended = Ended::failed(verdict, 4, "the vendor is down (request_id: req_1)");
    ended.run = Some("r1".to_owned());
    ended.streams = vec!["charges".to_owned(), "refunds".to_owned()];
    ended.rows = 1_200;
    ended.missing = 3;
    if verdict == Verdict::Done {
        ended.error = None;
        ended.exit_code = 0;
        ended.streams.clear();
    }
    ended
}

/// What was decided to be sent since the last time, in short, and takes it out.
fn sent(book: &mut Book) -> String {
    let mut words = Vec::new();
    while let Some(pending) = book.pending(Channel::Webhook).cloned() {
        let status = match pending.alert.status {
            Status::Raised => '+',
            Status::Resolved => '-',
        };
        words.push(format!("{status}{}", pending.alert.event.name()));
        book.sent(pending.id);
    }
    words.join(" ")
}

#[test]
fn a_change_is_sent_once_and_so_is_its_end() {
    use Verdict::{Busy, Done, Failed, Interrupted, Missing, Refused};
    let cases: [(&[Verdict], &str); 8] = [
        (&[Done, Done], ""),
        (&[Failed, Failed, Failed, Done, Done], "+failed -failed"),
        (&[Failed, Done, Failed], "+failed -failed +failed"),
        // What says nothing of the source changes nothing.
        (
            &[Failed, Busy, Interrupted, Failed, Done],
            "+failed -failed",
        ),
        (&[Busy, Interrupted, Done], ""),
        // One failure after another: it is not well in between.
        (
            &[Failed, Refused, Refused, Done],
            "+failed +credentials -credentials",
        ),
        (&[Refused, Failed, Done], "+credentials +failed -failed"),
        (
            &[Missing, Missing, Failed, Missing, Done],
            "+gaps +failed -failed -gaps",
        ),
    ];
    for (verdicts, expected) in cases {
        let mut book = Book::default();
        for (minute, verdict) in verdicts.iter().enumerate() {
            let minute = i64::try_from(minute).unwrap();
            book.ended("a", &ended(*verdict), &settings(&Kind::ALL), at(minute));
            // A restart between any two of them.
            let stored = serde_json::to_string(&book).unwrap();
            book = serde_json::from_str(&stored).unwrap();
        }
        assert_eq!(sent(&mut book), expected, "{verdicts:?}");
    }
}

#[test]
fn only_what_was_asked_for_is_sent_and_sources_are_apart() {
    let mut book = Book::default();
    let only_stale = settings(&[Kind::Stale]);
    book.ended("a", &ended(Verdict::Failed), &only_stale, at(0));
    assert_eq!(sent(&mut book), "");
    // Nobody has heard that it failed, so nobody hears that it works.
    book.ended("a", &ended(Verdict::Done), &settings(&Kind::ALL), at(1));
    assert_eq!(sent(&mut book), "");
    book.ended("a", &ended(Verdict::Failed), &settings(&Kind::ALL), at(2));
    book.ended("b", &ended(Verdict::Failed), &settings(&Kind::ALL), at(2));
    book.ended("a", &ended(Verdict::Done), &settings(&Kind::ALL), at(3));
    assert_eq!(sent(&mut book), "+failed +failed -failed");
    assert_eq!(book.raised("b"), [(Kind::Failed, at(2))]);
    // Without a channel there is nothing to send, and nothing waits.
    let nobody = AlertSettings::default();
    book.ended("b", &ended(Verdict::Done), &nobody, at(4));
    assert_eq!(sent(&mut book), "");
}

#[test]
fn drift_is_reported_once_for_each_member() {
    let mut book = Book::default();
    let drifted = |members: &[&str]| {
        let mut ended = ended(Verdict::Done);
        ended.drift = members
            .iter()
            .map(|member| ((*member).to_owned(), "there is no column for it".to_owned()))
            .collect();
        ended
    };
    for members in [
        &["charges.a"][..],
        &["charges.a"],
        &["charges.a", "charges.b"],
        &[],
    ] {
        book.ended("a", &drifted(members), &settings(&Kind::ALL), at(0));
    }
    assert_eq!(sent(&mut book), "+drift +drift");
    assert!(!Kind::DEFAULT.contains(&Kind::Drift));
}

#[test]
fn what_cannot_be_sent_is_given_up_after_three_tries() {
    let mut book = Book::default();
    book.ended("a", &ended(Verdict::Failed), &settings(&Kind::ALL), at(0));
    let id = book.pending(Channel::Webhook).unwrap().id;
    let last: Vec<bool> = (0..3).map(|_| book.tried(id, send::TRIES)).collect();
    assert_eq!(last, [false, false, true]);
    assert_eq!(book.pending(Channel::Webhook), None);
    // A receiver that is away for long does not fill the state file.
    for minute in 0..1_000 {
        let verdict = if minute % 2 == 0 {
            Verdict::Done
        } else {
            Verdict::Failed
        };
        book.ended("a", &ended(verdict), &settings(&Kind::ALL), at(minute));
    }
    assert_eq!(book.outbox.len(), OUTBOX);
}

fn stream(name: &str, succeeded: Option<i64>) -> StoredStream {
    StoredStream {
        source: "a".to_owned(),
        stream: name.to_owned(),
        rows: 1,
        state: String::new(),
        available: true,
        succeeded: succeeded.map(at),
        cursor: None,
        missing: Vec::new(),
        error: None,
    }
}

#[test]
fn data_is_too_old_by_what_the_destination_says() {
    let hour = |hours: u64| Some(Duration::from_secs(3_600 * hours));
    let all = Freshness {
        default: hour(2),
        streams: BTreeMap::from([("slow".to_owned(), Duration::from_hours(24))]),
    };
    let old = |freshness: &Freshness, streams: &[StoredStream], since| {
        age("a", freshness, streams, at(since), at(600)).map(|age| (age.streams, age.lag.as_secs()))
    };
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    // Ten hours have passed.
    assert_eq!(
        old(&all, &[stream("x", Some(500)), stream("slow", Some(0))], 0),
        None
    );
    assert_eq!(
        old(&all, &[stream("x", Some(400)), stream("y", Some(470))], 0),
        Some((names(&["x", "y"]), 12_000))
    );
    // Never complete: as old as the service's interest in it.
    assert_eq!(old(&all, &[stream("x", None)], 590), None);
    assert_eq!(
        old(&all, &[stream("x", None)], 0),
        Some((names(&["x"]), 36_000))
    );
    assert_eq!(old(&all, &[], 0), Some((names(&["*"]), 36_000)));
    assert_eq!(old(&all, &[], 590), None);
    // What the credentials may not read, and rejected records, have no age.
    let unavailable = StoredStream {
        available: false,
        ..stream("x", None)
    };
    assert_eq!(
        old(&all, &[unavailable, stream("_rejected", None)], 0),
        None
    );
    assert_eq!(old(&Freshness::default(), &[stream("x", None)], 0), None);
}

#[test]
fn stale_data_is_alerted_once() {
    let mut book = Book::default();
    let age = Age {
        streams: vec!["charges".to_owned()],
        lag: Duration::from_secs(7_300),
    };
    for minute in 0..3 {
        book.aged("a", Some(&age), &settings(&Kind::ALL), at(minute));
    }
    book.aged("a", None, &settings(&Kind::ALL), at(4));
    book.aged("a", None, &settings(&Kind::ALL), at(5));
    assert_eq!(sent(&mut book), "+stale -stale");
    assert_eq!(book.since("a", at(7)), at(7));
    assert_eq!(book.since("a", at(9)), at(7));
}

#[test]
fn messages_say_what_happened_where_and_what_to_do() {
    let mut failed = ended(Verdict::Failed);
    failed.help = Some("run it again <later> & look".to_owned());
    let failed = Alert::of_run(Kind::Failed, false, "payments", &failed, at(0));
    let gaps = Alert::of_run(
        Kind::Gaps,
        false,
        "payments",
        &ended(Verdict::Missing),
        at(0),
    );
    let well = Alert {
        since: Some(at(0)),
        ..Alert::of_run(
            Kind::Failed,
            true,
            "payments",
            &ended(Verdict::Done),
            at(30),
        )
    };
    let age = Age {
        streams: vec!["charges".to_owned()],
        lag: Duration::from_secs(7_300),
    };
    let stale = Alert::of_age(false, "payments", &age, at(0));
    assert_snapshot!(
        "webhook_raised",
        serde_json::to_string_pretty(&failed).unwrap()
    );
    assert_snapshot!(
        "webhook_resolved",
        serde_json::to_string_pretty(&well).unwrap()
    );
    let slack = [&failed, &gaps, &stale, &well].map(|alert| {
        let body = alert.slack();
        body["text"].as_str().unwrap().to_owned()
    });
    assert_snapshot!("slack", slack.join("\n\n"));
}
