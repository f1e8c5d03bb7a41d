//! A configuration file as text, and problems shown at their place in it.

use std::collections::HashSet;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::harmless::{Mark, is_name};
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
    /// The names and values in it; none before it is understood.
    pub(super) marks: Option<Vec<Mark>>,
    /// Names that may be shown although the text is not understood.
    pub(super) names: Vec<String>,
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
    /// Further values that are known to be harmless.
    pub(crate) harmless: Vec<Span>,
}

impl Problem {
    /// A problem at a place.
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            help: None,
            harmless: Vec::new(),
        }
    }

    /// Says what would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Document {
    /// The failure that shows file, line and column, the line with a caret under it, and what would
    /// be right.
    pub(crate) fn failure(&self, problem: &Problem) -> Failure {
        Failure {
            text: self.show(Level::ERROR, problem),
            exit: Exit::Usage,
        }
    }

    /// The same as a warning.
    pub(crate) fn warning(&self, problem: &Problem) -> String {
        self.show(Level::WARNING, problem)
    }

    /// True when the value at a place may be shown.
    pub(super) fn is_harmless(&self, span: &Span) -> bool {
        self.marks
            .iter()
            .flatten()
            .any(|mark| mark.span == *span && mark.is_harmless)
    }

    fn show(&self, level: Level<'_>, problem: &Problem) -> String {
        // An end that a syntax error names may be inside a character.
        let start = self
            .text
            .floor_char_boundary(problem.span.start.min(self.text.len()));
        let line_start = self.text[..start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |newline| start + newline);
        let end = self
            .text
            .floor_char_boundary(problem.span.end.clamp(start, line_end));
        let number = self.text[..start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count() + 1;
        let shown = match &self.marks {
            Some(marks) => Shown::of(
                &self.text,
                line_start..line_end,
                start..end,
                marks,
                &problem.harmless,
            ),
            None => Shown::of_unknown(
                &self.text[line_start..line_end],
                start - line_start..end - line_start,
                &self.names,
            ),
        };
        let shown_column = shown.line[..shown.at.start].chars().count() + 1;
        let line = &shown.line[..shown.line.trim_end().len().max(shown.at.end)];
        let place = AnnotationKind::Primary.span(shown.at);
        let snippet = Snippet::source(line)
            .path(&*self.name)
            .line_start(number)
            .annotation(place);
        let help = problem
            .help
            .as_deref()
            .map(|help| Level::HELP.message(help));
        let report = level
            .primary_title(&*problem.message)
            .element(snippet)
            .elements(help);
        let text = Renderer::plain().term_width(WIDTH).render(&[report]);
        // The renderer counts columns in the line that is shown, where hidden values have other
        // lengths than in the file.
        text.replacen(
            &format!(":{number}:{shown_column}\n"),
            &format!(":{number}:{column}\n"),
            1,
        )
    }
}

/// Lines are not cut to the width of a terminal: a secret is recognized only as a whole.
const WIDTH: usize = 1 << 16;

/// A line as it may be shown, and which of its bytes a problem is about.
struct Shown {
    line: String,
    at: Span,
}

impl Shown {
    /// A line of a text that is understood: names and harmless values as they are, other values
    /// hidden, comments left out.
    fn of(text: &str, line: Span, at: Span, marks: &[Mark], harmless: &[Span]) -> Self {
        let mut shown = Writer {
            shown: Self {
                line: String::new(),
                at: 0..0,
            },
            at: at.clone(),
            is_open: true,
        };
        let mut place = line.start;
        while place < line.end {
            let rest = &text[place..line.end];
            let word = rest.find(|c: char| !is_bare(c)).unwrap_or(rest.len());
            let (end, is_shown) =
                if let Some(mark) = marks.iter().find(|mark| mark.span.contains(&place)) {
                    let is_whole = mark.span.start >= line.start && mark.span.end <= line.end;
                    (
                        mark.span.end.min(line.end),
                        is_whole && (mark.is_harmless || harmless.contains(&mark.span)),
                    )
                } else if word > 0 {
                    // A part of a header or of a dotted name that was seen before.
                    (place + word, is_name(&rest[..word]))
                } else if rest.starts_with(['=', '[', ']', '{', '}', ',', '.', ' ', '\t']) {
                    (place + 1, true)
                } else {
                    // A comment, a line break, or a quoted part of a name: nothing that says more.
                    break;
                };
            shown.push(&text[place..end], is_shown, place..end);
            place = end;
        }
        shown.finish()
    }

    /// A line of a text that is not understood: a header or a known name, and no value.
    fn of_unknown(line: &str, at: Span, names: &[String]) -> Self {
        let shown = unknown(line.trim_end_matches('\r'), names);
        let place = |end: usize| shown.floor_char_boundary(end.min(shown.len()));
        Self {
            at: place(at.start)..place(at.end),
            line: shown,
        }
    }
}

/// Builds the line, and tracks where a place of the text is in it.
struct Writer {
    shown: Shown,
    at: Span,
    is_open: bool,
}

impl Writer {
    fn push(&mut self, text: &str, is_shown: bool, span: Span) {
        let before = self.shown.line.len();
        self.shown
            .line
            .push_str(if is_shown { text } else { HIDDEN });
        let after = self.shown.line.len();
        if span.contains(&self.at.start) {
            self.shown.at.start = if is_shown {
                before + self.at.start - span.start
            } else {
                before
            };
            self.is_open = false;
        }
        if self.at.end > span.start && self.at.end <= span.end {
            self.shown.at.end = if is_shown {
                before + self.at.end - span.start
            } else {
                after
            };
        }
    }

    fn finish(mut self) -> Shown {
        let length = self.shown.line.len();
        let at = &mut self.shown.at;
        if self.is_open {
            *at = length..length;
        } else if self.at.is_empty() {
            at.end = at.start;
        } else if at.end <= at.start {
            at.end = length;
        }
        self.shown
    }
}

/// The part of a line that may be shown when the text cannot be parsed.
fn unknown(line: &str, names: &[String]) -> String {
    let text = line.trim();
    if text.is_empty() {
        return String::new();
    }
    let indent = &line[..line.len() - line.trim_start().len()];
    let header = text.trim_start_matches('[');
    let header = &header[..header
        .find(|c: char| !is_bare(c) && c != '.')
        .unwrap_or(header.len())];
    let is_header = closest(header.split('.').next().unwrap_or_default(), super::MEMBERS).is_some()
        && header.split('.').all(is_name);
    if text.starts_with('[') && is_header {
        let (opening, rest) = text.split_at(text.len() - text.trim_start_matches('[').len());
        let closing: String = rest[header.len()..]
            .chars()
            .take_while(|c| *c == ']')
            .collect();
        return format!("{indent}{opening}{header}{closing}");
    }
    match line.split_once('=') {
        Some((name, _)) if names.iter().any(|known| known == name.trim()) => {
            format!("{name}= {HIDDEN}")
        }
        _ => format!("{indent}{HIDDEN}"),
    }
}

/// True for what a name without quotation marks consists of.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The known name closest to a wrong one, if it is close enough to be meant.
pub(crate) fn closest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (distance(wrong, name), name));
    scored
        .filter(|(distance, name)| is_close(*distance, wrong, name))
        .min()
        .map(|(_, name)| name)
}

/// Names that a help lists. Where there are more, a command lists all.
const LISTED: usize = 24;

/// Near names that a help lists.
const NEAR: usize = 5;

/// The help for a name that is not known: what was probably meant, and all that are known, each
/// once.
pub(crate) fn suggest<'a>(
    wrong: &str,
    what: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    suggest_or(wrong, what, known, "")
}

/// The same; where there are many names only the near ones, and which command lists all.
pub(crate) fn suggest_or<'a>(
    wrong: &str,
    what: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    command: &str,
) -> String {
    let mut seen = HashSet::new();
    let all: Vec<&str> = known
        .into_iter()
        .filter(|name| seen.insert(*name))
        .collect();
    let near = near(wrong, &all);
    let meant = near
        .first()
        .map_or_else(String::new, |name| format!("did you mean `{name}`? "));
    if command.is_empty() || all.len() <= LISTED {
        return format!("{meant}known {what}: {}", all.join(", "));
    }
    let others = match near.get(1..) {
        Some(others) if !others.is_empty() => format!("similar: {}; ", others.join(", ")),
        _ => String::new(),
    };
    format!("{meant}{others}`{command}` lists all {} {what}", all.len())
}

/// The known names that are close to a wrong one, the closest first.
fn near<'a>(wrong: &str, known: &[&'a str]) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = known
        .iter()
        .map(|name| (distance(wrong, name), *name))
        .collect();
    scored.retain(|(distance, name)| is_close(*distance, wrong, name));
    scored.sort_unstable();
    scored
        .into_iter()
        .take(NEAR)
        .map(|(_, name)| name)
        .collect()
}

fn is_close(distance: usize, wrong: &str, name: &str) -> bool {
    distance <= name.len().max(wrong.len()) / 3 + 1
}

/// Letters to change, add or drop, case aside.
fn distance(left: &str, right: &str) -> usize {
    strsim::levenshtein(&left.to_lowercase(), &right.to_lowercase())
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

    fn shown(text: &str, marks: Option<Vec<Mark>>, span: Span) -> String {
        let document = Document {
            name: "a.toml".to_owned(),
            text: text.to_owned(),
            marks,
            names: Vec::new(),
        };
        document.show(Level::ERROR, &Problem::new(span, "no value"))
    }

    #[test]
    fn a_place_at_the_end_of_a_text_without_newline_is_shown() {
        assert_eq!(
            shown("x = 1\ny", Some(Vec::new()), 7..7),
            "error: no value\n --> a.toml:2:2\n  |\n2 | y\n  |  ^"
        );
    }

    #[test]
    fn the_column_is_that_of_the_file_and_the_caret_that_of_the_shown_line() {
        let text = "a = { key = \"0123456789\", x = 1 }";
        let marks = vec![Mark {
            span: 12..24,
            is_harmless: false,
        }];
        let expected = "error: no value\n --> a.toml:1:27\n  |\n1 | a = \
                        { key = [hidden], x = 1 }\n  |                       ^";
        assert_eq!(shown(text, Some(marks), 26..27), expected);
    }

    #[test]
    fn carets_stand_below_wide_characters() {
        let marks = vec![
            Mark {
                span: 4..12,
                is_harmless: true,
            },
            Mark {
                span: 14..15,
                is_harmless: true,
            },
        ];
        let expected =
            "error: no value\n --> a.toml:1:11\n  |\n1 | a = \"東京\", 7\n  |             ^";
        assert_eq!(shown("a = \"東京\", 7", Some(marks), 14..15), expected);
    }
}
