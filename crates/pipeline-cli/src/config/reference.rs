//! References in strings: `${NAME}`, `${NAME:-default}` and `file:PATH`.

use std::path::{Path, PathBuf};

use super::bounded;
use super::harmless::{is_name, is_plain};

/// Largest secret that a file may hold, in bytes.
const SECRET_BYTES: u64 = 64 << 10;

/// What a string in the configuration stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The value.
    pub(crate) text: String,
    /// What came from outside the file, and so is never shown.
    pub(crate) hidden: Vec<String>,
    /// A file that others can read as well.
    pub(crate) exposed: Option<PathBuf>,
}

/// Why a reference has no value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: String,
}

/// True for text that is one reference and nothing else, so that it names where a value is and does
/// not hold one.
pub(super) fn is_reference(text: &str) -> bool {
    match text.strip_prefix("file:") {
        Some(path) => is_plain(path),
        None => text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .is_some_and(is_variable),
    }
}

/// True for a conventional name of a variable. A secret written in place of a name is not one.
fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        && is_name(name)
}

/// Replaces the references in a string. `file:` paths are relative to `folder`; `$${` stands for
/// `${`.
pub(crate) fn resolve(
    text: &str,
    folder: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Resolved, Unresolved> {
    if let Some(path) = text.strip_prefix("file:") {
        return read(&folder.join(path));
    }
    let mut resolved = Resolved {
        text: String::new(),
        hidden: Vec::new(),
        exposed: None,
    };
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            resolved.text.push_str(before);
            resolved.text.push_str("${");
            rest = &reference[2..];
            continue;
        }
        resolved.text.push_str(before);
        let Some((inner, tail)) = reference[2..].split_once('}') else {
            return Err(Unresolved {
                message: "unterminated reference: `${` has no matching `}`".to_owned(),
                help: "write ${NAME}, or $${ for a literal ${".to_owned(),
            });
        };
        let (name, default) = inner
            .split_once(":-")
            .map_or((inner, None), |(name, default)| (name, Some(default)));
        match (variable(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => {
                resolved.text.push_str(&value);
                resolved.hidden.push(value);
            }
            (None, Some(default)) => resolved.text.push_str(default),
            (None, None) if is_variable(name) => {
                return Err(Unresolved {
                    message: format!("the environment variable {name} is not set"),
                    help: format!("set it: export {name}=…, or give a default: ${{{name}:-…}}"),
                });
            }
            (None, None) => {
                return Err(Unresolved {
                    message: "the environment variable is not set".to_owned(),
                    help: "write the name of a variable between ${ and }, such as ${API_KEY}, not \
                           its value"
                        .to_owned(),
                });
            }
        }
        rest = tail;
    }
    resolved.text.push_str(rest);
    Ok(resolved)
}

/// A secret from a file, without the newline that editors put at its end.
fn read(path: &Path) -> Result<Resolved, Unresolved> {
    let shown = if is_plain(&path.display().to_string()) {
        format!("{} ", path.display())
    } else {
        String::new()
    };
    let text = bounded::read(path, SECRET_BYTES).map_err(|error| Unresolved {
        message: format!("the file {shown}cannot be read: {}", reason(&error)),
        help: match error.kind() {
            std::io::ErrorKind::FileTooLarge | std::io::ErrorKind::TimedOut => {
                "choose a file that contains only the secret"
            }
            _ => "the path is relative to the configuration file",
        }
        .to_owned(),
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text).to_owned();
    Ok(Resolved {
        hidden: vec![text.clone()],
        text,
        exposed: bounded::is_readable_by_others(path).then(|| path.to_owned()),
    })
}

/// The cause without the number of the system's error.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(of: &str) -> Result<String, String> {
        let variable = |name: &str| match name {
            "KEY" => Some("k1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        resolve(of, Path::new("."), variable)
            .map(|resolved| resolved.text)
            .map_err(|error| error.message)
    }

    #[test]
    fn references_are_replaced_where_they_stand() {
        let cases = [
            ("plain", "plain"),
            ("a-${KEY}-${KEY}", "a-k1-k1"),
            ("${NONE:-https://x}", "https://x"),
            ("${EMPTY:-d}", "d"),
            ("${KEY:-d}", "k1"),
            ("$${KEY}", "${KEY}"),
            ("100 $", "100 $"),
        ];
        for (reference, value) in cases {
            assert_eq!(text(reference).unwrap(), value, "{reference}");
        }
        assert!(text("${NONE}").unwrap_err().contains("NONE is not set"));
        assert!(text("${KEY").unwrap_err().contains("no matching `}`"));
    }

    #[test]
    fn only_what_comes_from_outside_is_hidden() {
        let hidden = |of: &str| {
            resolve(of, Path::new("."), |_| Some("v".to_owned()))
                .unwrap()
                .hidden
        };
        assert_eq!(hidden("https://${A}:-${A}"), ["v", "v"]);
        assert!(hidden("plain").is_empty());
    }
}
