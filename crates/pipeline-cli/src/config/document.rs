//! A configuration file as text, and problems shown at the place where they stand.

use std::collections::HashSet;
use std::fmt::Write;

use super::tree::Span;
use crate::console::HIDDEN;
use crate::exit::{Exit, Failure};

/// The file's name and text.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file as the user named it.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// Something wrong at a place.
#[derive(Debug)]
pub(crate) struct Problem {
    /// What is wrong.
    pub(crate) message: String,
    /// Where.
    pub(crate) span: Span,
    /// What would be right.
    pub(crate) help: Option<String>,
    /// True when the value on the line may be a secret.
    pub(crate) hides_value: bool,
}

impl Problem {
    /// A problem at a place.
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, help: None, hides_value: false }
    }

    /// Says what would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Document {
    /// The failure that shows file, line and column, the line with a caret under it, and what would be right.
    pub(crate) fn failure(&self, problem: &Problem) -> Failure {
        Failure { text: self.show("error", problem), exit: Exit::Usage }
    }

    /// The same as a warning.
    pub(crate) fn warning(&self, problem: &Problem) -> String {
        self.show("warning", problem)
    }

    fn show(&self, severity: &str, problem: &Problem) -> String {
        let start = problem.span.start.min(self.text.len());
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let line = shown(self.text[line_start..line_end].trim_end_matches('\r'), problem.hides_value);
        let number = self.text[..start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count() + 1;
        let end = problem.span.end.clamp(start, line_end);
        let carets = self.text[start..end].trim_end().chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        let column = column.min(line.chars().count() + 1);
        let indent: String = line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();

        let mut text = format!("{severity}: {}\n", problem.message);
        let _ = writeln!(text, "{gutter}--> {}:{number}:{column}", self.name);
        let _ = writeln!(text, "{gutter} |");
        let _ = writeln!(text, "{number} | {line}");
        let _ = write!(text, "{gutter} | {indent}{}", "^".repeat(carets));
        if let Some(help) = &problem.help {
            let _ = write!(text, "\n{gutter} = help: {help}");
        }
        text
    }
}

/// The line, without a value that may be a secret.
fn shown(line: &str, hides_value: bool) -> String {
    match line.split_once('=') {
        Some((name, _)) if hides_value => format!("{name}= {HIDDEN}"),
        _ => line.to_owned(),
    }
}

/// The known name closest to a wrong one, if it is close enough to be meant.
pub(crate) fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (distance(wrong, name), name));
    scored.filter(|(distance, name)| *distance <= name.len().max(wrong.len()) / 3 + 1).min().map(|(_, name)| name)
}

/// The help for a name that is not known: what was probably meant, and all that are known, each once.
pub(crate) fn suggest<'a>(wrong: &str, what: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let mut seen = HashSet::new();
    let all = known.clone().into_iter().filter(|name| seen.insert(*name)).collect::<Vec<_>>().join(", ");
    match closest(wrong, known) {
        Some(name) => format!("did you mean `{name}`? known {what}: {all}"),
        None => format!("known {what}: {all}"),
    }
}

/// Letters to change, add or drop (Levenshtein), case aside.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(l != *r)).min(row[j] + 1).min(above + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_suggested_only_when_it_is_close() {
        let known = ["charges", "customers", "invoices"];
        assert_eq!(closest("charge", known), Some("charges"));
        assert_eq!(closest("Custmers", known), Some("customers"));
        assert_eq!(closest("tickets", known), None);
    }

    #[test]
    fn a_place_at_the_end_of_a_text_without_newline_is_shown() {
        let document = Document { name: "a.toml".to_owned(), text: "x = 1\ny".to_owned() };
        assert_eq!(document.show("error", &Problem::new(7..7, "no value")), "error: no value\n --> a.toml:2:2\n  |\n2 | y\n  |  ^");
    }
}
