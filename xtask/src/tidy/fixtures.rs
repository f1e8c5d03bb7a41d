//! What fixtures must and may not hold.

use std::fs;
use std::path::Path;

use pipeline_testkit::{Exchange, Fixture};

use super::{relative, walk};
use crate::output::Outcome;

/// Beginnings of credentials that work.
const KEYS: [&str; 12] = [
    "sk_live_",
    "rk_live_",
    "sk_org_live_",
    "whsec_",
    "Bearer ",
    "Basic ",
    "AKIA",
    "xoxb-",
    "xoxp-",
    "ghp_",
    "eyJhbGciOi",
    "-----BEGIN",
];

/// Headers of a response that hold credentials.
const SECRET_HEADERS: [&str; 3] = ["authorization", "set-cookie", "www-authenticate"];

/// Checks the rules on fixtures.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let folder = root.join("fixtures");
    let mut problems = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() && !root.join(format!("crates/connector-{name}")).is_dir() {
            problems.push(format!(
                "fixtures/{name}: no connector has this name; rename the folder, or delete it"
            ));
        } else if path.is_dir() {
            problems.extend(check_cases(&name, &path)?);
        }
    }
    for file in walk(&folder)? {
        let text =
            fs::read_to_string(&file).map_err(|error| format!("{}: {error}", relative(&file)))?;
        problems.extend(check_keys(&relative(&file), &text));
    }
    Ok(problems)
}

fn check_cases(connector: &str, folder: &Path) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    for case in Fixture::load_all(folder)? {
        match case {
            Ok(fixture) => {
                problems.extend(
                    fixture
                        .exchanges
                        .iter()
                        .filter_map(|exchange| check_headers(connector, &fixture.name, exchange)),
                );
            }
            Err(error) => problems.push(format!(
                "fixtures/{connector}/{error}; the format is in fixtures/README.md"
            )),
        }
    }
    Ok(problems)
}

fn check_headers(connector: &str, case: &str, exchange: &Exchange) -> Option<String> {
    let secret = exchange
        .response
        .headers
        .keys()
        .find(|name| SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()))?;
    Some(format!(
        "fixtures/{connector}/{case}: delete the response header `{secret}`, which no connector \
         reads"
    ))
}

fn check_keys(path: &str, text: &str) -> Vec<String> {
    let found = text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, KEYS.iter().find(|key| holds(line, key))?)));
    found
        .map(|(number, key)| {
            format!(
                "{path}:{number}: `{key}` begins a real credential; put an invented value there, \
                 such as `sk_test_fixture`"
            )
        })
        .collect()
}

/// Whether a line holds a key, which continues after its beginning: prose about keys does not.
fn holds(line: &str, key: &str) -> bool {
    let goes_on = |at: usize| {
        line[at + key.len()..]
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || "_-+/=.".contains(*letter))
            .count()
    };
    key.starts_with('-') && line.contains(key)
        || line.match_indices(key).any(|(at, _)| goes_on(at) >= 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_prose_is_not() {
        for line in [
            concat!("\"sk_li", "ve_51Habcdefgh\""),
            "Authorization: Bearer abcdefghij",
            concat!("AK", "IAIOSFODNN7EXAMPLE"),
        ] {
            assert_eq!(check_keys("a.json", line).len(), 1, "{line}");
        }
        for line in [
            "sk_test_fixture",
            "keys begin with sk_live_ or rk_live_",
            "\"token_type\": \"Bearer\"",
            "Basic plan",
        ] {
            assert!(check_keys("a.json", line).is_empty(), "{line}");
        }
    }
}
