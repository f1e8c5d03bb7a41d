//! `BENCHMARKS.md`: each bench replaces its own section and leaves the others as they are.

use std::fs;

use crate::output::{Outcome, root};

const FILE: &str = "BENCHMARKS.md";

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`; each section names the command, \
                    the machine and the day of its figures. Ratios come first:
they say more than \
                    absolute figures, which hold for one machine.
";

/// Writes a section, `text` being what follows its heading.
pub(crate) fn write(title: &str, text: &str) -> Outcome {
    let path = root().join(FILE);
    let known = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    fs::write(path, with_section(&known, title, text))?;
    Ok(())
}

/// The document with the section in its old place, or at the end when it is new.
fn with_section(document: &str, title: &str, text: &str) -> String {
    let heading = format!("## {title}\n");
    let section = format!("{heading}\n{}\n", text.trim());
    let start = document
        .find(&heading)
        .filter(|start| *start == 0 || document[..*start].ends_with('\n'));
    let Some(start) = start else {
        return format!("{}\n\n{section}", document.trim_end());
    };
    let after = start + heading.len();
    match document[after..].find("\n## ") {
        Some(next) => format!(
            "{}{section}\n{}",
            &document[..start],
            &document[after + next + 1..]
        ),
        None => format!("{}{section}", &document[..start]),
    }
}

/// The machine in one line: processor, cores, memory, and how busy it is with other things.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("unknown", |(_, value)| value)
            .trim()
            .to_owned()
    };
    let kib = field("/proc/meminfo", "MemTotal")
        .trim_end_matches(" kB")
        .parse::<u64>()
        .unwrap_or(0);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "{} x {}, {} GiB memory, {}; load {load} at the start",
        cores,
        field("/proc/cpuinfo", "model name"),
        kib >> 20,
        std::env::consts::OS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_in_its_place_and_a_new_one_comes_last() {
        let one = with_section("# B\n", "Sync", "first");
        assert_eq!(one, "# B\n\n## Sync\n\nfirst\n");
        let two = with_section(&one, "Limits", "second");
        assert_eq!(two, "# B\n\n## Sync\n\nfirst\n\n## Limits\n\nsecond\n");
        let again = with_section(&two, "Sync", "third");
        assert_eq!(again, "# B\n\n## Sync\n\nthird\n\n## Limits\n\nsecond\n");
        assert_eq!(
            with_section(&again, "Limits", "4"),
            "# B\n\n## Sync\n\nthird\n\n## Limits\n\n4\n"
        );
    }
}
