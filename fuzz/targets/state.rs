//! Stored checkpoints: damage is an error and never an empty state, and what is read is written as
//! it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline_core::state::EndpointState;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(mut state) = EndpointState::from_json(text) else {
        return;
    };
    let again = EndpointState::from_json(&state.to_json())
        .expect("a state that was read can be written and read");
    assert_eq!(again, state);
    state.collapse();
    let once = state.clone();
    state.collapse();
    assert_eq!(once, state, "collapsing twice is collapsing once");
    let _ = (
        state.freshness(),
        state.unfinished().count(),
        state.missing().count(),
        state.next_plan(),
    );
});
