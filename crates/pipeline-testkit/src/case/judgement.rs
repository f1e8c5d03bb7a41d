//! Whether a run that a fault was injected into, or that was killed, ended as it should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pipeline_core::ErrorKind;
use pipeline_core::state::{EndpointState, Position};

use crate::fault::Expected;
use crate::fixture::snake_case;
use crate::run::{Run, units};
use crate::tape::PageRead;

/// What is wrong with a run that met a fault at request `at`.
pub(super) fn judge(
    expected: Expected,
    at: usize,
    whole: &Run,
    run: &Run,
    pause: Option<Duration>,
) -> Option<String> {
    match expected {
        Expected::Same => same(whole, run),
        Expected::SameAfter(asked) => same(whole, run).or_else(|| {
            let early = pause.filter(|pause| *pause < asked)?;
            Some(format!(
                "asked again after {early:?} although the vendor asked for {asked:?}"
            ))
        }),
        _ if run.error.is_none() && !run.missing.is_empty() => without_units(whole, run),
        Expected::SameOrFails(_) if run.error.is_none() => same(whole, run),
        Expected::WithoutPageOrFails(_) if run.error.is_none() => without_page(at, whole, run),
        Expected::Fails(kinds)
        | Expected::SameOrFails(kinds)
        | Expected::WithoutPageOrFails(kinds) => fails(kinds, at, whole, run),
    }
}

/// What could not be read was passed over by its name: everything that is there is right.
fn without_units(whole: &Run, run: &Run) -> Option<String> {
    // A record may be one of the units, and hold less than it would.
    let of_unit = |row: &str| {
        let mut ids = run
            .missing
            .keys()
            .filter_map(|unit| unit.split_once(" of "));
        ids.any(|(id, _)| row.contains(&format!("\"id\": {id:?}")))
    };
    let is_part = run.progress.rows.iter().all(|(stream, rows)| {
        let mut rest = whole.progress.rows.get(stream).into_iter().flatten();
        rows.iter()
            .filter(|row| !of_unit(row))
            .all(|row| rest.any(|known| known == row))
    });
    (!is_part).then(|| {
        format!(
            "{:?} were passed over, and not all other rows are those that there are",
            run.missing
        )
    })
}

fn same(whole: &Run, run: &Run) -> Option<String> {
    match &run.error {
        Some(_) => Some(format!("expected the same records, found {}", outcome(run))),
        None => difference(whole, run, &BTreeSet::new()),
    }
}

fn fails(kinds: &[ErrorKind], at: usize, whole: &Run, run: &Run) -> Option<String> {
    if !run
        .error
        .as_ref()
        .is_some_and(|error| kinds.contains(&error.kind))
    {
        return Some(format!("expected {kinds:?}, found {}", outcome(run)));
    }
    let before = committed_before(at, whole);
    let found = run.progress.counts();
    let is_prefix = run.progress.rows.iter().all(|(stream, rows)| {
        whole
            .progress
            .rows
            .get(stream)
            .is_some_and(|all| all.starts_with(rows))
    });
    // Of requests under way at the same time others can have been answered that come before in the
    // order of their pages.
    let has_more = |page: &PageRead| {
        page.committed == found
            && before
                .iter()
                .all(|(stream, count)| found.get(stream) >= Some(count))
    };
    let is_page = found == before || (!is_one_by_one(whole) && whole.pages().iter().any(has_more));
    (!is_page || !is_prefix).then(|| {
        format!(
            "expected the records of the pages before, {before:?}, found {:?}",
            run.progress.counts()
        )
    })
}

/// The list went on after the empty page: of every stream, only that page's records are missing.
fn without_page(at: usize, whole: &Run, run: &Run) -> Option<String> {
    // Bodies without a list of records are left as they are, a list may end at its first empty
    // page, and one that knows its total is read anew.
    let mut expected = whole.progress.counts();
    for (stream, count) in whole
        .pages()
        .iter()
        .filter(|page| page.requests == at + 1)
        .flat_map(|page| &page.records)
    {
        expected
            .entry(stream.clone())
            .and_modify(|total| *total = total.saturating_sub(*count));
    }
    expected.retain(|_, count| *count > 0);
    // Without what planning learns, the same rows can have other values.
    let is_right = run.progress.counts() == expected
        || lacks_rows_of_page_alone(at, whole, run)
        || run.progress.rows == whole.progress.rows
        || run.progress.counts() == committed_before(at, whole)
        || is_read_anew(whole, run)
        || lacks_what_belongs_to_it(at, whole, run);
    (!is_right).then(|| {
        format!(
            "expected all but the empty page, found {:?}",
            run.progress.counts()
        )
    })
}

/// Whether no rows are missing but those of the page, and nothing is there besides.
fn lacks_rows_of_page_alone(at: usize, whole: &Run, run: &Run) -> bool {
    let committed = |page: usize, stream: &String| {
        whole
            .pages()
            .get(page)
            .and_then(|page| page.committed.get(stream))
            .copied()
            .unwrap_or(0)
    };
    let is_emptied = |page: &usize| whole.pages()[*page].requests == at + 1;
    let emptied: Vec<usize> = (0..whole.pages().len()).filter(is_emptied).collect();
    whole.progress.rows.iter().all(|(stream, all)| {
        let found = run.progress.rows.get(stream).map_or(&[][..], Vec::as_slice);
        let first = |page: usize| {
            page.checked_sub(1)
                .map_or(0, |before| committed(before, stream))
        };
        let is_of_page = |row: usize| {
            emptied
                .iter()
                .any(|page| (first(*page)..committed(*page, stream)).contains(&row))
        };
        let is_right = all
            .iter()
            .enumerate()
            .all(|(index, row)| found.contains(row) || is_of_page(index));
        is_right && found.len() <= all.len() && found.iter().all(|row| all.contains(row))
    })
}

/// Whether all records are there, and some of them more than once: their key merges them.
fn is_read_anew(whole: &Run, run: &Run) -> bool {
    let distinct = |run: &Run| -> BTreeSet<(String, String)> {
        let rows = run.progress.rows.iter();
        rows.flat_map(|(stream, rows)| rows.iter().map(|row| (stream.clone(), row.clone())))
            .collect()
    };
    distinct(whole) == distinct(run)
}

/// Records committed before the data request number `at`, by stream.
fn committed_before(at: usize, whole: &Run) -> BTreeMap<String, usize> {
    whole
        .pages()
        .iter()
        .take_while(|page| page.requests <= at)
        .last()
        .map(|page| page.committed.clone())
        .unwrap_or_default()
}

/// Whether every request is a page.
fn is_one_by_one(whole: &Run) -> bool {
    whole
        .pages()
        .iter()
        .enumerate()
        .all(|(index, page)| page.requests == index + 1)
}

/// Whether nothing is missing but records that came after the request: the empty page was one of
/// records that have lists of their own, which are then never asked for. Where every request is a
/// page there are none such.
fn lacks_what_belongs_to_it(at: usize, whole: &Run, run: &Run) -> bool {
    if is_one_by_one(whole) {
        return false;
    }
    let before = committed_before(at, whole);
    whole.progress.rows.iter().all(|(stream, all)| {
        let found = run.progress.rows.get(stream).map_or(&[][..], Vec::as_slice);
        let mut rest = all.iter();
        let is_part = found.iter().all(|row| rest.any(|known| known == row));
        is_part && found.starts_with(&all[..before.get(stream).copied().unwrap_or_default()])
    })
}

pub(super) fn outcome(run: &Run) -> String {
    run.error.as_ref().map_or_else(
        || "success".to_owned(),
        |error| format!("{}: {}", snake_case(error.kind), error.message),
    )
}

/// The endpoints that were read to their end, or to that of a slice, when the run was killed: who
/// resumes begins their next sync, which reads the newest records, or all of them, once more.
pub(super) fn over(killed: &Run) -> BTreeSet<String> {
    let states = killed.progress.states.iter();
    // Where one of several slices is read, what is new since then is planned beside the others.
    let has_read_one = |state: &EndpointState| {
        state
            .slices
            .values()
            .any(|slice| slice.position == Position::End)
    };
    // A refresh that is cut by time ends at the present of who resumes it; any other is published
    // as it is.
    let goes_on = |state: &EndpointState| {
        !state.refreshing || state.slices.values().any(|slice| slice.window.is_some())
    };
    let is_over = |state: &EndpointState| {
        goes_on(state) && (state.unfinished().next().is_none() || has_read_one(state))
    };
    states
        .filter(|(_, state)| is_over(state))
        .map(|(endpoint, _)| endpoint.clone())
        .collect()
}

/// What is not the same after two runs: what was committed and in which order, what readers see,
/// the states, and what is missing. Of endpoints whose next sync has begun only readers must see
/// the same.
pub(super) fn difference(expected: &Run, found: &Run, over: &BTreeSet<String>) -> Option<String> {
    let of_over = |page: &&PageRead| {
        over.iter()
            .any(|endpoint| endpoint.split('@').next() == Some(&*page.endpoint))
    };
    let read_again = expected
        .pages()
        .iter()
        .filter(of_over)
        .flat_map(|page| &page.records);
    let read_again: BTreeSet<&String> = read_again.map(|(stream, _)| stream).collect();
    for (stream, rows) in expected
        .progress
        .rows
        .iter()
        .filter(|(stream, _)| !read_again.contains(stream))
    {
        let others = found
            .progress
            .rows
            .get(stream)
            .map_or(&[][..], Vec::as_slice);
        if rows != others {
            let at = rows.iter().zip(others).take_while(|(a, b)| a == b).count();
            return Some(format!(
                "stream {stream}: {} records instead of {}, different from record {} on",
                others.len(),
                rows.len(),
                at + 1
            ));
        }
    }
    let (states, others) = (
        states_to_compare(expected, over),
        states_to_compare(found, over),
    );
    if let Some((endpoint, state)) = states
        .iter()
        .find(|(endpoint, state)| others.get(*endpoint) != Some(state))
    {
        return Some(format!(
            "endpoint {endpoint}: the state is {:?} instead of {state}",
            others.get(endpoint)
        ));
    }
    if let Some(stream) = expected
        .tables
        .keys()
        .find(|stream| expected.tables.get(*stream) != found.tables.get(*stream))
    {
        return Some(format!("stream {stream}: readers see other rows"));
    }
    if units(expected) != units(found) {
        return Some(format!(
            "passed over {:?}, and not {:?}",
            units(found),
            units(expected)
        ));
    }
    (expected.progress.rows.len() != found.progress.rows.len())
        .then(|| "records of streams that were not there".to_owned())
}

/// The states, but for how often plans were made and units asked for, which is not the same after a
/// kill.
fn states_to_compare(run: &Run, over: &BTreeSet<String>) -> BTreeMap<String, String> {
    let states = run
        .progress
        .states
        .clone()
        .into_iter()
        .filter(|(endpoint, _)| !over.contains(endpoint));
    let comparable = |(endpoint, mut state): (String, EndpointState)| {
        state.plan = 0;
        state.gaps.values_mut().for_each(|gap| gap.attempts = 0);
        (endpoint, state.to_json())
    };
    states.map(comparable).collect()
}
