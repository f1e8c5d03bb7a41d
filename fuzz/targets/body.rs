//! Bodies: compressed or not, as announced or not, in any pieces. The first byte chooses the
//! encoding that is announced.

#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use libfuzzer_sys::fuzz_target;
use pipeline_core::BuildContext;
use pipeline_core::http::{Call, HttpClient, Method, Request, RetryPolicy};
use pipeline_testkit::{InProcess, Pieces};

const MOST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let encoding = ["", "gzip", "zstd", "gzip, gzip", "identity", "br"][usize::from(first % 6)];
    let pieces: Vec<Bytes> = body
        .chunks(usize::from(first / 6) + 1)
        .map(Bytes::copy_from_slice)
        .collect();
    let transport = InProcess::new(move |_| {
        let pieces: Pieces = stream::iter(pieces.clone()).map(Ok).boxed();
        let mut response = http::Response::new(pieces);
        if let Ok(encoding) = http::HeaderValue::from_str(encoding) {
            response.headers_mut().insert("content-encoding", encoding);
        }
        async move { response }
    });
    let retry = RetryPolicy::default().max_attempts(1);
    let context = BuildContext::default()
        .transport(Arc::new(transport))
        .max_body(MOST)
        .retry(retry)
        .seed(1);
    let base = "https://vendor.test".parse().expect("a URL");
    let client = HttpClient::builder(&context, base)
        .build()
        .expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let answer = runtime.block_on(client.send(
        &Request::new(
            Method::GET,
            "https://vendor.test/things".parse().expect("a URL"),
        ),
        &Call {
            endpoint: "things",
            buckets: &[],
        },
    ));
    if let Ok(answer) = answer {
        assert!(answer.body.len() as u64 <= MOST);
    }
});
