//! `pipeline discover`: what there is to read.

use std::fmt::Write;
use std::sync::Arc;

use pipeline_core::{Catalog, CatalogStream, DataType, NoObserver};
use serde_json::{Map, Value, json};

use crate::args::Format;
use crate::config::{Config, SourceConfig, build_all};
use crate::console::Console;
use crate::exit::{Exit, Result};
use crate::output::table::{Align, TextTable};
use crate::{args, connectors, setup};

pub(super) fn run(args: &args::Discover, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let context = setup::context(&config, Arc::new(NoObserver));
    // A stream name in the configuration that is unknown does not matter: this command lists the
    // known ones.
    let selected: Vec<_> = config
        .select(&args.sources)?
        .into_iter()
        .map(SourceConfig::with_all_streams)
        .collect();
    let sources = build_all(
        &config,
        &selected.iter().collect::<Vec<_>>(),
        &connectors::registry(),
        &context,
        console,
    )?;
    let mut catalogs = Vec::with_capacity(sources.len());
    for source in &sources {
        catalogs.push((
            source.name.as_str(),
            Catalog::of(source.connector.endpoints()),
        ));
    }
    let text = match args.output {
        Format::Human if args.columns => columns(&catalogs),
        Format::Human => streams(&catalogs),
        Format::Json => {
            let catalogs = catalogs
                .iter()
                .map(|(source, catalog)| ((*source).to_owned(), json!(catalog)));
            format!("{:#}", Value::Object(catalogs.collect::<Map<_, _>>()))
        }
    };
    console.print(&text);
    Ok(Exit::Done)
}

fn streams(catalogs: &[(&str, Catalog)]) -> String {
    use Align::{Left, Right};
    let columns = [
        ("SOURCE", Left),
        ("STREAM", Left),
        ("PARENT", Left),
        ("KEY", Left),
        ("CURSOR", Left),
        ("MODE", Left),
        ("DELETIONS", Left),
        ("COLUMNS", Right),
    ];
    let mut table = TextTable::new(columns);
    for (source, catalog) in catalogs {
        for stream in &catalog.streams {
            let key = if stream.primary_key.is_empty() {
                "none: appended".to_owned()
            } else {
                stream.primary_key.join(", ")
            };
            let cursor = stream.cursor.clone().unwrap_or_else(|| "-".to_owned());
            let deletes = stream.deletes.clone();
            let count = stream.schema.fields().len().to_string();
            let parent = stream.parent.clone().unwrap_or_else(|| "-".to_owned());
            table.row([
                (*source).to_owned(),
                stream.name.clone(),
                parent,
                key,
                cursor,
                stream.mode.to_owned(),
                deletes,
                count,
            ]);
        }
    }
    table.render() + "\n`--columns` prints the columns, `--output json` everything.\n"
}

fn columns(catalogs: &[(&str, Catalog)]) -> String {
    let mut text = String::new();
    for (source, catalog) in catalogs {
        for CatalogStream { name, schema, .. } in &catalog.streams {
            let _ = writeln!(text, "{source}.{name}");
            for field in schema.fields() {
                let _ = writeln!(text, "  {:40} {}", field.name, type_name(field.data_type));
            }
        }
    }
    text
}

fn type_name(data_type: DataType) -> String {
    match data_type {
        DataType::Bool => "boolean".to_owned(),
        DataType::Int64 => "integer".to_owned(),
        DataType::Float64 => "float".to_owned(),
        DataType::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        DataType::String | DataType::Reference => "text".to_owned(),
        DataType::Date => "date".to_owned(),
        DataType::Timestamp(_) => "timestamp".to_owned(),
        data_type if data_type.is_json() => "json".to_owned(),
        _ => "other".to_owned(),
    }
}
