//! The footer of a file: its columns and their statistics.

use std::collections::BTreeMap;
use std::fs::File;

use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, TimeDelta};
use destination_files::{Bound, Outline};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use pipeline_core::Result;

use crate::unreadable;

/// Reads the end of a file.
///
/// Text is left out: a log of files keeps what it says of one when the file is gone, and a record
/// that is purged is to leave nothing. So are types whose order differs between readers, or of which
/// JSON has no exact form: floating-point and decimal numbers.
pub(crate) fn outline(file: File) -> Result<Outline> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
    let (schema, groups) = (reader.schema(), reader.metadata().row_groups());
    let mut outline = Outline {
        schema: schema.clone(),
        nulls: BTreeMap::new(),
        least: BTreeMap::new(),
        greatest: BTreeMap::new(),
    };
    // No column is nested, so that a field has the number of its values' column.
    for (index, field) in schema.fields().iter().enumerate() {
        if let Some(nulls) = nulls(groups, index) {
            outline.nulls.insert(field.name().clone(), nulls);
        }
        if let Some((least, greatest)) = range(groups, index, field.data_type()) {
            outline.least.insert(field.name().clone(), least);
            outline.greatest.insert(field.name().clone(), greatest);
        }
    }
    Ok(outline)
}

fn nulls(groups: &[RowGroupMetaData], index: usize) -> Option<u64> {
    let nulls = |group: &RowGroupMetaData| group.column(index).statistics()?.null_count_opt();
    groups.iter().map(nulls).sum()
}

fn range(groups: &[RowGroupMetaData], index: usize, kind: &DataType) -> Option<(Bound, Bound)> {
    let mut range: Option<(i64, i64)> = None;
    for group in groups {
        let statistics = group.column(index).statistics()?;
        let are_null = |nulls| u64::try_from(group.num_rows()) == Ok(nulls);
        if statistics.null_count_opt().is_some_and(are_null) {
            continue;
        }
        let (least, greatest) = ends(statistics, kind)?;
        range = Some(match range {
            None => (least, greatest),
            Some(before) => (before.0.min(least), before.1.max(greatest)),
        });
    }
    let (least, greatest) = range?;
    Some((bound(least, kind, false)?, bound(greatest, kind, true)?))
}

fn ends(statistics: &Statistics, kind: &DataType) -> Option<(i64, i64)> {
    match (statistics, kind) {
        (
            Statistics::Int64(values),
            DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _),
        ) => Some((*values.min_opt()?, *values.max_opt()?)),
        (Statistics::Int32(values), DataType::Date32) => {
            Some(((*values.min_opt()?).into(), (*values.max_opt()?).into()))
        }
        _ => None,
    }
}

/// The value as statistics have it, or, where they are less exact, the next one that is not within
/// the range. None: they have no form for it.
fn bound(value: i64, kind: &DataType, is_greatest: bool) -> Option<Bound> {
    let (year, text) = match kind {
        DataType::Date32 => {
            let days = TimeDelta::try_days(value)?;
            let date = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(days)?;
            (date.year(), date.to_string())
        }
        DataType::Timestamp(..) => {
            let rounds_up = is_greatest && value.rem_euclid(1_000) != 0;
            let millis = value.div_euclid(1_000) + i64::from(rounds_up);
            let time = DateTime::from_timestamp_millis(millis)?;
            let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
            (time.year(), text)
        }
        _ => return Some(Bound::Integer(value)),
    };
    (1..=9_999).contains(&year).then_some(Bound::Text(text))
}
