//! The page splitter: whatever it takes is JSON, and its records are the document's own.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pipeline_core::{RecordPath, split};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let paths = ["data", "", "a.b"].map(RecordPath::new);
    let Ok(pages) = split(&body, &paths[..1]) else {
        return;
    };
    // A depth that is too great for serde_json is not too great for us.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(data) {
        assert!(
            error.to_string().contains("recursion limit"),
            "{error}: {}",
            String::from_utf8_lossy(data)
        );
        return;
    }
    for record in pages.records.iter().flatten() {
        let text = std::str::from_utf8(record.source()).expect("a record is text");
        serde_json::from_str::<&RawValue>(text).expect("a record is JSON");
        for (_, value) in record.members().into_iter().flatten() {
            serde_json::from_str::<&RawValue>(value).expect("a member is JSON");
        }
        assert!(
            data.windows(text.len().max(1))
                .any(|window| window == text.as_bytes())
                || text.is_empty()
        );
    }
    let _ = split(&body, &paths);
});
