//! The fault matrix: for every fault a scenario, the reaction to it, and what must hold after it.
//!
//! Each scenario is a test of its own, named by its code: `cargo test --test faults -- A03`.
//! `cargo xtask faults` runs them together with the tests elsewhere that the table names, and
//! writes `docs/faults.md` from the same table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test; lists are printed"
)]

mod acts;
mod between;
mod crash;
mod deeds;
mod document;
mod matrix;
mod mix;
mod place;
mod rows;
mod runs;
mod scenario;
mod stage;
mod table;
mod tls;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::table::{Fault, Proof};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        // For `cargo xtask faults`.
        Some("--document") => print!("{}", document::render(&table::all())),
        Some("--references") => print!("{}", document::references(&table::all())),
        // For `cargo xtask crash`.
        Some("--crash") => return crash::run(&args[1..]),
        // For `cargo xtask faults --seeds`.
        Some("--mix") => return mix::run(&args[1..]),
        // Scenarios use signals, and limits that a shell sets.
        _ if !cfg!(target_os = "linux") => println!("SKIPPED: the scenarios run on Linux only"),
        _ => return libtest_mimic::run(&Arguments::from_args(), trials(table::all())).exit_code(),
    }
    ExitCode::SUCCESS
}

fn trials(faults: Vec<Fault>) -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("the_table_has_every_code_and_a_proof_for_each", || {
            Ok(document::complete(&table::all())?)
        }),
        Trial::test("the_document_is_current", || {
            Ok(document::current(&table::all())?)
        }),
    ];
    for fault in faults {
        for proof in fault.proofs {
            if let Proof::Scenario(case, act) = proof {
                trials.push(Trial::test(
                    format!("{}_{case}", fault.code),
                    move || -> Result<(), Failed> {
                        act();
                        Ok(())
                    },
                ));
            }
        }
    }
    trials.extend(mix::trials());
    trials
}
