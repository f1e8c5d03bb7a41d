//! G: what destinations do.

use crate::deeds::{dropped_table, emptied_table};
use crate::runs::{locked, refused_row};
use crate::scenario::Scenario;
use crate::table::Reaction::{Absorb, FailRun, Quarantine, Retry};
use crate::table::{Fault, fault, not_applicable};

/// The faults of this group.
pub(crate) fn sinks() -> Vec<Fault> {
    let changed = || {
        Scenario::stripe()
            .prepared()
            .exits(5)
            .says("charges")
            .refreshed()
    };
    vec![
        fault(
            "G01",
            "The destination fails before, in, or after a commit",
            FailRun,
            "5",
            "the next run reads from the destination what was committed",
        )
        .engine("tests::a_destination_that_fails_at_any_commit_loses_and_repeats_nothing")
        .test(
            "destination-sqlite",
            "--test=it",
            "nothing_is_visible_before_the_commit",
        ),
        fault(
            "G02",
            "The database is locked",
            Retry,
            "0 or 5",
            "the commit waits for a while; then the message says who is in the way",
        )
        .does("for_two_seconds", locked)
        .test(
            "destination-sqlite",
            "--test=it",
            "a_second_process_is_told_who_is_in_the_way",
        ),
        fault(
            "G03",
            "The database refuses one row",
            Quarantine,
            "0 or 5",
            "no row is lost: the run names the table, and continues when the rule is gone",
        )
        .does("by_a_trigger_of_the_users", refused_row),
        not_applicable(
            "G04",
            "Object store: slow down, failed conditions, left-over parts",
            "No destination is an object store.",
        ),
        not_applicable(
            "G05",
            "A rival commits to the same table of a table format",
            "A Delta log follows the manifests, and an entry is made only once; of two writers to \
             the same files one is refused (F08).",
        ),
        fault(
            "G06",
            "Another program drops, empties, or changes a table",
            FailRun,
            "5",
            "the difference to the log of commits is an error that names the table; \
             `--full-refresh` reads it again",
        )
        .plays("a_dropped_table", changed().before(dropped_table))
        .plays("an_emptied_table", changed().before(emptied_table))
        .test(
            "destination-sqlite",
            "--test=it",
            "a_table_of_somebody_else_is_left_alone",
        ),
        fault(
            "G07",
            "The destination is slow",
            Absorb,
            "0",
            "reading waits, and memory stays bounded",
        )
        .test(
            "connector-mixpanel",
            "--test=export",
            "c14_while_the_destination_stalls_nothing_more_is_read_than_it_was_given",
        ),
        fault(
            "G08",
            "The permission to write is taken away",
            FailRun,
            "5",
            "what was committed stays, and the next run resumes",
        )
        .test(
            "pipeline-cli",
            "--test=it",
            "failures::a_destination_that_cannot_be_written_ends_with_5",
        ),
    ]
}
