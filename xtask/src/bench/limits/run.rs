//! One run: clients that always have more to ask, a server, and what came of it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use pipeline_core::http::{Call, HttpClient, Method, Request, RetryPolicy};
use pipeline_core::rate_limit::{
    BucketKey, BucketRecord, Learned, LimitLedger, MemoryLimits, Quota, RateHeaders,
};
use pipeline_core::{BuildContext, TokioClock};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::baselines::{Pacer, Rule};
use super::server::{Arrival, Count, Line, Says, Server};
use crate::output::Outcome;

const CALL: Call<'static> = Call {
    endpoint: "things",
    buckets: &[Cow::Borrowed("read")],
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limiter {
    /// The one that clients use.
    Ours,
    /// A rate that is configured, as connectors of other tools have it.
    Fixed,
    /// The rule of the AWS SDKs.
    Cubic,
}

/// A situation.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) count: fn(u64) -> Count,
    pub(crate) says: Says,
    pub(crate) quota: Quota,
    pub(crate) clients: usize,
    /// Requests that each client would have under way at once.
    pub(crate) workers: usize,
    pub(crate) seconds: f64,
    /// What comes before is the cold start.
    pub(crate) steady: f64,
    pub(crate) slots: Option<u32>,
    pub(crate) storm: (f64, f64),
    pub(crate) foreign: fn(f64) -> f64,
    /// Rate of the fixed baseline.
    pub(crate) fixed: f64,
    /// Requests for which the run forecasts how long they will take.
    pub(crate) planned: Option<u64>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Figures {
    /// Accepted over allowed, after the cold start and over all.
    pub(crate) used: f64,
    pub(crate) used_all: f64,
    /// Refused of 1,000 sent, after the cold start and over all.
    pub(crate) refused: f64,
    pub(crate) refused_all: f64,
    /// Seconds until five seconds in a row used 90 %.
    pub(crate) converged: f64,
    /// Most requests in any span in which the server counts, beyond what it allows.
    pub(crate) overrun: f64,
    /// Jain's index of the clients' shares.
    pub(crate) fair: f64,
    /// What was accepted in all.
    pub(crate) accepted: f64,
    pub(crate) sent: f64,
    /// The forecast before the run.
    pub(crate) plan: Option<String>,
    /// What the first client would leave to its next run.
    pub(crate) learned: Option<Learned>,
    #[serde(skip)]
    pub(crate) arrivals: Vec<Arrival>,
}

/// Runs a scene on a clock of its own.
pub(crate) fn run(scene: &Scene, limiter: Limiter, seed: u64) -> Outcome<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let epoch = "2026-01-01T00:00:00Z".parse()?;
        let mut server = Server::new((scene.count)(seed), scene.says, epoch, seed);
        (server.slots, server.storm, server.foreign) = (scene.slots, scene.storm, scene.foreign);
        let server = Arc::new(server);
        server.begin();
        let end = Instant::now() + Duration::from_secs_f64(scene.seconds);
        let mut clients = Vec::new();
        let ledger = Arc::new(LastKept::default());
        for client in 0..scene.clients {
            clients.push(Client::new(scene, limiter, &server, &ledger, client, seed)?);
        }
        let plan = match (&clients[0], scene.planned) {
            (Client::Ours(client, _), Some(requests)) => client
                .forecast(&CALL, requests)
                .await?
                .map(|(limit, time)| {
                    let hours = time.as_secs_f64() / 3600.0;
                    format!(
                        "{requests} requests planned ({limit}), the last of them after {hours} h"
                    )
                }),
            _ => None,
        };
        let workers = clients
            .iter()
            .flat_map(|client| (0..scene.workers).map(move |_| client.ask_for_ever(end)));
        join_all(workers).await;
        let learned = ledger
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .and_then(|(_, learned)| learned);
        Ok(Figures {
            plan,
            learned,
            ..figures(scene, &server)
        })
    })
}

/// Keeps what was learned last, by the first of the clients.
#[derive(Debug, Default)]
struct LastKept(Mutex<Option<(u64, Option<Learned>)>>);

#[async_trait]
impl LimitLedger for LastKept {
    async fn load(&self, _key: &BucketKey) -> pipeline_core::Result<Option<BucketRecord>> {
        Ok(None)
    }

    async fn save(&self, key: &BucketKey, record: &BucketRecord) -> pipeline_core::Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none_or(|(account, _)| account == key.account) {
            *kept = Some((key.account, record.learned));
        }
        Ok(())
    }
}

enum Client {
    Ours(HttpClient, Request),
    Baseline(Pacer, Arc<Server>, usize),
}

impl Client {
    fn new(
        scene: &Scene,
        limiter: Limiter,
        server: &Arc<Server>,
        ledger: &Arc<LastKept>,
        number: usize,
        seed: u64,
    ) -> Outcome<Self> {
        let rule = match limiter {
            Limiter::Ours => return Self::ours(scene, server, ledger, number, seed),
            Limiter::Fixed => Rule::Fixed(scene.fixed),
            Limiter::Cubic => Rule::cubic(),
        };
        Ok(Self::Baseline(Pacer::new(rule), Arc::clone(server), number))
    }

    fn ours(
        scene: &Scene,
        server: &Arc<Server>,
        ledger: &Arc<LastKept>,
        number: usize,
        seed: u64,
    ) -> Outcome<Self> {
        let url = Url::parse("https://api.test/things")?;
        let clock = Arc::new(TokioClock::starting_at(server.epoch));
        let context = BuildContext::default()
            .transport(Arc::new(Line {
                server: Arc::clone(server),
                client: number,
            }))
            .clock(Arc::clone(&clock) as _)
            .limits(Arc::new(MemoryLimits::kept(Arc::clone(ledger) as _, clock)))
            // A run that waits for hours is what some scenes measure.
            .retry(
                RetryPolicy::default()
                    .max_server_delay(Duration::from_hours(24))
                    .max_elapsed(Duration::from_hours(24)),
            )
            .seed(seed + number as u64);
        let account = number.to_string();
        let mut builder = HttpClient::builder(&context, url.clone())
            .account(&[&account])
            .quota("read", scene.quota);
        let headers = match scene.says {
            Says::GitHub => Some(RateHeaders::GITHUB),
            Says::Zendesk => Some(RateHeaders::DELTA),
            Says::Ietf => Some(RateHeaders::Ietf),
            Says::Nothing | Says::RetrySeconds | Says::RetryDate => None,
        };
        if let Some(headers) = headers {
            builder = builder.rate_headers(headers.for_bucket("read"));
        }
        Ok(Self::Ours(builder.build()?, Request::new(Method::GET, url)))
    }

    async fn ask_for_ever(&self, end: Instant) {
        // What is under way at the end counts as far as it got.
        let _ = timeout_at(end, async {
            loop {
                match self {
                    Self::Ours(client, request) => {
                        // What fails is counted by the server.
                        let _ = client.send(request, &CALL).await;
                    }
                    Self::Baseline(pacer, server, client) => {
                        pacer.turn().await;
                        let (accepted, _) = server.answer(*client).await;
                        pacer.rule.answered(accepted);
                    }
                }
            }
        })
        .await;
    }
}

fn figures(scene: &Scene, server: &Server) -> Figures {
    let (arrivals, count) = server.log();
    // Whole windows: a part of one can hold all of its permits, or none.
    let (from, end) = match &count {
        Count::Window { seconds, phase, .. } => {
            let begin = |at: f64| (at - phase) / seconds;
            (
                begin(scene.steady).ceil() * seconds + phase,
                begin(scene.seconds).floor() * seconds + phase,
            )
        }
        _ => (scene.steady, scene.seconds),
    };
    let allowed = |from: f64, to: f64| {
        let steps = ((to - from) * 10.0).round().max(1.0);
        let step = (to - from) / steps;
        std::iter::successors(Some(0.5), |n| Some(n + 1.0))
            .take_while(|n| *n < steps)
            .map(|n| server.allowed(from + n * step) * step)
            .sum::<f64>()
    };
    let accepted = |from: f64, to: f64| {
        arrivals
            .iter()
            .filter(|it| it.accepted && from <= it.at && it.at < to)
            .count() as f64
    };
    let sent = |from: f64, to: f64| {
        arrivals
            .iter()
            .filter(|it| from <= it.at && it.at < to)
            .count() as f64
    };
    let refused = |from: f64, to: f64| {
        1000.0 * (sent(from, to) - accepted(from, to)) / sent(from, to).max(1.0)
    };
    let mut spans = std::iter::successors(Some(0.0), |from| Some(from + 1.0))
        .take_while(|from| from + 5.0 <= scene.seconds);
    let converged =
        spans.find(|from| accepted(*from, from + 5.0) >= 0.9 * allowed(*from, from + 5.0));
    let shares: Vec<f64> = (0..scene.clients)
        .map(|client| {
            arrivals
                .iter()
                .filter(|it| it.client == client && it.accepted && it.at >= from)
                .count() as f64
        })
        .collect();
    let (sum, squares) = (
        shares.iter().sum::<f64>(),
        shares.iter().map(|share| share * share).sum::<f64>(),
    );
    Figures {
        used: accepted(from, end) / allowed(from, end),
        used_all: accepted(0.0, scene.seconds) / allowed(0.0, scene.seconds),
        refused: refused(from, end),
        refused_all: refused(0.0, scene.seconds),
        converged: converged.map_or(f64::INFINITY, |from| from + 5.0),
        overrun: overrun(&arrivals, &count, from),
        fair: sum * sum / (scene.clients as f64 * squares).max(1.0),
        accepted: accepted(0.0, scene.seconds),
        sent: sent(0.0, scene.seconds),
        plan: None,
        learned: None,
        arrivals,
    }
}

/// Most that arrived in any span in which the server counts, beyond what it allows there. A fixed
/// window is counted as the server does; everything else in any span.
fn overrun(arrivals: &[Arrival], count: &Count, from: f64) -> f64 {
    let mut within = std::collections::VecDeque::new();
    let mut most = 0.0_f64;
    for arrival in arrivals.iter().filter(|it| it.at >= from) {
        let (span, allowed) = count.span(arrival.at);
        let begin = match count {
            Count::Window { seconds, phase, .. } => {
                ((arrival.at - phase) / seconds).floor() * seconds + phase
            }
            _ => arrival.at - span,
        };
        within.push_back(arrival.at);
        while within.front().is_some_and(|at| *at < begin) {
            within.pop_front();
        }
        most = most.max(within.len() as f64 - allowed);
    }
    most
}
