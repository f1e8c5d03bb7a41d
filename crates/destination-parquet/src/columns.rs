//! How the columns of a file are encoded: as their first rows suggest.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use pipeline_engine::cell::is_json;

/// Rows that are looked at.
const SAMPLE: usize = 1_000;

/// A dictionary for columns whose values repeat: for others it costs time and saves nothing. The
/// least and the greatest value of each column, which readers skip files by; of JSON text they say
/// nothing.
pub fn properties(first: &RecordBatch) -> WriterPropertiesBuilder {
    let mut builder = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::Chunk);
    for (field, values) in first.schema_ref().fields().iter().zip(first.columns()) {
        let path = ColumnPath::new(vec![field.name().clone()]);
        if !repeats(&values.slice(0, values.len().min(SAMPLE))) {
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
        }
        if is_json(field) {
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    builder
}

/// True when every value occurs twice on average.
fn repeats(values: &dyn Array) -> bool {
    fn count<T: std::hash::Hash + Eq>(values: impl Iterator<Item = Option<T>>) -> usize {
        values.flatten().collect::<HashSet<T>>().len()
    }
    let distinct = match values.data_type() {
        DataType::Utf8 => count(values.as_string::<i32>().iter()),
        DataType::Int64 => count(values.as_primitive::<Int64Type>().iter()),
        DataType::Float64 => count(
            values
                .as_primitive::<Float64Type>()
                .iter()
                .map(|value| value.map(f64::to_bits)),
        ),
        DataType::Decimal128(..) => count(values.as_primitive::<Decimal128Type>().iter()),
        DataType::Date32 => count(values.as_primitive::<Date32Type>().iter()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            count(values.as_primitive::<TimestampMicrosecondType>().iter())
        }
        _ => 0,
    };
    2 * distinct <= values.len() - values.null_count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn only_columns_that_repeat_have_a_dictionary() {
        let strings =
            |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let columns = [
            (
                "ids",
                strings(&[Some("a"), Some("b"), Some("c"), Some("d")]),
                false,
            ),
            (
                "kinds",
                strings(&[Some("a"), Some("b"), Some("a"), Some("b")]),
                true,
            ),
            ("nothing", strings(&[None, None, None, None]), true),
            ("few", strings(&[None, None, Some("a"), Some("b")]), false),
            (
                "counts",
                Arc::new(Int64Array::from(vec![1, 1, 1, 2])) as ArrayRef,
                true,
            ),
        ];
        for (name, values, expected) in columns {
            let batch = RecordBatch::try_from_iter([(name, values)])
                .unwrap_or_else(|error| panic!("{error}"));
            let properties = properties(&batch).build();
            assert_eq!(
                properties.dictionary_enabled(&ColumnPath::from(name)),
                expected,
                "{name}"
            );
        }
    }
}
