//! One table `[sources.NAME]`, and the connector that it describes.

use std::sync::Arc;

use pipeline_core::{BuildContext, Connector, Error, ErrorKind, Registry};
use pipeline_engine::{ErrorBudget, QualityCheck, Selection, Source, StreamContracts};
use pipeline_service::{SourceSettings, WebhookSettings};
use serde_json::{Map, Value as Json};

use super::contract::ContractTable;
use super::harmless::{is_name, shown_name};
use super::quality::QualityTable;
use super::rejected::MaxRejected;
use super::resolver::Resolver;
use super::service::{TIMING_MEMBERS, fresh_streams, timing};
use super::tree::{Member, Node, Span, Table, Value};
use super::webhook::{WEBHOOK, WebhookTable};
use super::{
    Config, Problem, closest, known_members, reference, suggest, suggest_or, table, text, unknown,
    without_value,
};
use crate::console::Console;
use crate::exit::{Failure, Result};
use crate::schema;

/// Members of a source that are not its connector's.
pub(super) const OWN_MEMBERS: [&str; 5] = [
    "connector",
    "streams",
    "max_rejected",
    "contract",
    "quality",
];

/// The same, and those that say when it is run.
fn own_members() -> impl Iterator<Item = &'static str> {
    OWN_MEMBERS
        .into_iter()
        .chain(TIMING_MEMBERS)
        .chain([WEBHOOK])
}

/// A source as written in the file; references are not replaced yet.
#[derive(Clone, Debug)]
pub(crate) struct SourceConfig {
    /// Its name, which tables and checkpoints carry.
    pub(crate) name: String,
    /// The connector's name.
    pub(crate) connector: String,
    streams: Option<Vec<(String, Span)>>,
    max_rejected: MaxRejected,
    contract: ContractTable,
    quality: QualityTable,
    timing: SourceSettings,
    fresh_streams: Vec<(String, Span)>,
    webhook: Option<WebhookTable>,
    header: Span,
    connector_span: Span,
    members: Table,
}

impl SourceConfig {
    pub(super) fn parse(member: &Member) -> Result<Self, Problem> {
        let name = &member.name;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let problem = Problem::new(
                member.span.clone(),
                format!("invalid source name `{}`", shown_name(name)),
            );
            return Err(
                problem.help("use letters, digits, and `_`: the name becomes part of table names")
            );
        }
        let owner = format!("sources.{}", shown_name(name));
        let all = table(&member.node, &owner)?;
        let connector = all.get("connector").ok_or_else(|| {
            Problem::new(
                member.span.clone(),
                format!("missing `connector` in {owner}"),
            )
            .help("add one, such as connector = \"stripe\"; see `pipeline connectors`")
        })?;
        let streams = all
            .get("streams")
            .map(|member| streams(&member.node))
            .transpose()?;
        let max_rejected = all
            .get("max_rejected")
            .map(|member| MaxRejected::parse(&member.node))
            .transpose()?
            .unwrap_or_default();
        let contract = all.get("contract").map(ContractTable::parse).transpose()?;
        let quality = all.get("quality").map(QualityTable::parse).transpose()?;
        let own = |member: &&Member| !own_members().any(|own| own == member.name);
        Ok(Self {
            name: name.clone(),
            connector: text(&connector.node, "connector")?.to_owned(),
            streams,
            max_rejected,
            contract: contract.unwrap_or_default(),
            quality: quality.unwrap_or_default(),
            timing: timing(name, all)?,
            fresh_streams: fresh_streams(all),
            webhook: all
                .get(WEBHOOK)
                .map(|member| WebhookTable::parse(member, &owner))
                .transpose()?,
            header: member.span.clone(),
            connector_span: connector.node.span.clone(),
            members: Table(all.0.iter().filter(own).cloned().collect()),
        })
    }

    /// Builds the source's connector. Every value that came from outside the file is hidden from
    /// now on, and so is every member that the connector calls a secret.
    pub(crate) fn build(
        &self,
        config: &Config,
        registry: &Registry,
        context: &BuildContext,
        console: &Console,
    ) -> Result<Source> {
        let shown = |problem: Problem| {
            let failure = config.failure(&problem);
            Failure {
                text: console.redact(&failure.text),
                ..failure
            }
        };
        let spec = registry.spec(&self.connector).map_err(|_| {
            let problem = Problem::new(
                self.connector_span.clone(),
                unknown("connector", &self.connector, registry.names()),
            );
            shown(problem.help(suggest(
                &self.connector,
                "connectors",
                registry.names().collect::<Vec<_>>(),
            )))
        })?;
        let value = self.resolve(config, spec, console).map_err(shown)?;
        self.check_members(spec).map_err(shown)?;
        let context = context.clone().source(self.name.clone());
        let connector = registry
            .build(&self.connector, value, context)
            .map_err(|error| self.config_failure(&error, spec, config, shown))?;
        let streams = self.selection(&*connector).map_err(shown)?;
        for named in [
            &self.max_rejected.streams,
            &self.contract.streams,
            &self.fresh_streams,
        ] {
            known_streams(&*connector, named).map_err(shown)?;
        }
        self.quality.fit(&*connector).map_err(shown)?;
        Ok(Source {
            name: self.name.clone(),
            connector,
            streams,
        })
    }

    /// The connector's configuration as JSON, with references replaced.
    fn resolve(&self, config: &Config, spec: &Json, console: &Console) -> Result<Json, Problem> {
        let (known, secrets) = (schema::members(spec), schema::secrets(spec));
        let mut resolver = Resolver::hiding_all(&config.folder, console);
        let mut object = Map::new();
        for member in &self.members.0 {
            let value = schema::fitting(spec, &member.name, resolver.json(&member.node)?);
            // The value of a setting with a wrong name may be a secret, too.
            let is_secret = secrets.contains(&member.name.as_str());
            if is_secret || !known.contains(&member.name.as_str()) {
                console.hide(
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), ToOwned::to_owned)
                        .into(),
                );
                // A line of the file that is shown may write what is around a secret in another way
                // than it is read.
                let core = value.as_str().map(|secret| {
                    secret.trim_matches(|character: char| !character.is_alphanumeric())
                });
                if let Some(core) = core {
                    console.hide(core.to_owned().into());
                }
            }
            if let Some(problem) = value
                .as_str()
                .filter(|_| is_secret)
                .and_then(|secret| wrapped(&member.name, secret))
            {
                return Err(Problem::new(member.node.span.clone(), problem.0).help(problem.1));
            }
            object.insert(member.name.clone(), value);
        }
        resolver.warn(config);
        Ok(Json::Object(object))
    }

    /// The source with all of its streams.
    pub(crate) fn with_all_streams(&self) -> Self {
        Self {
            streams: None,
            max_rejected: MaxRejected::default(),
            contract: ContractTable::default(),
            quality: QualityTable::default(),
            fresh_streams: Vec::new(),
            ..self.clone()
        }
    }

    /// The warning about a secret in a file that every user of the machine can read.
    fn exposed(&self, config: &Config, registry: &Registry) -> Option<Problem> {
        let secrets = schema::secrets(registry.spec(&self.connector).ok()?);
        let is_inline = |node: &Node| matches!(&node.value, Value::Text(text) if !reference::is_reference(text));
        let member =
            self.members.0.iter().find(|member| {
                secrets.contains(&member.name.as_str()) && is_inline(&member.node)
            })?;
        let name = &config.document.name;
        let problem = Problem::new(
            member.span.clone(),
            format!("{name} contains a secret, and every user of this machine can read it"),
        );
        config.is_exposed.then(|| {
            problem.help(format!(
                "run `chmod 600 {name}`, or refer to a variable or a file instead of writing the \
                 secret"
            ))
        })
    }

    fn check_members(&self, spec: &Json) -> Result<(), Problem> {
        let mut known: Vec<&str> = schema::members(spec);
        for own in own_members() {
            known.push(own);
        }
        known_members(
            &self.members,
            &format!("sources.{}", shown_name(&self.name)),
            &known,
        )
    }

    /// Shows what the connector found wrong at the member that it names.
    fn config_failure(
        &self,
        error: &Error,
        spec: &Json,
        config: &Config,
        shown: impl Fn(Problem) -> Failure,
    ) -> Failure {
        if error.kind() != ErrorKind::ConfigInvalid {
            return error.into();
        }
        let field = error.context_value("field").unwrap_or_default();
        let located = self.members.locate(field);
        let is_harmless = located
            .as_ref()
            .is_some_and(|span| config.is_harmless(span) && !self.is_reference(field));
        let message = if is_harmless {
            error.message().to_owned()
        } else {
            self.without_values(&without_value(error.message()), config)
        };
        let span = located.unwrap_or_else(|| self.header.clone());
        let at = if field.is_empty() || field == "." || !is_name(field) {
            String::new()
        } else {
            format!("`{field}`: ")
        };
        let mut problem = Problem::new(
            span,
            format!(
                "sources.{}: {at}{}",
                shown_name(&self.name),
                plain(&message)
            ),
        );
        problem.help = error
            .help()
            .map(ToOwned::to_owned)
            .or_else(|| self.help(spec, field, error.message()));
        shown(problem)
    }

    fn is_reference(&self, field: &str) -> bool {
        let member = self.members.get(field);
        member.is_some_and(|member| matches!(&member.node.value, Value::Text(text) if reference::is_reference(text)))
    }

    /// A connector's own words without the values of this source that may be secrets.
    fn without_values(&self, message: &str, config: &Config) -> String {
        let mut message = message.to_owned();
        for (text, span) in self.members.texts() {
            if text.len() >= 4 && !config.is_harmless(span) {
                message = message.replace(text, crate::console::HIDDEN);
                message = message.replace(
                    text.escape_debug().to_string().as_str(),
                    crate::console::HIDDEN,
                );
            }
        }
        message
    }

    /// What the connector's specification says about the member that an error is about.
    fn help(&self, spec: &Json, field: &str, message: &str) -> Option<String> {
        let missing = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let name = missing.unwrap_or(field);
        let property = schema::properties(spec)
            .into_iter()
            .find(|property| property.name == name)?;
        let about = property.summary().replace('\n', " ");
        Some(match missing {
            Some(name) => format!(
                "add {name} = {}: {about}",
                property.example(&self.connector)
            ),
            None => format!("{name}: {about}"),
        })
    }

    fn selection(&self, connector: &dyn Connector) -> Result<Selection, Problem> {
        let Some(streams) = &self.streams else {
            return Ok(Selection::All);
        };
        known_streams(connector, streams)?;
        Ok(Selection::Named(
            streams.iter().map(|(name, _)| name.clone()).collect(),
        ))
    }

    /// When it is run.
    pub(crate) fn timing(&self) -> &SourceSettings {
        &self.timing
    }

    /// What is done with the webhooks of the source, as it was built.
    pub(crate) fn webhook(
        &self,
        source: &Source,
        config: &Config,
        console: &Console,
    ) -> Result<Option<WebhookSettings>> {
        let Some(webhook) = &self.webhook else {
            return Ok(None);
        };
        let settings = webhook.settings(source, &self.connector, config, console);
        settings.map(Some).map_err(|problem| {
            let failure = config.failure(&problem);
            Failure {
                text: console.redact(&failure.text),
                ..failure
            }
        })
    }

    /// What its rows are checked for.
    pub(crate) fn quality(&self) -> Vec<QualityCheck> {
        self.quality.checks()
    }

    /// What its records may have that is not declared.
    pub(crate) fn contracts(&self) -> StreamContracts {
        self.contract.contracts.clone()
    }

    /// How many records its streams may have rejected.
    pub(crate) fn budget(&self) -> ErrorBudget {
        self.max_rejected.budget.clone()
    }
}

/// Refuses streams that the connector does not have.
pub(super) fn known_streams(
    connector: &dyn Connector,
    streams: &[(String, Span)],
) -> Result<(), Problem> {
    let known = stream_names(connector);
    let Some((unknown, span)) = streams
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    else {
        return Ok(());
    };
    let is_close = |name: &str| closest(name, known.iter().copied()).is_some();
    let mut problem = Problem::new(
        span.clone(),
        super::unknown("stream", unknown, known.iter().copied()),
    );
    problem.harmless = streams
        .iter()
        .filter(|(name, _)| is_close(name))
        .map(|(_, span)| span.clone())
        .collect();
    Err(problem.help(suggest_or(unknown, "streams", known, "pipeline discover")))
}

/// The problem of a secret with white space or quotation marks around it, as copying leaves them:
/// the vendor's error would only report that the secret is invalid.
fn wrapped(name: &str, secret: &str) -> Option<(String, &'static str)> {
    const QUOTES: [(char, char); 6] = [
        ('"', '"'),
        ('\'', '\''),
        ('`', '`'),
        ('\u{201C}', '\u{201D}'),
        ('\u{2018}', '\u{2019}'),
        ('<', '>'),
    ];
    // What copying from a web page or a document leaves is as invisible as white space.
    let is_invisible = |character: char| {
        character.is_whitespace()
            || matches!(character, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
    };
    if secret.trim_matches(is_invisible) != secret {
        let help =
            "remove the white space; in a file or a variable it may be a trailing line break";
        return Some((
            format!("the value of `{name}` begins or ends with white space"),
            help,
        ));
    }
    let is_quoted = QUOTES.iter().any(|(open, close)| {
        secret
            .strip_prefix(*open)
            .is_some_and(|rest| rest.ends_with(*close))
    });
    let help =
        "remove the quotation marks inside the string: the value is sent exactly as it is written";
    is_quoted.then(|| (format!("the value of `{name}` is in quotation marks"), help))
}

/// The message without names of Rust's types.
fn plain(message: &str) -> String {
    let types = ["u8", "u16", "u32", "u64", "i64", "usize"].map(|name| (name, "a whole number"));
    let mut types = types
        .into_iter()
        .chain([("f64", "a number"), ("a boolean", "true or false")]);
    let known = types.find_map(|(name, plain)| {
        Some(format!(
            "{}expected {plain}",
            message.strip_suffix(&format!("expected {name}"))?
        ))
    });
    known.unwrap_or_else(|| message.to_owned())
}

/// The names of all streams of a connector.
pub(crate) fn stream_names(connector: &dyn Connector) -> Vec<&str> {
    connector
        .endpoints()
        .iter()
        .flat_map(|endpoint| endpoint.streams().map(pipeline_core::Stream::name))
        .collect()
}

fn streams(node: &Node) -> Result<Vec<(String, Span)>, Problem> {
    let wrong = |span: &Span| {
        Problem::new(span.clone(), "`streams` must be a list of names")
            .help("write streams = [\"charges\", \"customers\"]")
    };
    let Value::List(items) = &node.value else {
        return Err(wrong(&node.span));
    };
    if items.is_empty() {
        return Err(Problem::new(node.span.clone(), "`streams` is empty")
            .help("name at least one, or remove `streams` to read all"));
    }
    let name = |item: &Node| match &item.value {
        Value::Text(name) => Ok((name.clone(), item.span.clone())),
        _ => Err(wrong(&item.span)),
    };
    items.iter().map(name).collect()
}

/// Sources that share limits, observers and tokens.
pub(crate) fn build_all(
    config: &Config,
    selected: &[&SourceConfig],
    registry: &Registry,
    context: &BuildContext,
    console: &Arc<Console>,
) -> Result<Vec<Source>> {
    if let Some(exposed) = selected
        .iter()
        .find_map(|source| source.exposed(config, registry))
    {
        console.note(&config.warning(&exposed));
    }
    selected
        .iter()
        .map(|source| source.build(config, registry, context, console))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_with_marks_or_space_around_it_is_refused() {
        for secret in [
            "\"sk_1\"",
            "'sk_1'",
            "`sk_1`",
            "\u{201C}sk_1\u{201D}",
            "<sk_1>",
            " sk_1",
            "sk_1 ",
            "\u{FEFF}sk_1",
            "sk_1\u{200B}",
            "sk_1\n",
            "\tsk_1",
        ] {
            let (message, help) = wrapped("api_key", secret).unwrap_or_default();
            assert!(
                message.contains("api_key") && !help.is_empty(),
                "{secret:?}"
            );
            assert!(!message.contains("sk_1"), "{message}");
        }
        for secret in ["sk_1", "sk 1", "\"sk_1", "sk_1'", "a\"b\"c", "\"", ""] {
            assert_eq!(wrapped("api_key", secret), None, "{secret:?}");
        }
    }
}
