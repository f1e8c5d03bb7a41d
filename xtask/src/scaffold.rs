//! What the tasks share that write a new crate: its names, its files, and the lists that it is
//! added to.

use std::fs;

use crate::output::{Outcome, cargo_step, has_component, root};

/// A file of a crate: where it goes and what it holds. `{{name}}` and so on are replaced in both.
pub(crate) type Template = (&'static str, &'static str);

/// One line to add to a list of connectors or destinations.
pub(crate) struct Entry {
    /// The file that has the list.
    pub(crate) file: &'static str,
    /// The list is the lines that begin so.
    pub(crate) list: &'static str,
    /// The line.
    pub(crate) line: &'static str,
}

/// Writes a crate, and adds it to the lists. Nothing is written when one of them does not fit.
pub(crate) fn write(name: &Spellings, files: &[Template], entries: &[Entry]) -> Outcome {
    for (file, text) in changes(name, files, entries)? {
        let path = root().join(&file);
        fs::create_dir_all(path.parent().unwrap_or(root()))?;
        fs::write(&path, text)?;
        eprintln!("wrote {file}");
    }
    Ok(())
}

/// Formats crates, where there is a formatter.
pub(crate) fn format(packages: &[&str]) -> Outcome {
    if !has_component("fmt") {
        return Ok(());
    }
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    cargo_step(&["fmt"].into_iter().chain(packages).collect::<Vec<_>>())
}

/// A crate's name in its spellings.
pub(crate) struct Spellings {
    /// `acme-desk`
    pub(crate) plain: String,
    /// `acme_desk`
    pub(crate) snake: String,
    /// `AcmeDesk`
    pub(crate) camel: String,
}

impl Spellings {
    pub(crate) fn new(name: &str) -> Outcome<Self> {
        let is_part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !name.starts_with(|first: char| first.is_ascii_lowercase())
            || !name.split('-').all(is_part)
        {
            return Err(format!(
                "invalid name `{name}`: use lower case letters and digits, with single hyphens \
                 between"
            )
            .into());
        }
        let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
        Ok(Self {
            plain: name.to_owned(),
            snake: name.replace('-', "_"),
            camel: name.split('-').map(capital).collect(),
        })
    }

    pub(crate) fn fill(&self, template: &str) -> String {
        template
            .replace("{{name}}", &self.plain)
            .replace("{{ident}}", &self.snake)
            .replace("{{Type}}", &self.camel)
    }
}

/// Every file to write, new or changed, with its whole text.
fn changes(
    name: &Spellings,
    files: &[Template],
    entries: &[Entry],
) -> Outcome<Vec<(String, String)>> {
    let mut changes: Vec<(String, String)> = files
        .iter()
        .map(|(path, text)| (name.fill(path), name.fill(text)))
        .collect();
    if let Some((path, _)) = changes.iter().find(|(path, _)| root().join(path).exists()) {
        return Err(format!("{path} is there already").into());
    }
    for entry in entries {
        let text = current(&mut changes, entry.file)?;
        *text = insert(text, entry.list, &name.fill(entry.line))
            .ok_or_else(|| format!("{}: found no `{}`", entry.file, entry.list))?;
    }
    Ok(changes)
}

/// The text of a file as changed so far.
fn current<'a>(changes: &'a mut Vec<(String, String)>, file: &str) -> Outcome<&'a mut String> {
    let known = changes.iter().position(|(path, _)| path == file);
    if known.is_none() {
        let text =
            fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
        changes.push((file.to_owned(), text));
    }
    let index = known.unwrap_or(changes.len() - 1);
    Ok(&mut changes[index].1)
}

/// Adds a line to the lines that begin with `list`, in its place by the alphabet.
fn insert(text: &str, list: &str, line: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().rposition(|known| known.starts_with(list))?;
    let after = lines
        .iter()
        .position(|known| known.starts_with(list) && *known > line);
    lines.insert(after.unwrap_or(end + 1), line);
    Some(lines.join("\n") + "\n")
}

/// Fails unless every list has a crate that is known to be there, in its place by the alphabet.
#[cfg(test)]
pub(crate) fn assert_known(entries: &[Entry], known: &str) {
    #![allow(clippy::unwrap_used)]
    let name = Spellings::new(known).unwrap();
    for entry in entries {
        let text = fs::read_to_string(root().join(entry.file)).unwrap();
        let list: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(entry.list))
            .collect();
        let line = name.fill(entry.line);
        let head = &line[..line.find(known).unwrap() + known.len()];
        assert!(
            list.iter().any(|line| line.starts_with(head)),
            "{}: {head}",
            entry.file
        );
        assert!(list.is_sorted(), "{}: {list:?}", entry.file);
        let longer = insert(
            &text,
            entry.list,
            &Spellings::new("mm").unwrap().fill(entry.line),
        )
        .unwrap();
        let list: Vec<&str> = longer
            .lines()
            .filter(|line| line.starts_with(entry.list))
            .collect();
        assert!(list.is_sorted(), "{}: {list:?}", entry.file);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_have_three_spellings() {
        let name = Spellings::new("acme-desk2").unwrap();
        assert_eq!((&*name.snake, &*name.camel), ("acme_desk2", "AcmeDesk2"));
        for wrong in [
            "",
            "Acme",
            "acme_desk",
            "-acme",
            "acme--desk",
            "2acme",
            "acme/desk",
        ] {
            assert!(Spellings::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_stay_in_order() {
        let text = "a = 1\nconnector-beta = 2\nconnector-zeta = 3\nd = 4\n";
        let with = |line| insert(text, "connector-", line).unwrap();
        assert_eq!(
            with("connector-acme = 0"),
            "a = 1\nconnector-acme = 0\nconnector-beta = 2\nconnector-zeta = 3\nd = 4\n"
        );
        assert_eq!(
            with("connector-zzz = 0"),
            "a = 1\nconnector-beta = 2\nconnector-zeta = 3\nconnector-zzz = 0\nd = 4\n"
        );
        assert_eq!(insert("a = 1\n", "connector-", "connector-b = 1"), None);
    }
}
