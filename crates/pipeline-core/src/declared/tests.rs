//! Tests of lines and of lists that go nowhere.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::http::{Answer, Classifier, ResponseAction, StatusCode};

/// What is not found is an empty answer.
#[derive(Debug)]
pub(super) struct GoneIsNothing;

impl Classifier for GoneIsNothing {
    fn classify(&self, answer: &Answer<'_>) -> Option<ResponseAction> {
        (answer.status == StatusCode::NOT_FOUND).then_some(ResponseAction::Ignore)
    }
}

#[test]
fn lines_are_cut_at_line_feeds_only() {
    let texts = |lines: &'static str| {
        let lines = Bytes::from_static(lines.as_bytes());
        let records = cut_lines(&lines);
        assert!(records.iter().all(|record| lines.as_ptr_range().contains(&record.as_bytes().as_ptr())), "slices, not copies");
        records.iter().map(|record| String::from_utf8(record.as_bytes().to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(texts("{\"a\":1}\n{\"a\":2}\n"), ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(texts("{\"a\":1}\n{\"a\":2}"), ["{\"a\":1}", "{\"a\":2}"], "the last line may lack its end");
    assert_eq!(texts("\r\n{\"a\":1}\r\n \n\n{\"a\":2}\r\n"), ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(texts("\u{feff}{\"a\":1}\n"), ["{\"a\":1}"]);
    for separator in ["\u{2028}", "\u{2029}", "\u{85}", "\u{b}", "\u{c}", "\r"] {
        let line = format!("{{\"a\":\"x{separator}y\"}}");
        assert_eq!(cut_lines(&Bytes::from(format!("{line}\n{line}"))).len(), 2, "{separator:?}");
    }
    assert_eq!(texts(""), [""; 0]);
}

fn walk(position: Position) -> Walk {
    Walk { slice: SliceState::default(), position, visited: HashSet::new(), empty_pages: 0 }
}

fn page(next: &str, records: usize) -> Page {
    Page::new(vec![vec![RawRecord::upsert("{}"); records]], Some(Advance::Next(next.to_owned())))
}

#[test]
fn a_list_that_stays_where_it_is_or_runs_in_a_circle_is_refused() {
    let refuses = |from: Position, positions: &[&str]| {
        let mut walk = walk(from);
        let step = |position: &&str| walk.step(&page(position, 1));
        positions.iter().map(step).find_map(Result::err).map(|error| error.kind())
    };
    let at = |position: &str| Position::At(position.to_owned());
    assert_eq!(refuses(Position::Start, &["a", "b", "c"]), None);
    assert_eq!(refuses(Position::Start, &["a", "a"]), Some(ErrorKind::Decode));
    assert_eq!(refuses(at("a"), &["a"]), Some(ErrorKind::Decode));
    assert_eq!(refuses(Position::Start, &["a", "b", "c", "a"]), Some(ErrorKind::Decode));
    assert_eq!(refuses(at("a"), &["b", "a", "b"]), Some(ErrorKind::Decode));
}

#[test]
fn empty_pages_end_neither_the_list_nor_the_patience_too_soon() {
    let mut walk = walk(Position::Start);
    for number in 1..MAX_EMPTY_PAGES {
        assert!(walk.step(&page(&number.to_string(), 0)).unwrap());
    }
    assert!(walk.step(&page("full", 1)).unwrap());
    for number in 1..MAX_EMPTY_PAGES {
        assert!(walk.step(&page(&format!("again {number}"), 0)).unwrap());
    }
    assert_eq!(walk.step(&page("last", 0)).unwrap_err().kind(), ErrorKind::Decode);
}

#[test]
fn a_walk_ends_with_the_list() {
    for advance in [None, Some(Advance::End), Some(Advance::CaughtUp("a".to_owned()))] {
        assert!(!walk(Position::Start).step(&Page::new(Vec::new(), advance)).unwrap());
    }
}
