//! What no sync can beat, measured on the same pages: fetching them, cutting them, and decoding
//! them.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use pipeline_core::http::{HeaderValue, HttpService, Method, Request, ReqwestTransport};
use pipeline_core::{Clock, RecordPath, SystemClock, split};
use pipeline_engine::decode::Decoder;
use pipeline_simulator::{Simulation, Simulator, StripeWorld};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::process::{Cost, measure_here, own_cpu};
use crate::output::Outcome;

/// Requests under way at once: as many as the engine reads slices of one endpoint.
const PARALLEL: usize = 12;
/// What the connector has expanded in charges.
const EXPANDED: &str = "refunds";
/// Pages that the measurements of one core go through, more than fit into its cache.
const PAGES: usize = 100;
/// Bytes that a page is expected to have.
const EXPECTED: usize = 512 << 10;
/// Bytes that a measurement of one core goes through at least.
const BYTES: u64 = 1 << 30;
/// Bytes after which decoded rows become a batch.
const BATCH: usize = 8 << 20;

/// Settings of the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[arg(long)]
    charges: u64,
    /// Serves them with gzip to clients that accept it.
    #[arg(long)]
    gzip: bool,
}

/// Which floor.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    floor: Floor,
    #[arg(long)]
    url: url::Url,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Floor {
    /// Every page of charges, in parallel, and nothing done with them.
    Fetch,
    /// The same with gzip, decompressed.
    FetchGzip,
    /// Pages in memory cut into records, on one core.
    Split,
    /// The same, decoded into Arrow.
    Decode,
}

/// What a floor took.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) cost: Cost,
}

/// Serves until it is ended; prints the URL when it is ready.
pub(crate) fn serve(args: &Serve) -> Outcome {
    let stripe = StripeWorld {
        charges: args.charges,
        written_beforehand: Some(vec![EXPANDED.to_owned()]),
        compressed_beforehand: args.gzip,
        ..StripeWorld::default()
    };
    runtime()?.block_on(async {
        let simulator = Simulator::start(Simulation {
            stripe,
            ..Simulation::default()
        })
        .await?;
        println!("{}", simulator.url());
        std::future::pending().await
    })
}

/// Prints what the floor took, as JSON.
pub(crate) fn run(args: &Args) -> Outcome {
    let measured = runtime()?.block_on(async {
        let transport = ReqwestTransport::new(std::time::Duration::from_secs(10))?;
        let api = Api {
            transport,
            base: args.url.clone(),
            gzip: args.floor == Floor::FetchGzip,
        };
        match args.floor {
            Floor::Fetch | Floor::FetchGzip => fetch(Arc::new(api)).await,
            Floor::Split => one_core(&api.pages(PAGES).await?.1, |page| {
                Ok(split(page, &[RecordPath::new("data")])?.records[0].len())
            }),
            Floor::Decode => one_core(&api.pages(PAGES).await?.1, decoding()?),
        }
    })?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

struct Api {
    transport: ReqwestTransport,
    base: url::Url,
    gzip: bool,
}

impl Api {
    /// A page's body, in one piece and decompressed.
    async fn get(&self, after: Option<&str>) -> Outcome<Bytes> {
        let mut request = Request::new(Method::GET, self.base.join("/v1/charges")?);
        request.headers.insert(
            "authorization",
            HeaderValue::from_static("Bearer sk_test_sim"),
        );
        if self.gzip {
            request
                .headers
                .insert("accept-encoding", HeaderValue::from_static("gzip"));
        }
        request.set_query("limit", "100");
        request.set_query("expand[0]", format!("data.{EXPANDED}"));
        if let Some(id) = after {
            request.set_query("starting_after", id);
        }
        let mut response = self.transport.call(request).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.body.try_next().await? {
            body.extend_from_slice(&chunk);
        }
        if !response.status.is_success() {
            return Err(format!("the simulator answered {}", response.status).into());
        }
        if !self.gzip {
            return Ok(body.freeze());
        }
        let mut text = Vec::with_capacity(EXPECTED);
        flate2::bufread::GzDecoder::new(&*body).read_to_end(&mut text)?;
        Ok(text.into())
    }

    /// Walks through the list: the id that each page begins after, and the first pages; and
    /// how many records there are.
    async fn pages(&self, kept: usize) -> Outcome<(Vec<Option<String>>, Vec<Bytes>, u64)> {
        let (mut starts, mut pages, mut records) = (vec![None], Vec::new(), 0);
        loop {
            let page = self.get(starts[starts.len() - 1].as_deref()).await?;
            let cut = split(&page, &[RecordPath::new("data")])?;
            records += cut.records[0].len() as u64;
            let goes_on = cut.envelope.flag("has_more") == Some(true)
                && (kept == 0 || pages.len() + 1 < kept);
            let last = cut.records[0].last().and_then(|record| record.scalar("id"));
            if kept > 0 {
                pages.push(page);
            }
            match last.filter(|_| goes_on) {
                Some(id) => starts.push(Some(id)),
                None => return Ok((starts, pages, records)),
            }
        }
    }
}

async fn fetch(api: Arc<Api>) -> Outcome<Measured> {
    let (starts, _, records) = api.pages(0).await?;
    let (starts, next) = (Arc::new(starts), Arc::new(AtomicUsize::new(0)));
    let mut readers = JoinSet::new();
    let (before, start) = (own_cpu(), Instant::now());
    for _ in 0..PARALLEL {
        let (api, starts, next) = (Arc::clone(&api), Arc::clone(&starts), Arc::clone(&next));
        readers.spawn(async move {
            let mut bytes = 0;
            while let Some(after) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
                bytes += api
                    .get(after.as_deref())
                    .await
                    .map_err(|error| error.to_string())?
                    .len() as u64;
            }
            Ok::<_, String>(bytes)
        });
    }
    let bytes = readers
        .join_all()
        .await
        .into_iter()
        .sum::<Result<u64, String>>()?;
    let cost = Cost {
        wall: start.elapsed().as_secs_f64(),
        cpu: own_cpu() - before,
        peak: 0.0,
    };
    Ok(Measured {
        bytes,
        records,
        cost,
    })
}

/// Goes through pages again and again with work that returns how many records it found.
fn one_core(pages: &[Bytes], mut work: impl FnMut(&Bytes) -> Outcome<usize>) -> Outcome<Measured> {
    let ((bytes, records), cost) = measure_here(|| {
        let (mut bytes, mut records) = (0, 0);
        while bytes < BYTES {
            for page in pages {
                bytes += page.len() as u64;
                records += work(page)? as u64;
            }
        }
        Ok((bytes, records))
    })?;
    Ok(Measured {
        bytes,
        records,
        cost,
    })
}

fn decoding() -> Outcome<impl FnMut(&Bytes) -> Outcome<usize>> {
    let charges =
        connector_stripe::tables::stream("charges").ok_or("there is no stream `charges`")?;
    let mut decoder = Decoder::new(&charges.streams[0].schema(), &["id".into()]);
    let now = SystemClock.now();
    Ok(move |page: &Bytes| {
        let records = split(page, &[RecordPath::new("data")])?
            .records
            .swap_remove(0);
        for record in &records {
            decoder.push(record, now)?;
        }
        if decoder.bytes() >= BATCH {
            decoder.finish()?;
        }
        Ok(records.len())
    })
}
