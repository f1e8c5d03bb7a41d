//! Downloads of lines: what is handed on is what came, line by line, or nothing.

#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use libfuzzer_sys::fuzz_target;
use pipeline_core::http::{Call, HttpClient, Method, Request, RetryPolicy};
use pipeline_core::{BuildContext, Lines};
use pipeline_testkit::{InProcess, Pieces};

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let pieces: Vec<Bytes> = body
        .chunks(usize::from(*first) + 1)
        .map(Bytes::copy_from_slice)
        .collect();
    let transport = InProcess::new(move |_| {
        let pieces: Pieces = stream::iter(pieces.clone()).map(Ok).boxed();
        async move { http::Response::new(pieces) }
    });
    let retry = RetryPolicy::default().max_attempts(1);
    let context = BuildContext::default()
        .transport(Arc::new(transport))
        .retry(retry)
        .seed(1);
    let client = HttpClient::builder(&context, "https://vendor.test".parse().expect("a URL"))
        .build()
        .expect("a client");
    let lines = Lines {
        check: |_| Ok(()),
        malformed: 0,
        most: 1 << 20,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let Ok(mut spool) = client
            .download(
                &Request::new(
                    Method::GET,
                    "https://vendor.test/lines".parse().expect("a URL"),
                ),
                &Call {
                    endpoint: "lines",
                    buckets: &[],
                },
                lines,
            )
            .await
        else {
            return;
        };
        let mut found = Vec::new();
        while let Some(part) = spool
            .next_lines(64)
            .await
            .expect("what was spooled can be read")
        {
            found.extend_from_slice(&part);
            found.push(b'\n');
        }
        // Compressed bodies, and characters that are none, come out otherwise.
        let is_plain = std::str::from_utf8(body).is_ok()
            && !body.starts_with(&[0x1f, 0x8b])
            && !body.contains(&b'\\');
        if is_plain {
            let kept = |text: &[u8]| {
                text.split(|byte| *byte == b'\n')
                    .filter(|line| !line.trim_ascii().is_empty())
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                kept(&found),
                kept(body),
                "{:?}",
                String::from_utf8_lossy(body)
            );
        }
    });
});
