//! Which module may use which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::sources::is_rust;
use super::{relative, walk};
use crate::output::Outcome;

const SOURCES: &str = "crates/pipeline-core/src";

/// The modules of core, the lowest first. A module uses those of the rows above its own, and not
/// its neighbours, so that there is no circle.
const LAYERS: [&[&str]; 8] = [
    &["clock", "error", "failpoints", "host"],
    &["json", "memory", "webhook"],
    &["model"],
    &["event", "message"],
    &["rate_limit", "trace"],
    &["http"],
    &["connector"],
    &["declarative"],
];

/// Further crates whose modules have no circle. Their order follows from the imports.
const WITHOUT_CIRCLE: [&str; 4] = [
    "destination-jsonl",
    "destination-parquet",
    "destination-sql",
    "pipeline-engine",
];

/// Checks the order of core's modules, and that those of other crates have one.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let core = sources(&root.join(SOURCES))?;
    let mut problems = problems(core.iter().map(|(path, text)| (&**path, &**text)));
    for name in WITHOUT_CIRCLE {
        let folder = format!("crates/{name}/src");
        let files = sources(&root.join(&folder))?;
        let circle = circle(&graph(&folder, &files));
        problems.extend(circle.map(|modules| {
            format!("{folder}: a circle of modules, {modules}: move what they share below them")
        }));
    }
    Ok(problems)
}

/// Source files below a folder, as path and text, without tests.
fn sources(folder: &Path) -> Outcome<Vec<(String, String)>> {
    let mut files = Vec::new();
    for file in walk(folder)? {
        let path = relative(&file);
        if is_rust(&path) && !is_test(&path) {
            files.push((path, fs::read_to_string(&file)?));
        }
    }
    Ok(files)
}

/// Which module uses which others of its crate.
fn graph<'a>(folder: &str, files: &'a [(String, String)]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in files {
        if let Some(module) = module_below(folder, path) {
            let used = uses(text).flat_map(|(_, used)| used.split(|letter: char| !is_word(letter)));
            graph
                .entry(module)
                .or_default()
                .extend(used.filter(|used| *used != module));
        }
    }
    graph
}

/// A circle of a graph, in words; none when there is none.
fn circle(graph: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    let mut left = graph.clone();
    // A module that uses none of those that are left is in no circle.
    while let Some(module) = left
        .iter()
        .find(|(_, used)| !used.iter().any(|used| left.contains_key(used)))
        .map(|(module, _)| *module)
    {
        left.remove(module);
    }
    let mut walk = vec![*left.keys().next()?];
    loop {
        let next = *left[walk.last()?]
            .iter()
            .find(|used| left.contains_key(*used))?;
        let begin = walk.iter().position(|module| *module == next);
        walk.push(next);
        if let Some(begin) = begin {
            return Some(walk[begin..].join(" uses "));
        }
    }
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// What is wrong with the imports of source files, given as path and text.
fn problems<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in files {
        let Some(module) = module(path) else { continue };
        let Some(own) = layer(module) else {
            problems.push(format!(
                "{path}: the module {module} has no place in the order; add it to LAYERS in \
                 xtask/src/tidy/layers.rs"
            ));
            continue;
        };
        for (number, used) in uses(text).filter(|(_, used)| *used != module) {
            let below = layer(used);
            if below.is_some_and(|below| below < own) {
                continue;
            }
            problems.push(match below {
                Some(_) => format!(
                    "{path}:{number}: {module} must not use {used}: move what both need below \
                     {module}"
                ),
                None => format!(
                    "{path}:{number}: import `{used}` from the module that defines it, so that the \
                     order can be checked"
                ),
            });
        }
    }
    problems
}

/// The module of core that a file belongs to.
fn module(path: &str) -> Option<&str> {
    module_below(SOURCES, path)
}

/// The module of a crate that a file belongs to; none for the root, which only exports.
fn module_below<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let below = path.strip_prefix(folder)?.trim_start_matches('/');
    let first = below.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What a file uses of its crate, by line: the first segment after `crate::`, or all of a group.
/// Comments and the tests of a file do not count.
fn uses(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("mod tests {"));
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(index, line)| {
        let places = line
            .match_indices("crate::")
            .filter(|(at, _)| !line[..*at].ends_with(is_word));
        places.map(move |(at, found)| {
            let rest = &line[at + found.len()..];
            let end = if rest.starts_with('{') {
                rest.find('}')
            } else {
                rest.find(|letter| !is_word(letter))
            };
            (index + 1, &rest[..end.unwrap_or(rest.len())])
        })
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        problems([(format!("{SOURCES}/{path}").as_str(), text)].into_iter())
    }

    #[test]
    fn arrows_go_down() {
        let text = "use crate::error::Result;\nuse crate::http::HttpClient;\nuse \
                    crate::declarative::session::SessionExt;\n";
        assert_eq!(found("declarative/walk.rs", text), [""; 0]);
        assert_eq!(found("lib.rs", text), [""; 0]);
    }

    #[test]
    fn arrows_up_and_to_a_neighbour_are_reported_at_their_line() {
        let up = found("model/state.rs", "\nuse crate::http::HttpClient;\n");
        assert!(
            up[0].starts_with("crates/pipeline-core/src/model/state.rs:2: model must not use http"),
            "{up:?}"
        );
        assert_eq!(
            found("message.rs", "let event = crate::event::Event::default();").len(),
            1
        );
        assert_eq!(found("memory/pool.rs", "use crate::json::scan;").len(), 1);
    }

    #[test]
    fn only_code_of_the_module_counts() {
        let text = "/// See [`Call`](crate::http::Call).\n#[cfg(test)]\nmod tests \
                    {\n    use crate::http::Call;\n}\n";
        assert_eq!(found("error.rs", text), [""; 0]);
        assert_eq!(
            found("error.rs", "use pipeline_crate::http::Call;"),
            [""; 0]
        );
    }

    #[test]
    fn what_cannot_be_placed_is_reported() {
        assert!(found("new.rs", "")[0].contains("add it to LAYERS"));
        assert!(
            found("http.rs", "use crate::{Error, Result};")[0]
                .contains("from the module that defines it")
        );
        assert!(found("http.rs", "use crate::Error;")[0].contains("`Error`"));
    }

    #[test]
    fn circles_are_found_and_what_hangs_on_them_is_not_blamed() {
        let files = |texts: &[(&str, &str)]| {
            texts
                .iter()
                .map(|(path, text)| (format!("src/{path}"), (*text).to_owned()))
                .collect::<Vec<_>>()
        };
        let round = files(&[
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::{Error, c};"),
            ("c/inner.rs", "use crate::d::D;\nuse crate::b::B;"),
            ("d.rs", ""),
            ("lib.rs", "use crate::a::A;"),
        ]);
        assert_eq!(
            circle(&graph("src", &round)).as_deref(),
            Some("b uses c uses b")
        );
        assert_eq!(circle(&graph("src", &round[..2])), None);
    }
}
