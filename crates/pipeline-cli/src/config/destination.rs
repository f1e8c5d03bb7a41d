//! The table `[destination]`.

use pipeline_engine::{ConfiguredDestination, DestinationRegistry};
use serde_json::{Map, Value as Json};

use super::resolver::Resolver;
use super::tree::{Member, Span, Table};
use super::{Config, Problem, known_members, suggest, table, text, unknown, without_value};
use crate::console::Console;
use crate::exit::Failure;
use crate::schema::Property;
use crate::{destinations, schema};

/// Where data goes, as written in the file; references are not replaced yet.
#[derive(Clone, Debug)]
pub(crate) struct DestinationTable {
    /// Its type, which is a known one.
    name: String,
    header: Span,
    /// The destination's own members.
    members: Table,
}

impl DestinationTable {
    pub(super) fn parse(root: &Table, registry: &DestinationRegistry) -> Result<Self, Problem> {
        let default = destinations::DEFAULT;
        let member = root.get("destination").ok_or_else(|| {
            let spec = registry.spec(default).unwrap_or(&Json::Null);
            let required = schema::properties(spec)
                .into_iter()
                .filter(|property| property.required);
            let members: Vec<String> = required
                .map(|property| format!(" and {} = {}", property.name, property.example(default)))
                .collect();
            let help = format!(
                "add [destination] with type = \"{default}\"{}",
                members.concat()
            );
            Problem::new(0..0, "no destination configured").help(help)
        })?;
        let inner = table(&member.node, "destination")?;
        let missing = |name: &str, example: &str| {
            Problem::new(
                member.span.clone(),
                format!("missing `{name}` in destination"),
            )
            .help(format!("add {name} = {example}"))
        };
        let kind = inner
            .get("type")
            .ok_or_else(|| missing("type", &format!("\"{default}\"")))?;
        let name = text(&kind.node, "type")?;
        let spec = registry.spec(name).map_err(|_| {
            let known: Vec<&str> = registry.names().collect();
            let problem = Problem::new(
                kind.node.span.clone(),
                unknown("destination type", name, known.iter().copied()),
            );
            problem.help(suggest(name, "types", known))
        })?;
        for property in schema::properties(spec)
            .iter()
            .filter(|property| property.required)
        {
            let found = inner
                .get(property.name)
                .ok_or_else(|| missing(property.name, &property.example(name)))?;
            if property.takes_text_only() {
                text(&found.node, property.name)?;
            }
        }
        let own = |member: &&Member| member.name != "type";
        let members = Table(inner.0.iter().filter(own).cloned().collect());
        Ok(Self {
            name: name.to_owned(),
            header: member.span.clone(),
            members,
        })
    }

    /// Reads the destination's own configuration, with references replaced, relative paths put
    /// below the configuration's folder, and secrets hidden from now on.
    pub(crate) fn configure(
        &self,
        config: &Config,
        console: &Console,
    ) -> Result<ConfiguredDestination, Failure> {
        let registry = destinations::registry();
        let spec = registry.spec(&self.name)?;
        let properties = schema::properties(spec);
        let known: Vec<&str> = properties
            .iter()
            .map(|property| property.name)
            .chain(["type"])
            .collect();
        known_members(&self.members, "destination", &known)
            .map_err(|problem| config.failure(&problem))?;
        let object = self
            .resolve(&properties, config, console)
            .map_err(|problem| {
                let failure = config.failure(&problem);
                Failure {
                    text: console.redact(&failure.text),
                    ..failure
                }
            })?;
        registry
            .configure(&self.name, Json::Object(object))
            .map_err(|error| {
                let located = error
                    .context_value("field")
                    .and_then(|field| self.members.locate(field));
                let span = located.unwrap_or_else(|| self.header.clone());
                let message = if config.is_harmless(&span) {
                    error.message().to_owned()
                } else {
                    without_value(error.message())
                };
                let failure =
                    config.failure(&Problem::new(span, format!("destination: {message}")));
                Failure {
                    text: console.redact(&failure.text),
                    ..failure
                }
            })
    }

    fn resolve(
        &self,
        properties: &[Property<'_>],
        config: &Config,
        console: &Console,
    ) -> Result<Map<String, Json>, Problem> {
        let mut resolver = Resolver::hiding_nothing(&config.folder, console);
        let mut object = Map::new();
        for Member { name, node, .. } in &self.members.0 {
            let mut value = resolver.json(node)?;
            if let Some(property) = properties.iter().find(|property| property.name == name) {
                value = property.fitting(value);
                match value.as_str() {
                    Some(secret) if property.is_secret() => console.hide(secret.to_owned().into()),
                    Some(path) if property.is_path(path) => {
                        value = config.folder.join(path).display().to_string().into();
                    }
                    _ => {}
                }
            }
            object.insert(name.clone(), value);
        }
        resolver.warn(config);
        Ok(object)
    }
}
