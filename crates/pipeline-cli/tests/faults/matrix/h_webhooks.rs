//! H and I: webhooks, and several machines.

use crate::table::Reaction::{Absorb, FailStream};
use crate::table::{Fault, fault, not_applicable};

const NO_WORKERS: &str = "A sync is one process on one machine; a second one is refused (F08).";

/// The faults of webhooks.
pub(crate) fn webhooks() -> Vec<Fault> {
    vec![
        fault(
            "H01",
            "A signature is missing, wrong, or of another body",
            FailStream,
            "none",
            "the verification fails; it takes the same time wherever the difference is",
        )
        .core("webhook::tests::any_signature_by_any_secret_counts_and_nothing_else_does")
        .test("connector-stripe", "--lib", "webhook::tests::headers_that_prove_nothing_are_refused")
        .test("connector-zendesk", "--lib", "webhook::tests::c55_a_webhook_counts_that_is_signed_whole_and_now"),
        fault(
            "H02",
            "An old delivery is sent again, or one of the future",
            FailStream,
            "none",
            "the verification fails outside of the tolerance",
        )
        .core("webhook::tests::age_counts_in_both_directions")
        .test("connector-stripe", "--test=it", "acceptance::events::c49_a_webhook_that_is_delivered_twice_is_applied_once"),
        fault(
            "H03",
            "Events come twice, out of order, or too early",
            Absorb,
            "none",
            "nothing of them is stored; a run reads what the vendor says, once it can be seen",
        )
        .test("pipeline-service", "--lib", "wishes::tests::a_wish_is_on_the_disk_until_a_run_that_could_see_it_has_ended"),
        fault(
            "H04",
            "10 000 events a second, large bodies, slow clients",
            Absorb,
            "none",
            "one write for each stream, a bounded memory, and 413 or 503 beyond that",
        )
        .test("pipeline-service", "--lib", "wishes::tests::a_flood_costs_a_write_for_each_stream_and_a_bounded_memory")
        .test("pipeline-service", "--lib", "server::tests::webhooks::what_is_too_large_or_cannot_be_stored_is_not_accepted")
        .test("pipeline-service", "--lib", "server::tests::webhooks::more_clients_than_places_are_told_to_come_again"),
        fault("H05", "Two secrets are valid while one replaces the other", Absorb, "none", "either counts")
            .core("webhook::tests::any_signature_by_any_secret_counts_and_nothing_else_does")
            .test(
                "connector-stripe",
                "--lib",
                "webhook::tests::c48_any_of_several_signatures_counts_and_neither_age_nor_another_body_does",
            ),
        fault(
            "H06",
            "The receiver crashes before it answers",
            Absorb,
            "none",
            "the vendor sends it again; what was answered is on the disk, and read after the restart",
        )
        .test("pipeline-cli", "--test=it", "service::hooks::what_was_accepted_is_read_after_a_kill_and_what_is_forged_is_not"),
    ]
}

/// The faults of several machines.
pub(crate) fn workers() -> Vec<Fault> {
    vec![
        not_applicable("I01", "The coordinator is down", NO_WORKERS),
        not_applicable("I02", "A worker dies with grants of a limit", NO_WORKERS),
        not_applicable(
            "I03",
            "The network between worker and coordinator is cut",
            NO_WORKERS,
        ),
        not_applicable("I04", "The clocks of the machines differ", NO_WORKERS),
        not_applicable("I05", "Eight workers start at once", NO_WORKERS),
    ]
}
