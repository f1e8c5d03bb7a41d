//! Values of the file as JSON, with references replaced.

use std::path::Path;

use serde_json::Value as Json;

use super::tree::{Member, Node, Span, Value};
use super::{Config, Problem, reference};
use crate::console::Console;

/// Replaces the references in values, and collects what has to be warned about.
pub(super) struct Resolver<'a> {
    /// What relative paths of files with secrets start from.
    folder: &'a Path,
    console: &'a Console,
    /// True when every value that comes from outside the file is hidden from now on.
    hides: bool,
    warnings: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    /// Hides every value that comes from outside the file.
    pub(super) fn hiding_all(folder: &'a Path, console: &'a Console) -> Self {
        Self {
            folder,
            console,
            hides: true,
            warnings: Vec::new(),
        }
    }

    /// Hides nothing by itself: most variables are names and places.
    pub(super) fn hiding_nothing(folder: &'a Path, console: &'a Console) -> Self {
        Self {
            hides: false,
            ..Self::hiding_all(folder, console)
        }
    }

    /// The value with its references replaced.
    pub(super) fn json(&mut self, node: &Node) -> Result<Json, Problem> {
        Ok(match &node.value {
            Value::Text(text) => Json::String(self.text(text, &node.span)?),
            Value::Plain(value) => value.clone(),
            Value::List(items) => Json::Array(
                items
                    .iter()
                    .map(|item| self.json(item))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Table(table) => {
                let member = |member: &Member| Ok((member.name.clone(), self.json(&member.node)?));
                Json::Object(table.0.iter().map(member).collect::<Result<_, Problem>>()?)
            }
        })
    }

    fn text(&mut self, text: &str, span: &Span) -> Result<String, Problem> {
        let resolved = reference::resolve(text, self.folder, |name| std::env::var(name).ok())
            .map_err(|error| Problem::new(span.clone(), error.message).help(error.help))?;
        for secret in resolved.hidden.into_iter().filter(|_| self.hides) {
            self.console.hide(secret.into());
        }
        if let Some(path) = resolved.exposed {
            let problem = Problem::new(
                span.clone(),
                format!("every user of this machine can read {}", path.display()),
            );
            self.warnings
                .push(problem.help(format!("run `chmod 600 {}`", path.display())));
        }
        Ok(resolved.text)
    }

    /// Prints what was collected.
    pub(super) fn warn(self, config: &Config) {
        for warning in self.warnings {
            self.console.note(&config.warning(&warning));
        }
    }
}
