//! F: signals, disks, damaged files, clocks, and rivals.

use crate::deeds::{
    cut_data_file, cut_database, database_restored, dropped_state, empty_data_file,
    flipped_data_file, lake_moved_away, lost_data_file, lost_manifest, state_of_the_future,
    state_restored, torn_state,
};
use crate::runs::{Stop, killed, paused, stopped, three_sources, two_at_once};
use crate::scenario::{Scenario, Store};
use crate::table::Reaction::{Absorb, FailRun, FailStream};
use crate::table::{Fault, fault};

/// The faults of this group.
pub(crate) fn process() -> Vec<Fault> {
    [ends(), disks(), machines()]
        .into_iter()
        .flatten()
        .collect()
}

fn ends() -> Vec<Fault> {
    let mut kills = fault(
        "F01",
        "The process is killed, at any step",
        FailRun,
        "none",
        "rows and position are committed in one step, so the next run resumes where the last \
         commit ended; `cargo xtask crash` kills at random, as often as you like",
    );
    for (case, store) in STORES {
        kills = kills.does(case, move || killed(store));
    }
    vec![
        kills
            .test(
                "pipeline-cli",
                "--test=it",
                "kill::sqlite_holds_each_record_once_however_often_the_sync_is_killed",
            )
            .test(
                "destination-sqlite",
                "--test=it",
                "killed_anywhere_it_goes_on_where_it_was",
            )
            .test(
                "destination-parquet",
                "--test=it",
                "killed_anywhere_it_goes_on_where_it_was",
            )
            .test(
                "destination-jsonl",
                "--test=it",
                "killed_anywhere_it_goes_on_where_it_was",
            ),
        fault(
            "F02",
            "SIGINT or SIGTERM, once or twice",
            FailRun,
            "4",
            "the first commits and ends; the second ends at once",
        )
        .does("an_interrupt", || stopped(&[Stop::Interrupt]))
        .does("a_termination", || stopped(&[Stop::Terminate]))
        .does("two_interrupts", || {
            stopped(&[Stop::Interrupt, Stop::Interrupt]);
        })
        .test(
            "pipeline-cli",
            "--test=it",
            "interrupts::an_interrupt_ends_within_two_seconds_with_4_and_the_next_run_goes_on",
        ),
    ]
}

const STORES: [(&str, Store); 3] = [
    ("into_sqlite", Store::Sqlite),
    ("into_parquet", Store::Parquet),
    ("into_json_lines", Store::Jsonl),
];

fn disks() -> Vec<Fault> {
    let mut full = fault(
        "F03",
        "The disk is full",
        FailRun,
        "5",
        "what was committed stays, and nothing is said to be committed that is not",
    );
    for (case, store) in STORES {
        full = full.plays(
            case,
            Scenario::stripe()
                .into(store)
                .shell("ulimit -f 40")
                .exits(5),
        );
    }
    let mut damaged = fault(
        "F05",
        "A stored file is cut, empty, gone, or has other bytes",
        FailRun,
        "5",
        "damage is noticed at the start and never taken for emptiness; `--full-refresh` replaces a \
         damaged table; a folder without its manifest is moved away, or restored. `pipeline check \
         --deep` compares contents",
    );
    let lake = |store| {
        Scenario::stripe()
            .into(store)
            .prepared()
            .exits(5)
            .says("charges")
            .refreshed()
    };
    for (case, store) in [("parquet", Store::Parquet), ("json_lines", Store::Jsonl)] {
        damaged = damaged
            .plays(
                named("a_cut_file_of", case),
                lake(store).before(cut_data_file),
            )
            .plays(
                named("an_empty_file_of", case),
                lake(store).before(empty_data_file),
            )
            .plays(
                named("a_lost_file_of", case),
                lake(store).before(lost_data_file),
            )
            .plays(
                named("other_bytes_in", case),
                lake(store)
                    .before(flipped_data_file)
                    .args(&["check", "--deep"]),
            )
            .plays(
                named("a_lost_manifest_of", case),
                Scenario::stripe()
                    .into(store)
                    .prepared()
                    .exits(5)
                    .says("_manifest")
                    .before(lost_manifest)
                    .repair(lake_moved_away),
            );
    }
    let database = || Scenario::stripe().prepared().exits(5);
    vec![
        full.test(
            "pipeline-cli",
            "--test=it",
            "failures::a_full_disk_of_temporary_files_ends_with_5",
        )
        .test(
            "destination-files",
            "--test=it",
            "a_full_disk_while_writing_or_finishing_loses_nothing",
        ),
        fault(
            "F04",
            "The folder cannot be written; a call of the file system fails",
            FailRun,
            "5",
            "nothing is committed that is not on the disk",
        )
        .test(
            "pipeline-cli",
            "--test=it",
            "failures::a_destination_that_cannot_be_written_ends_with_5",
        )
        .test(
            "destination-parquet",
            "--test=it",
            "a6_what_cannot_be_moved_is_not_committed",
        )
        .test(
            "destination-files",
            "--test=it",
            "a_full_disk_while_writing_or_finishing_loses_nothing",
        ),
        damaged
            .plays(
                "a_torn_checkpoint",
                database().before(torn_state).repair(state_restored),
            )
            .plays(
                "checkpoints_that_were_dropped",
                database()
                    .before(dropped_state)
                    .repair(crate::deeds::state_made_again),
            )
            .plays(
                "a_cut_database",
                database().before(cut_database).repair(database_restored),
            )
            .test(
                "destination-parquet",
                "--test=it",
                "damage_is_never_taken_for_emptiness",
            )
            .test(
                "destination-parquet",
                "--test=it",
                "a12_a_damaged_table_is_replaced_by_a_refresh",
            )
            .test(
                "destination-parquet",
                "--test=it",
                "a4_lost_manifests_are_an_error_and_never_an_empty_state",
            ),
    ]
}

fn named(what: &str, store: &str) -> &'static str {
    Box::leak(format!("{what}_{store}").into_boxed_str())
}

fn machines() -> Vec<Fault> {
    let everything = |store| {
        Scenario::stripe()
            .into(store)
            .every_stream()
            .with("others", 1)
            .with("customers", 1)
            .with("charges", 40)
            .shell("ulimit -n 64")
            .at_most(400)
    };
    vec![
        fault("F06", "Little memory", Absorb, "0", "reading waits for what is being written")
            .plays("two_gib_of_addresses", Scenario::stripe().with("charges", 3_000).shell("ulimit -v 2000000").at_most(120))
            .test("pipeline-cli", "--test=acceptance", "stripe_memory::c52_memory_does_not_grow_with_the_rows"),
        fault(
            "F07",
            "The process stands still, or the clock jumps",
            Absorb,
            "0",
            "waits are counted on a clock that does not jump; no burst follows",
        )
        .does("stopped_for_a_second", paused)
        .core("rate_limit::adaptive::tests::a_request_that_left_before_a_stall_or_a_window_is_not_waited_for_afterwards"),
        fault(
            "F08",
            "Two syncs of the same sources at the same time",
            FailRun,
            "0 and 6",
            "one of them wins, and the other changes nothing",
        )
        .does("into_sqlite", || two_at_once(Store::Sqlite))
        .does("into_parquet", || two_at_once(Store::Parquet))
        .engine("tests::remembered::d5_the_second_of_two_overlapping_syncs_is_refused_before_it_asks_the_vendor")
        .engine("tests::two_writers_cannot_both_commit"),
        fault(
            "F09",
            "A sync wakes that slept while another one worked",
            FailRun,
            "6",
            "its commit is refused in the same step that would have written it",
        )
        .test("pipeline-cli", "--test=it", "failures::a_checkpoint_changed_by_somebody_else_ends_with_6")
        .test("destination-sqlite", "--test=it", "of_two_writers_with_one_delta_one_wins"),
        fault(
            "F10",
            "A defect in one stream's code",
            FailStream,
            "1",
            "nothing of the page is committed, and the other streams end as usual",
        )
        .engine("tests::staged::nothing_is_committed_after_a_panic_in_the_middle_of_a_page"),
        fault(
            "F11",
            "A checkpoint of an older or newer version of the program",
            FailRun,
            "0 or 2",
            "older ones are read for ever; newer ones are refused",
        )
        .plays("a_newer_one", Scenario::stripe().prepared().exits(2).says("upgrade").before(state_of_the_future).repair(state_restored))
        .core("tests::state::stored::a_state_of_version_1_is_read_for_ever")
        .core("tests::state::stored::a_state_that_is_damaged_or_too_new_is_never_taken_for_an_empty_one"),
        fault(
            "F12",
            "More streams than open files are allowed",
            Absorb,
            "0",
            "files and connections are opened as far as the limit allows",
        )
        .plays("sqlite_with_64", everything(Store::Sqlite))
        .plays("parquet_with_64", everything(Store::Parquet))
        .plays("json_lines_with_64", everything(Store::Jsonl))
        .does("three_sources_into_sqlite_with_256", || three_sources(Store::Sqlite))
        .does("three_sources_into_parquet_with_256", || three_sources(Store::Parquet)),
    ]
}
