//! Compression, sizes, and responses that go to disk.

use super::*;
use crate::error::ErrorStatus;
use crate::json::lines::Lines;

const JSON: Lines = Lines {
    check: is_json,
    malformed: 0,
    most: u64::MAX,
};
const ANYTHING: Lines = Lines {
    check: |_| Ok(()),
    malformed: 0,
    most: u64::MAX,
};

async fn send(body: Vec<u8>, encoding: Option<&'static str>) -> (crate::Result<Response>, usize) {
    let transport = Scripted::new(move |_, _| {
        let reply = Reply::pieces(
            body.chunks(1000)
                .map(|chunk| Piece::Data(chunk.to_vec().into()))
                .collect(),
        );
        match encoding {
            Some(encoding) => reply.header("content-encoding", encoding),
            None => reply,
        }
    });
    let context = BuildContext {
        max_body: 4 << 20,
        ..context(&transport)
    };
    let client = HttpClient::builder(&context, base()).build().unwrap();
    (client.send(&request(), &NO_LIMIT).await, transport.count())
}

#[tokio::test]
async fn b16_b17_the_content_decides_how_it_is_compressed() {
    let json = format!("{{\"data\": [{}]}}", vec!["1"; 10_000].join(",")).into_bytes();
    let (zipped, twice, zstandard) = (
        gzip(&json).await,
        gzip(&gzip(&json).await).await,
        zstd(&json).await,
    );
    let members = [gzip(&json[..500]).await, gzip(&json[500..]).await].concat();
    let cases = [
        ("plain", json.clone(), None),
        ("gzip", zipped.clone(), Some("gzip")),
        ("zstd", zstandard, Some("zstd")),
        ("several members", members, Some("GZIP")),
        ("gzip declared but plain", json.clone(), Some("gzip")),
        ("zstd declared but plain", json.clone(), Some("zstd")),
        ("gzip undeclared", zipped.clone(), None),
        ("double gzip declared once", twice.clone(), Some("gzip")),
        ("double gzip declared twice", twice, Some("gzip, gzip")),
        ("identity", json.clone(), Some("identity")),
    ];
    for (case, body, encoding) in cases {
        assert_eq!(
            send(body, encoding).await.0.expect(case).body,
            json,
            "{case}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn b17_an_unknown_encoding_is_final() {
    let (result, count) = send(b"{}".to_vec(), Some("br")).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), count),
        (ErrorKind::Decode, ErrorStatus::Permanent, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_compressed_body_that_is_cut_or_damaged_is_asked_for_again() {
    let zipped = gzip(&vec![b'7'; 100_000]).await;
    let mut damaged = zipped.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    for body in [zipped[..zipped.len() - 4].to_vec(), damaged] {
        let (result, count) = send(body, Some("gzip")).await;
        assert_eq!(
            (result.unwrap_err().status(), count),
            (ErrorStatus::Persistent, 8)
        );
    }
}

#[tokio::test]
async fn b18_a_bomb_stops_at_the_size_and_at_the_ratio() {
    let lines = vec![b'\n'; 64 << 20];
    let bombs = [(gzip(&lines).await, "gzip"), (zstd(&lines).await, "zstd")];
    for (bomb, encoding) in bombs {
        let (result, count) = send(bomb.clone(), Some(encoding)).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.status(), count),
            (ErrorKind::TooLarge, ErrorStatus::Permanent, 1)
        );
        let transport = Scripted::new(move |_, _| {
            Reply::json(bomb.clone()).header("content-encoding", encoding)
        });
        let error = client(&transport)
            .download(&request(), &NO_LIMIT, ANYTHING)
            .await
            .unwrap_err();
        assert_eq!(
            error.message(),
            "the response exceeds a compression ratio of 1000",
            "{encoding}"
        );
    }
}

fn is_json(line: &[u8]) -> crate::Result<()> {
    if line.starts_with(b"{") && line.ends_with(b"}") {
        Ok(())
    } else if line == b"terminated early" {
        Err(Error::new(ErrorKind::Unavailable, "the export ended early").temporary())
    } else {
        Err(Error::new(ErrorKind::Decode, "a line is not an object"))
    }
}

async fn lines(spool: &mut Spool, bytes: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    while let Some(piece) = spool.next_lines(bytes).await.unwrap() {
        pieces.push(String::from_utf8(piece.to_vec()).unwrap());
    }
    pieces
}

#[tokio::test(start_paused = true)]
async fn a_download_hands_out_whole_lines() {
    let line = |n: usize| format!("{{\"n\": {n}, \"text\": \"a\u{2028}b\"}}");
    let whole: Vec<_> = (0..1000).map(line).collect();
    for (end, encoding) in [("", "identity"), ("\n", "gzip"), ("\r\n\n", "gzip")] {
        let text = whole.join("\n") + end;
        let body = if encoding == "gzip" {
            gzip(text.as_bytes()).await
        } else {
            text.clone().into_bytes()
        };
        let transport = Scripted::new(move |_, _| {
            Reply::pieces(
                body.chunks(7)
                    .map(|chunk| Piece::Data(chunk.to_vec().into()))
                    .collect(),
            )
            .header("content-encoding", encoding)
        });
        let mut spool = client(&transport)
            .download(&request(), &NO_LIMIT, JSON)
            .await
            .unwrap();
        let pieces = lines(&mut spool, 4096).await;
        assert!(
            pieces.len() > 5 && pieces.iter().all(|piece| piece.len() <= 4096),
            "{}",
            pieces.len()
        );
        assert_eq!(pieces.join("\n").trim_end(), text.trim_end());
    }
}

#[tokio::test(start_paused = true)]
async fn b19_a_line_that_says_so_fails_the_attempt_and_not_more() {
    let transport = Scripted::sequence(vec![|| Reply::json("{}\n{}\nterminated early\n"), || {
        Reply::json("{}\n{\"n\": 2}")
    }]);
    let mut spool = client(&transport)
        .download(&request(), &NO_LIMIT, JSON)
        .await
        .unwrap();
    assert_eq!(
        (
            lines(&mut spool, 1).await.join("\n").as_str(),
            transport.count()
        ),
        ("{}\n{\"n\": 2}", 2)
    );
    let cut = Scripted::new(|_, _| Reply::json("{}\n{\"cut"));
    let error = client(&cut)
        .download(&request(), &NO_LIMIT, JSON)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.message(), cut.count()),
        (ErrorKind::Decode, "the response ends within a line", 8)
    );
}

#[tokio::test(start_paused = true)]
async fn a_download_may_take_long_and_be_empty_but_not_stall() {
    let long = || {
        Reply::pieces(
            (0..100)
                .flat_map(|_| {
                    [
                        Piece::Pause(Duration::from_secs(50)),
                        Piece::Data("{}\n".repeat(20_000).into()),
                    ]
                })
                .collect(),
        )
    };
    let transport = Scripted::sequence(vec![long]);
    client(&transport)
        .download(&request(), &NO_LIMIT, JSON)
        .await
        .unwrap();
    assert_eq!(transport.count(), 1);
    let mut empty = client(&Scripted::new(|_, _| Reply::json("")))
        .download(&request(), &NO_LIMIT, JSON)
        .await
        .unwrap();
    assert_eq!(empty.next_lines(1).await.unwrap(), None);
    let page = client(&Scripted::new(|_, _| Reply::json("<html>")))
        .download(&request(), &NO_LIMIT, ANYTHING)
        .await
        .unwrap_err();
    assert_eq!(page.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_line_has_a_longest_length() {
    let transport = Scripted::new(|_, _| {
        Reply::pieces(
            (0..40)
                .map(|_| Piece::Data(vec![b'x'; 1 << 20].into()))
                .collect(),
        )
    });
    let error = client(&transport)
        .download(&request(), &NO_LIMIT, ANYTHING)
        .await
        .unwrap_err();
    assert!(error.message().contains("longer than 32 MiB"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn b20_a_malformed_line_in_the_middle_is_told_by_its_number_or_passed_on() {
    let transport = Scripted::new(|_, _| Reply::json("{}\n\nodd\n{}\nstrange\n{}\n"));
    for (malformed, found) in [(0, Some("3")), (1, Some("5")), (2, None)] {
        let spool = client(&transport)
            .download(&request(), &NO_LIMIT, Lines { malformed, ..JSON })
            .await;
        match spool {
            Ok(mut spool) => assert_eq!(
                lines(&mut spool, 1 << 10).await.concat(),
                "{}\n\nodd\n{}\nstrange\n{}"
            ),
            Err(error) => assert_eq!(
                (error.kind(), error.context_value("line")),
                (ErrorKind::Decode, found)
            ),
        }
        assert_eq!(found.is_none(), malformed == 2);
    }
    assert_eq!(transport.count(), 3, "asking again would not help");
}

#[tokio::test(start_paused = true)]
async fn a_download_that_trickles_is_asked_for_three_times_and_no_longer_than_it_takes_to_tell() {
    // 3.6 KB of good lines a minute: less than 1 KiB a second.
    let trickles: fn() -> Reply = || {
        Reply::pieces(
            (0..10_000)
                .flat_map(|_| {
                    [
                        Piece::Pause(Duration::from_secs(10)),
                        Piece::Data("{}\n".repeat(200).into()),
                    ]
                })
                .collect(),
        )
    };
    let (transport, started) = (
        Scripted::sequence(vec![trickles]),
        tokio::time::Instant::now(),
    );
    let error = client(&transport)
        .download(&request(), &NO_LIMIT, JSON)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), transport.count()),
        (ErrorKind::TooLarge, ErrorStatus::Persistent, 3)
    );
    assert!(
        started.elapsed() < Duration::from_mins(20),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_vendor_cannot_finish_is_asked_for_three_times() {
    let stalls: fn() -> Reply = || {
        Reply::pieces(vec![
            Piece::Data("{}\n".into()),
            Piece::Pause(Duration::from_hours(1)),
        ])
    };
    let transport = Scripted::sequence(vec![stalls]);
    let error = client(&transport)
        .download(&request(), &NO_LIMIT, JSON)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), transport.count()),
        (ErrorKind::TooLarge, ErrorStatus::Persistent, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_longer_than_wanted_is_given_up_at_once() {
    let transport = Scripted::new(|_, _| {
        Reply::pieces(vec![
            Piece::Data(Bytes::from("{}\n".repeat(100))),
            Piece::Pause(Duration::from_hours(1)),
        ])
    });
    let error = client(&transport)
        .download(&request(), &NO_LIMIT, Lines { most: 299, ..JSON })
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), transport.count()),
        (ErrorKind::TooLarge, 1),
        "{error}"
    );
    let short = Scripted::new(|_, _| Reply::json("{}\n".repeat(100)));
    assert!(
        client(&short)
            .download(&request(), &NO_LIMIT, Lines { most: 300, ..JSON })
            .await
            .is_ok()
    );
}

/// Half a character never reaches who reads an answer, in one document or in lines, and is counted.
#[tokio::test]
async fn half_characters_are_replaced_and_counted() {
    const HALVES: &str = "{\"a\":\"cut \\ud83d\",\"n\\uDE00\":{\"whole\":\"\\ud83d\\ude00\"}}";
    const MENDED: &str = "{\"a\":\"cut \\ufffd\",\"n\\ufffd\":{\"whole\":\"\\ud83d\\ude00\"}}";
    let events = Arc::new(Events::default());
    let transport = Scripted::new(|n, _| {
        Reply::json(if n == 0 {
            HALVES.to_owned()
        } else {
            format!("{HALVES}\n{{}}\n{HALVES}\n")
        })
    });
    let context = BuildContext {
        observer: Arc::clone(&events) as _,
        ..context(&transport)
    };
    let client = HttpClient::builder(&context, base()).build().unwrap();
    assert_eq!(
        client.send(&request(), &NO_LIMIT).await.unwrap().body,
        MENDED
    );
    let readable = |line: &[u8]| match serde_json::from_slice::<
        std::collections::BTreeMap<String, serde_json::Value>,
    >(line)
    {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Decode, error.to_string())),
    };
    let mut spool = client
        .download(
            &request(),
            &NO_LIMIT,
            Lines {
                check: readable,
                ..JSON
            },
        )
        .await
        .unwrap();
    assert_eq!(
        spool.next_lines(1 << 20).await.unwrap().unwrap(),
        format!("{MENDED}\n{{}}\n{MENDED}")
    );
    let told = events
        .0
        .lock()
        .unwrap()
        .iter()
        .filter(|event| event.starts_with("Repaired"))
        .cloned()
        .collect::<Vec<_>>();
    let told: Vec<_> = told
        .iter()
        .map(|event| event.split("characters: ").nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(told, ["2 }", "4 }"]);
}

#[derive(Debug)]
struct ByWords;
impl Classifier for ByWords {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        let words =
            serde_json::from_slice::<std::collections::BTreeMap<String, String>>(answer.body)
                .ok()?;
        (words["error"] == "gone").then_some(ResponseAction::Fail(ErrorKind::NotFound, None))
    }
}

/// `d03`: in values, in names of the envelope, and in the words of a refusal, by which it is
/// classified.
#[tokio::test(start_paused = true)]
async fn a15_half_a_character_hides_nothing() {
    let transport = Scripted::sequence(vec![|| {
        Reply::json(r#"{"\ud800":1,"\udfff\ud83d\ude00":"\ud83d","data":[{"id":"a"}]}"#)
    }]);
    let events = Arc::new(Events::default());
    let context = BuildContext {
        observer: Arc::clone(&events) as _,
        ..context(&transport)
    };
    let client = HttpClient::builder(&context, base()).build().unwrap();
    let body = client.send(&request(), &NO_LIMIT).await.unwrap().body;
    assert_eq!(
        body,
        r#"{"\ufffd":1,"\ufffd\ud83d\ude00":"\ufffd","data":[{"id":"a"}]}"#
    );
    assert!(
        events
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|event| event.contains("Repaired") && event.contains("characters: 3"))
    );

    let transport = Scripted::sequence(vec![|| {
        Reply::status(400, r#"{"error":"gone","of":"\ud83d"}"#)
    }]);
    let client = HttpClient::builder(&self::context(&transport), base())
        .classifier(ByWords)
        .build()
        .unwrap();
    assert_eq!(
        client.send(&request(), &NO_LIMIT).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
