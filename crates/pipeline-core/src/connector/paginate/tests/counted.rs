//! Lists that say how many records they have.

use super::*;

#[test]
fn counted_lists_end_with_an_empty_page_or_the_total_and_never_with_a_short_page() {
    let number = PageNumber {
        param: "page",
        first: 1,
        total_pages: None,
    };
    let known = PageNumber {
        total_pages: Some("pages"),
        ..number
    };
    let from_zero = PageNumber { first: 0, ..known };
    let offset = Offset {
        param: "offset",
        total: None,
    };
    let total = Offset {
        total: Some("total"),
        ..offset
    };
    let cases: [(&dyn Paginator, Position, &str, &str, &str); 13] = [
        (
            &number,
            Position::Start,
            r#"{"data":[1]}"#,
            "page=1",
            "next 2",
        ),
        (&number, at("2"), r#"{"data":[1]}"#, "page=2", "next 3"),
        (&number, at("3"), r#"{"data":[]}"#, "page=3", "end"),
        (
            &known,
            at("2"),
            r#"{"data":[1],"pages":3}"#,
            "page=2",
            "next 3",
        ),
        (
            &known,
            at("3"),
            r#"{"data":[1],"pages":3}"#,
            "page=3",
            "end",
        ),
        (
            &known,
            at("3"),
            r#"{"data":[1],"pages":null}"#,
            "page=3",
            "next 4",
        ),
        (
            &from_zero,
            at("1"),
            r#"{"data":[1],"pages":3}"#,
            "page=1",
            "next 2",
        ),
        (
            &from_zero,
            at("2"),
            r#"{"data":[1],"pages":3}"#,
            "page=2",
            "end",
        ),
        (
            &offset,
            Position::Start,
            r#"{"data":[1,2,3]}"#,
            "offset=0",
            "next 3",
        ),
        (&offset, at("3"), r#"{"data":[1]}"#, "offset=3", "next 4"),
        (&offset, at("4"), r#"{"data":[]}"#, "offset=4", "end"),
        (
            &total,
            at("3"),
            r#"{"data":[1],"total":5}"#,
            "offset=3",
            "next 4",
        ),
        (
            &total,
            at("3"),
            r#"{"data":[1,2],"total":5}"#,
            "offset=3",
            "end",
        ),
    ];
    for (paginator, position, body, query, expected) in cases {
        assert_eq!(applied(paginator, &position, &[]), query);
        assert_eq!(
            shown(follows(paginator, &position, body, &[])),
            expected,
            "{body} at {position:?}"
        );
        assert!(paginator.shifts());
    }
    for paginator in [&number as &dyn Paginator, &offset] {
        assert_eq!(
            shown(follows(paginator, &at("three"), r#"{"data":[]}"#, &[])),
            "the stored position is not a number"
        );
        assert_eq!(
            shown(follows(
                paginator,
                &at(&u64::MAX.to_string()),
                r#"{"data":[1]}"#,
                &[]
            )),
            format!("next {}", u64::MAX)
        );
    }
}

/// The error of a list that ends short is no `Decode`: it may be whole next time.
fn counted(paginator: &dyn Paginator, position: &Position, body: &str) -> String {
    match follows(paginator, position, body, &[]) {
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            format!(
                "short: {} of {}",
                value(&error, "records"),
                value(&error, "total")
            )
        }
        other => shown(other),
    }
}

fn value<'e>(error: &'e Error, name: &str) -> &'e str {
    error.context_value(name).unwrap()
}

#[test]
fn a_list_that_ends_short_of_its_total_is_read_once_more_and_then_fails() {
    let list = Counted::new(
        PageNumber {
            param: "page",
            first: 0,
            total_pages: None,
        },
        "total",
    );
    let pages = [
        r#"{"data":[1,2],"total":7}"#,
        r#"{"data":[3],"total":7}"#,
        r#"{"data":[]}"#,
    ];
    let mut position = Position::Start;
    let mut walk = Vec::new();
    for page in pages.iter().cycle().take(6) {
        let next = counted(&list, &position, page);
        if let Some(text) = next.strip_prefix("next ") {
            position = at(text);
            walk.push(applied(&list, &position, &[]));
        } else {
            walk.push(next);
        }
    }
    assert_eq!(
        walk,
        [
            "page=1",
            "page=2",
            "page=0",
            "page=1",
            "page=2",
            "short: 3 of 7"
        ]
    );
}

#[test]
fn a_list_that_brings_what_is_counted_at_its_end_is_whole() {
    let list = Counted::new(
        PageNumber {
            param: "page",
            first: 1,
            total_pages: None,
        },
        "meta/total",
    );
    for (place, body, expected) in [
        // A record went meanwhile, others came, or nobody counts.
        (
            r#"{"at":"2","seen":3,"total":7}"#,
            r#"{"data":[],"meta":{"total":3}}"#,
            "end",
        ),
        (r#"{"at":"2","seen":9,"total":7}"#, r#"{"data":[]}"#, "end"),
        (
            r#"{"at":"2","seen":3}"#,
            r#"{"data":[],"meta":{"total":null}}"#,
            "end",
        ),
        // The second reading brought everything.
        (
            r#"{"at":"2","seen":7,"total":7,"again":true}"#,
            r#"{"data":[]}"#,
            "end",
        ),
        (
            r#"{"at":"2","seen":3,"total":3}"#,
            r#"{"data":[],"meta":{"total":"4"}}"#,
            r#"next {"seen":0,"again":true}"#,
        ),
        // A position from before anybody counted.
        ("2", r#"{"data":[],"meta":{"total":9}}"#, "end"),
        ("2", r#"{"data":[1],"meta":{"total":9}}"#, "next 3"),
        // Nothing to compare.
        (r#"{"at":"2","seen":3}"#, r#"{"data":[1]}"#, "next 3"),
    ] {
        assert_eq!(counted(&list, &at(place), body), expected, "{place}");
    }
    assert_eq!(applied(&list, &at("2"), &[]), "page=2");
    assert_eq!(applied(&list, &Position::Start, &[]), "page=1");
    assert!(list.shifts());
}

#[test]
fn a_counted_list_that_does_not_move_is_noticed() {
    let list = Counted::new(CURSOR, "total");
    let body = r#"{"data":[1],"meta":{"after":"x","has_more":true},"total":9}"#;
    assert_eq!(
        counted(&list, &Position::Start, body),
        r#"next {"at":"x","seen":1,"total":9}"#
    );
    assert_eq!(
        counted(&list, &at(r#"{"at":"x","seen":1,"total":9}"#), body),
        STUCK
    );
    assert_eq!(
        counted(
            &list,
            &at("x"),
            r#"{"data":[1],"meta":{"after":"x","has_more":true}}"#
        ),
        STUCK
    );
}

#[test]
fn a_counted_list_recovers_as_the_other_one_does() {
    let list = Counted::new(
        AfterLastId {
            param: "after",
            more: "has_more",
            id: "id",
        },
        "total",
    );
    let place = at(r#"{"at":"a\nb","seen":2,"total":5}"#);
    assert_eq!(
        list.recover(&place),
        Some(at(r#"{"at":"a","seen":2,"total":5}"#))
    );
    assert_eq!(list.recover(&Position::Start), None);
}
