//! Rows made of the answers to reports: objects whose keys are dates, segments or names.

use pipeline_core::{RawRecord, Result};

use crate::json::{
    Row, elements, expect, find, is_object, members, of_record, quote, quoted, text,
};
use crate::rows::{About, or_rejected};

/// What stands for all segments together, beside them.
const OVERALL: &str = "$overall";

/// Length of a day in a key such as `2026-01-31 13:00:00`.
const DAY: usize = "2026-01-31".len();

/// One row a day of a funnel. The answer to one funnel carries the id and the name of the funnel
/// that it belongs to.
pub(crate) fn funnel(
    record: &RawRecord,
    _about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    let answer = of_record(record)?;
    for (date, day) in members(expect(&answer, "data")?)?
        .iter()
        .filter(|(date, _)| date != OVERALL)
    {
        let day = members(day)?;
        let row = Row::default()
            .json_if("funnel_id", find(&answer, "funnel_id"))
            .json_if("name", find(&answer, "name"));
        let row = row
            .text("date", date)
            .json_if("steps", find(&day, "steps"))
            .json_if("analysis", find(&day, "analysis"));
        out.push(row.build());
    }
    Ok(())
}

/// One row for each segment and span of time, from `{data: {values: {segment: {bucket: number}}}}`.
pub(crate) fn segments(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    table(record, out, |segment| {
        reported(about).text("segment", segment)
    })
}

/// The same where segments are events.
pub(crate) fn event_counts(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    table(record, out, |event| {
        Row::default()
            .text("report", report(about))
            .text("event", event)
    })
}

/// The same where segments are values of a property.
pub(crate) fn property_counts(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    table(record, out, |value| {
        of_property(about).text("property_value", value)
    })
}

fn table(record: &RawRecord, out: &mut Vec<RawRecord>, row: impl Fn(&str) -> Row) -> Result<()> {
    let answer = of_record(record)?;
    let data = members(expect(&answer, "data")?)?;
    for (segment, buckets) in members(expect(&data, "values")?)? {
        for (bucket, value) in members(buckets)? {
            out.push(
                in_bucket(row(&segment), &bucket)
                    .json("value", value)
                    .build(),
            );
        }
    }
    Ok(())
}

/// One row for each span of time, from `{results: {bucket: number}}`.
pub(crate) fn totals(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    let answer = of_record(record)?;
    for (bucket, value) in members(expect(&answer, "results")?)? {
        out.push(
            in_bucket(reported(about), &bucket)
                .json("value", value)
                .build(),
        );
    }
    Ok(())
}

/// One row a day of revenue.
pub(crate) fn revenue(
    record: &RawRecord,
    _about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    let answer = of_record(record)?;
    for (date, day) in members(expect(&answer, "results")?)?
        .iter()
        .filter(|(date, _)| date != OVERALL)
    {
        let row = members(day)?
            .iter()
            .fold(Row::default().text("date", date), |row, (name, value)| {
                row.json(name, value)
            });
        out.push(row.build());
    }
    Ok(())
}

/// One row for each group of users that came first in the same span of time, and for each segment
/// of it if there are some.
pub(crate) fn retention(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    for (bucket, group) in of_record(record)? {
        let group = members(group)?;
        let row = |segment: &str| {
            in_bucket(
                Row::default()
                    .text("report", report(about))
                    .text("segment", segment),
                &bucket,
            )
        };
        let counted = |row: Row, group: &crate::json::Members<'_>| {
            row.json_if("first", find(group, "first"))
                .json_if("counts", find(group, "counts"))
                .build()
        };
        if find(&group, "counts").is_some() {
            out.push(counted(row(""), &group));
        } else {
            for (segment, group) in &group {
                out.push(counted(row(segment), &members(group)?));
            }
        }
    }
    Ok(())
}

/// One row for each span of time, and for each segment of it if there are some.
pub(crate) fn frequency(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    let answer = of_record(record)?;
    for (bucket, counts) in members(expect(&answer, "data")?)? {
        let row = |segment: &str| {
            in_bucket(
                Row::default()
                    .text("report", report(about))
                    .text("segment", segment),
                &bucket,
            )
        };
        if is_object(counts) {
            members(counts)?.iter().for_each(|(segment, counts)| {
                out.push(row(segment).json("counts", counts).build());
            });
        } else {
            out.push(row("").json("counts", counts).build());
        }
    }
    Ok(())
}

/// One row for each number of a saved report. `series` nests one level for each header, and one for
/// time if there is time.
pub(crate) fn insights(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    let answer = of_record(record)?;
    let headers = expect(&answer, "headers")?;
    let report = Row::default()
        .text("report", report(about))
        .json("headers", headers)
        .json_if("computed_at", find(&answer, "computed_at"));
    let depth = elements(headers)?.len();
    insight(
        expect(&answer, "series")?,
        &mut Vec::new(),
        depth,
        &report,
        out,
    )
}

fn insight(
    value: &str,
    path: &mut Vec<String>,
    depth: usize,
    report: &Row,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    if is_object(value) {
        for (key, value) in members(value)? {
            path.push(key.into_owned());
            insight(value, path, depth, report, out)?;
            path.pop();
        }
        return Ok(());
    }
    let (series, time) = path.split_at(depth.min(path.len()));
    let series = format!(
        "[{}]",
        series
            .iter()
            .map(|key| quote(key))
            .collect::<Vec<_>>()
            .join(",")
    );
    let row = report
        .clone()
        .text("series_key", &series)
        .json("series", &series);
    out.push(
        in_bucket(row, time.first().map_or("", String::as_str))
            .json("value", value)
            .build(),
    );
    Ok(())
}

/// Today's most frequent events, with the day.
pub(crate) fn top_event(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    or_rejected(record, out, |out| {
        let row = Row::default().text("date", &about.today.to_string());
        out.push(
            of_record(record)?
                .iter()
                .fold(row, |row, (name, value)| row.json(name, value))
                .build(),
        );
        Ok(())
    })
}

/// A name in a list of names.
pub(crate) fn name(
    record: &RawRecord,
    _about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    out.push(Row::default().json("name", &quoted(text(record)?)).build());
    Ok(())
}

/// A value in a list of values of a property.
pub(crate) fn property_value(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    out.push(
        of_property(about)
            .json("property_value", &quoted(text(record)?))
            .build(),
    );
    Ok(())
}

/// One row for each property, from `{property: {count: number}}`.
pub(crate) fn top_properties(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    for (property, counted) in of_record(record)? {
        let row = reported(about).text("property", &property);
        out.push(
            members(counted)?
                .iter()
                .fold(row, |row, (name, value)| row.json(name, value))
                .build(),
        );
    }
    Ok(())
}

/// What a list is in: some answers are bare, others have it in `results`.
pub(crate) fn bare_or_enveloped(
    record: &RawRecord,
    _about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    match record
        .member("results")
        .filter(|results| results.starts_with('['))
    {
        Some(results) => out.extend(
            elements(results)?
                .into_iter()
                .map(|element| RawRecord::upsert(element.to_owned())),
        ),
        None => out.push(record.clone()),
    }
    Ok(())
}

/// An entry of the Lexicon, its members called as columns are.
pub(crate) fn lexicon_schema(
    record: &RawRecord,
    _about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    or_rejected(record, out, |out| {
        let row =
            of_record(record)?
                .iter()
                .fold(Row::default(), |row, (name, value)| match &**name {
                    "entityType" => row.json("entity_type", value),
                    "schemaJson" => row.json("schema_json", value),
                    name => row.json(name, value),
                });
        out.push(row.build());
        Ok(())
    })
}

/// What the caller sees, from `{results: {projects: {id: …}, …}}`; the stream is called as the
/// member is.
pub(crate) fn by_id(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    let answer = of_record(record)?;
    let results = members(expect(&answer, "results")?)?;
    let Some(entries) = find(&results, about.stream.name) else {
        return Ok(());
    };
    for (id, entry) in members(entries)? {
        let row = Row::default().text("id", &id);
        let entry = members(entry)?;
        out.push(
            entry
                .iter()
                .filter(|(name, _)| name != "id")
                .fold(row, |row, (name, value)| row.json(name, value))
                .build(),
        );
    }
    Ok(())
}

fn report<'a>(about: &About<'a>) -> &'a str {
    about.report.map_or("", |report| report.name.as_str())
}

/// A row of a report on one event.
fn reported(about: &About<'_>) -> Row {
    let event = about.report.and_then(|report| report.parameter("event"));
    Row::default()
        .text("report", report(about))
        .text("event", &event.unwrap_or_default())
}

/// A row of a report on one property of an event.
fn of_property(about: &About<'_>) -> Row {
    reported(about).text(
        "property",
        &about
            .report
            .and_then(|report| report.parameter("name"))
            .unwrap_or_default(),
    )
}

/// Adds the span of time, and the day in which it begins.
fn in_bucket(row: Row, bucket: &str) -> Row {
    let is_day = |day: &&str| {
        day.bytes().enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 {
                byte == b'-'
            } else {
                byte.is_ascii_digit()
            }
        })
    };
    let day = bucket.get(..DAY).filter(is_day).map(quote);
    row.text("bucket", bucket).json_if("date", day.as_deref())
}
