//! Which crate may depend on which.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::output::{Outcome, cargo, root};

/// What crates of one kind may depend on within the workspace.
struct Allowed {
    /// Name of the crate, or its beginning when it ends in `-`.
    name: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
}

const RULES: &[Allowed] = &[
    Allowed {
        name: "pipeline-core",
        normal: &[],
        dev: &[],
    },
    Allowed {
        name: "pipeline-engine",
        normal: &["pipeline-core"],
        dev: &[],
    },
    Allowed {
        name: "pipeline-service",
        normal: &["pipeline-core", "pipeline-engine"],
        dev: &[],
    },
    Allowed {
        name: "pipeline-simulator",
        normal: &[],
        dev: &[],
    },
    Allowed {
        name: "pipeline-testkit",
        normal: &["pipeline-core", "pipeline-engine"],
        dev: &[],
    },
    Allowed {
        name: "pipeline-cli",
        normal: &[
            "pipeline-core",
            "pipeline-engine",
            "pipeline-service",
            "pipeline-simulator",
            "connector-",
            "destination-",
        ],
        dev: &["pipeline-testkit"],
    },
    // Whole syncs of a connector, into a real destination, are tests of the connector.
    Allowed {
        name: "connector-",
        normal: &["pipeline-core"],
        dev: &[
            "pipeline-engine",
            "pipeline-simulator",
            "pipeline-testkit",
            "destination-",
        ],
    },
    // A lake is a catalogue in SQLite and Parquet files.
    Allowed {
        name: "destination-ducklake",
        normal: &[
            "pipeline-core",
            "pipeline-engine",
            "destination-files",
            "destination-parquet",
            "destination-sql",
            "destination-sqlite",
        ],
        dev: &["pipeline-testkit"],
    },
    Allowed {
        name: "destination-",
        normal: &[
            "pipeline-core",
            "pipeline-engine",
            "destination-files",
            "destination-sql",
        ],
        dev: &["pipeline-testkit"],
    },
    Allowed {
        name: "pipeline-examples",
        normal: &[],
        dev: &[
            "pipeline-core",
            "pipeline-engine",
            "pipeline-simulator",
            "connector-",
            "destination-",
        ],
    },
    Allowed {
        name: "xtask",
        normal: &[
            "pipeline-core",
            "pipeline-engine",
            "pipeline-simulator",
            "pipeline-testkit",
            "connector-",
            "destination-",
        ],
        dev: &[],
    },
];

/// Checks the rules on dependencies.
pub(super) fn check() -> Outcome<Vec<String>> {
    let metadata = MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()?;
    let mut problems = edges(&metadata);
    problems.extend(transports(&metadata));
    problems.extend(readmes(&metadata));
    problems.extend(columns(&metadata)?);
    Ok(problems)
}

fn edges(metadata: &Metadata) -> Vec<String> {
    let members: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Some(rule) = RULES.iter().find(|rule| matches(rule.name, &package.name)) else {
            problems.push(format!(
                "{}: no rule says what it may depend on; add one to RULES in \
                 xtask/src/tidy/dependencies.rs",
                package.name
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| members.contains(dependency.name.as_str()))
        {
            let is_dev = dependency.kind == DependencyKind::Development;
            let may = |allowed: &[&str]| allowed.iter().any(|name| matches(name, &dependency.name));
            if !(may(rule.normal) || is_dev && may(rule.dev)) {
                let kind = if is_dev { "tests of " } else { "" };
                problems.push(format!(
                    "{kind}{} must not depend on {}: remove it from its Cargo.toml; what both need \
                     belongs in pipeline-core",
                    package.name, dependency.name
                ));
            }
        }
    }
    problems
}

fn matches(pattern: &str, name: &str) -> bool {
    if pattern.ends_with('-') {
        name.starts_with(pattern)
    } else {
        name == pattern
    }
}

/// Only core's feature `reqwest` brings reqwest.
fn transports(metadata: &Metadata) -> Vec<String> {
    let uses = |package: &&Package| {
        package.dependencies.iter().any(|dependency| {
            dependency.name == "reqwest" && dependency.kind != DependencyKind::Development
        })
    };
    let mut problems = Vec::new();
    for package in metadata.packages.iter().filter(uses) {
        if package.name.as_str() != "pipeline-core" {
            problems.push(format!(
                "{} depends on reqwest: send requests through pipeline_core::http::HttpClient",
                package.name
            ));
            continue;
        }
        let enabling = package.features.iter().filter(|(_, enables)| {
            enables
                .iter()
                .any(|feature| feature.contains("dep:reqwest"))
        });
        let names: Vec<&str> = enabling.map(|(name, _)| name.as_str()).collect();
        if names != ["reqwest"] {
            problems.push(format!(
                "pipeline-core brings reqwest by {names:?}: it must be optional, enabled by the \
                 feature `reqwest` alone"
            ));
        }
    }
    problems
}

fn readmes(metadata: &Metadata) -> Vec<String> {
    let lacks = |package: &&Package| {
        let folder = package.manifest_path.parent();
        package.name.as_str() != "xtask"
            && !folder.is_some_and(|folder| folder.join("README.md").exists())
    };
    let lacking = metadata.packages.iter().filter(lacks);
    lacking
        .map(|package| {
            format!(
                "{}: no README.md; write what the crate is, its limits and its gaps",
                package.name
            )
        })
        .collect()
}

/// A program that reads one vendor's API compiles no Arrow: neither core nor a connector needs it.
fn columns(metadata: &Metadata) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| has_no_arrow(&package.name))
    {
        let output = cargo(&[
            "tree",
            "--package",
            &package.name,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--quiet",
        ])
        .output()?;
        if !output.status.success() {
            return Err(format!(
                "cargo tree failed: {}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into());
        }
        let tree = String::from_utf8_lossy(&output.stdout);
        if let Some(line) = tree
            .lines()
            .find(|line| line.starts_with("arrow") || line.starts_with("parquet"))
        {
            problems.push(format!(
                "{} compiles {line}: what needs Arrow belongs in pipeline-engine or a destination",
                package.name
            ));
        }
    }
    Ok(problems)
}

fn has_no_arrow(name: &str) -> bool {
    name == "pipeline-core" || name.starts_with("connector-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_crate_has_one_rule() {
        for name in [
            "connector-acme",
            "destination-files",
            "pipeline-core",
            "pipeline-engine",
            "xtask",
        ] {
            assert_eq!(
                RULES.iter().filter(|rule| matches(rule.name, name)).count(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn connectors_depend_on_core_alone() {
        let rule = RULES.iter().find(|rule| rule.name == "connector-");
        assert!(rule.is_some_and(|rule| rule.normal == ["pipeline-core"]));
        assert!(
            RULES
                .iter()
                .filter(|rule| has_no_arrow(rule.name))
                .all(|rule| !rule.normal.contains(&"pipeline-engine"))
        );
        assert!(
            matches("connector-", "connector-stripe")
                && !matches("pipeline-core", "pipeline-core-extra")
        );
    }
}
