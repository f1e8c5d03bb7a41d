//! `pipeline check`: tries credentials, every endpoint, and the destination.

use std::fmt::Write;
use std::sync::Arc;

use pipeline_core::engine::{Selection, Source};
use pipeline_core::{Availability, CheckReport, Destination, Error, NoObserver, StreamDef};
use serde_json::{Map, Value, json};

use crate::args::{self, Format};
use crate::config::{Config, build_all};
use crate::connectors;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::table::{Align, Table};
use crate::{setup, units};

pub(super) async fn run(args: &args::Check, console: &Arc<Console>) -> Result<Exit> {
    let config = Config::load(&args.file.config)?;
    let context = setup::context(&config, Arc::new(NoObserver));
    let sources = build_all(&config, &config.select(&args.sources)?, &connectors::registry(), &context, console)?;
    let mut checked = Vec::with_capacity(sources.len());
    for source in &sources {
        let endpoints = selected(source);
        let names: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        checked.push((source.name.as_str(), source.connector.check(&names).await));
    }
    for source in &sources {
        let client = source.connector.client();
        if let Some(start) = source.connector.range().start.filter(|start| *start > client.now()) {
            let start = units::instant(start);
            console.note(&format!("warning: {}: the start is {start}, which is still to come: what is older is not read", source.name));
        }
    }
    let destination = match setup::destination(&config) {
        Ok(destination) => destination.check().await.map_err(|error| Failure::of_destination(&error)).map(|()| destination),
        Err(failure) => Err(failure),
    };
    match args.output {
        Format::Human => console.print(&text(&config, &checked, destination.as_ref())),
        Format::Json => console.print(&format!("{:#}", json(&checked, destination.as_ref()))),
    }
    let sources = checked.iter().zip(&sources).map(|((_, result), source)| exit_of(result, source));
    Ok(sources.chain([destination.map_or_else(|failure| failure.exit, |_| Exit::Done)]).max().unwrap_or(Exit::Done))
}

/// The endpoints that feed the selected streams; none for all.
fn selected(source: &Source) -> Vec<String> {
    let Selection::Named(streams) = &source.streams else { return Vec::new() };
    let feeds = |stream: &StreamDef| streams.iter().any(|name| name == stream.name());
    let endpoints = source.connector.endpoints().iter().filter(|endpoint| endpoint.streams().any(feeds));
    endpoints.map(|endpoint| endpoint.name().to_owned()).collect()
}

/// An endpoint that may not be read counts only when one of its streams was asked for by name.
fn exit_of(result: &Result<CheckReport, Error>, source: &Source) -> Exit {
    let named = matches!(source.streams, Selection::Named(_));
    match result {
        Err(error) => error.kind().into(),
        Ok(report) => {
            // Where nothing can be read, it is not the account that lacks a product.
            let is_withheld = |(_, availability): &(String, Availability)| *availability != Availability::Available;
            let counts = named || report.endpoints.iter().all(is_withheld);
            let worst = report.endpoints.iter().map(|(_, availability)| match availability {
                Availability::Unavailable(_) if counts => Exit::Authentication,
                Availability::Refused(_) if counts => Exit::Incomplete,
                Availability::Failed(_) => Exit::Incomplete,
                _ => Exit::Done,
            });
            worst.max().unwrap_or(Exit::Done)
        }
    }
}

fn text(config: &Config, checked: &[(&str, Result<CheckReport, Error>)], destination: Result<&Arc<dyn Destination>, &Failure>) -> String {
    let mut text = String::new();
    for (source, result) in checked {
        let _ = writeln!(text, "{source}");
        match result {
            Ok(report) => report_text(report, &mut text),
            Err(error) => text.push_str(&indented(&Failure::from(error).text)),
        }
        text.push('\n');
    }
    let path = config.destination.path.display();
    match destination {
        Ok(destination) => {
            let promise = match destination.delivery() {
                pipeline_core::Delivery::ExactlyOnce => "exactly once",
                pipeline_core::Delivery::AtLeastOnce => "at least once",
            };
            let _ = writeln!(text, "destination {path}\n  can be written, delivers {promise}");
        }
        Err(failure) => {
            let _ = write!(text, "destination {path}\n{}", indented(&failure.text));
        }
    }
    text
}

fn report_text(report: &CheckReport, text: &mut String) {
    for (name, value) in &report.facts {
        let _ = writeln!(text, "  {name}: {value}");
    }
    let mut table = Table::new([("  ENDPOINT", Align::Left), ("RESULT", Align::Left), ("REASON", Align::Left)]);
    let mut available = 0;
    for (endpoint, availability) in &report.endpoints {
        let (result, reason) = told(availability);
        available += usize::from(*availability == Availability::Available);
        table.row([format!("  {endpoint}"), result.to_owned(), reason.unwrap_or_default().to_owned()]);
    }
    text.push_str(&table.render());
    let _ = writeln!(text, "  {available} of {} endpoints can be read", report.endpoints.len());
}

/// The word for it, and why.
fn told(availability: &Availability) -> (&'static str, Option<&str>) {
    match availability {
        Availability::Available => ("available", None),
        Availability::Unavailable(reason) => ("unavailable", Some(reason)),
        Availability::Refused(reason) => ("refused", Some(reason)),
        Availability::Failed(reason) => ("failed", Some(reason)),
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

fn json(checked: &[(&str, Result<CheckReport, Error>)], destination: Result<&Arc<dyn Destination>, &Failure>) -> Value {
    let failure = |text: &str| json!({ "error": text });
    let sources = checked.iter().map(|(source, result)| match result {
        Ok(report) => {
            let facts: Map<_, _> = report.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let endpoints = report.endpoints.iter().map(|(endpoint, availability)| {
                let (result, reason) = told(availability);
                json!({ "endpoint": endpoint, "result": result, "reason": reason })
            });
            json!({ "source": source, "facts": facts, "endpoints": endpoints.collect::<Vec<_>>() })
        }
        Err(error) => json!({ "source": source, "error": Failure::from(error).text }),
    });
    json!({
        "sources": sources.collect::<Vec<_>>(),
        "destination": destination.map_or_else(|error| failure(&error.text), |destination| json!({ "delivery": destination.delivery() })),
    })
}
