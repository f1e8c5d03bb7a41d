//! The server around the three APIs.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request as Received, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower_service::Service as _;

use crate::book::{Book, StripeAccount};
use crate::faults::rule::{Asked, Rule};
use crate::faults::{Fault, Faults, spoil};
use crate::limits::Gate;
use crate::mixpanel_slots::Slot;
use crate::stats::Stats;
use crate::truth::Truth;
use crate::world::World;
use crate::written::Written;
use crate::zendesk::auth::Tokens;
use crate::zendesk::changes::ZendeskAccount;
use crate::{
    Simulation, Vendor, faults, mixpanel, mixpanel_answers, mixpanel_export, stripe, zendesk,
};

/// How long [`Simulator::stop`] waits for answers under way.
const GRACE: Duration = Duration::from_secs(1);

/// A body as it leaves the server: in pieces, or broken off.
pub type Body = BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// A running server. It also stops, without waiting, when dropped.
pub struct Simulator {
    service: Arc<Service>,
    truth: Truth,
    /// What stops the server, and the server; none if it has no port.
    server: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
}

impl Simulator {
    /// Binds the port and starts to serve on the current runtime.
    pub async fn start(simulation: Simulation) -> std::io::Result<Simulator> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, simulation.port)).await?;
        let service = Arc::new(Service::new(
            simulation,
            format!("http://{}", listener.local_addr()?),
        )?);
        // Small answers would otherwise wait for the client's delayed acknowledgement.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router(&service)).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let server = tokio::spawn(server.into_future());
        Ok(Simulator {
            truth: Truth::new(Arc::clone(&service.world)),
            service,
            server: Some((stop, server)),
        })
    }

    /// A server without a port, asked by [`answer`](Self::answer) only. It runs on tokio's clock,
    /// so that with the clock paused a test of hours takes as long as its work. Its URL is
    /// `http://simulator.localhost`.
    pub fn without_port(simulation: Simulation) -> std::io::Result<Simulator> {
        let service = Arc::new(Service::new(
            simulation,
            "http://simulator.localhost".to_owned(),
        )?);
        Ok(Simulator {
            truth: Truth::new(Arc::clone(&service.world)),
            service,
            server: None,
        })
    }

    /// Answers a request as the server does, without a socket. The URI may be the path and the
    /// query alone.
    pub fn answer(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<> {
        let mut router = router(&self.service);
        let request = request.map(axum::body::Body::from);
        async move {
            let answered = router.call(request).await;
            let response = answered.unwrap_or_else(|never| match never {});
            response.map(|body| body.into_data_stream().map_err(Into::into).boxed())
        }
    }

    /// The base of all three APIs, without a slash at the end: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.service.url()
    }

    /// What there is to read.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// What has been asked for so far.
    pub fn stats(&self) -> Stats {
        self.service.state().stats.clone()
    }

    /// Replaces the faults from now on and counts requests from one again, for a test that lifts a
    /// fault half-way.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.service.state();
        (state.faults, state.affected, state.exports) = (faults, 0, 0);
    }

    /// Replaces the [rules](Simulation::rules) from now on: none ends an outage, and heals what was
    /// poisoned.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.service.state().rules = rules;
    }

    /// How many requests each of the rules has applied to, in their order.
    pub fn rule_hits(&self) -> Vec<u64> {
        self.service.state().rules.iter().map(Rule::hits).collect()
    }

    /// The seconds since 1970 on the server's clock.
    pub fn now(&self) -> i64 {
        self.service.now()
    }

    /// Lets the records up to this second appear, as if the time until then had passed: new rows
    /// for a second sync. See [`Simulation::shown_until`].
    pub fn show_until(&self, second: i64) {
        self.service.world.show_until(second);
        self.service.state().clock = (Instant::now(), clock(Some(second), second));
    }

    /// Stripe's accounts, if they are [written down](crate::StripeWorld::book), to be changed while
    /// they are read.
    pub fn stripe(&self) -> StripeAccount<'_> {
        StripeAccount {
            service: &self.service,
        }
    }

    /// Zendesk's account, to be changed while it is read.
    pub fn zendesk(&self) -> ZendeskAccount<'_> {
        ZendeskAccount {
            service: &self.service,
        }
    }

    /// Lets time pass on the server's clock alone: what was withheld because it was new appears.
    pub fn advance(&self, time: Duration) {
        let now = self.service.now();
        self.service.state().clock = (Instant::now(), now.saturating_add_unsigned(time.as_secs()));
    }

    /// Stops accepting connections, gives answers under way a second to finish, and returns.
    pub async fn stop(self) {
        if let Some((stop, server)) = self.server {
            let _ = stop.send(());
            let _ = tokio::time::timeout(GRACE, server).await;
        }
    }
}

/// What the handlers share.
pub(crate) struct Service {
    pub(crate) simulation: Simulation,
    pub(crate) world: Arc<World>,
    pub(crate) written: Option<Written>,
    book: Mutex<Book>,
    url: String,
    pub(crate) started: Instant,
    state: Mutex<Mutable>,
}

/// What changes while the server runs.
pub(crate) struct Mutable {
    /// The server's clock: the seconds since 1970 that it showed at an instant.
    clock: (Instant, i64),
    pub(crate) gate: Gate,
    pub(crate) stats: Stats,
    pub(crate) faults: Faults,
    rules: Vec<Rule>,
    /// How many requests the faults applied to.
    affected: u64,
    /// How many raw exports were asked for.
    pub(crate) exports: u64,
    /// How many of Mixpanel's queries and exports are being answered.
    pub(crate) under_way: [u32; 2],
    /// How many profile sessions were opened.
    pub(crate) sessions: u64,
    pub(crate) tokens: Tokens,
    /// How many changes were made to Zendesk's records.
    pub(crate) changes: u64,
    /// Texts that were taken away from Zendesk's records.
    pub(crate) erased: Vec<String>,
    /// How many requests Zendesk could have turned away under load.
    pub(crate) relieved: u64,
    /// Keys of Stripe's that expire, and the number of the request from which on they are refused.
    pub(crate) expiring: HashMap<String, u64>,
    /// Stripe's streams that the key may not read at the moment.
    pub(crate) forbidden: Vec<String>,
}

impl Service {
    fn new(simulation: Simulation, url: String) -> std::io::Result<Service> {
        let started = Instant::now();
        let state = Mutable {
            clock: (started, clock(simulation.shown_until, simulation.until)),
            gate: Gate::new(simulation.limits, started),
            stats: Stats::default(),
            faults: simulation.faults,
            rules: simulation.rules.clone(),
            affected: 0,
            exports: 0,
            under_way: [0; 2],
            sessions: 0,
            tokens: Tokens::new(simulation.zendesk.refresh_token.clone()),
            changes: 0,
            erased: Vec::new(),
            relieved: 0,
            expiring: HashMap::new(),
            forbidden: simulation.stripe.forbidden.clone(),
        };
        let world = Arc::new(World::new(&simulation)?);
        let expanded = simulation.stripe.written_beforehand.clone();
        let written =
            expanded.map(|expanded| Written::new(&world, world.table("charges"), expanded));
        let is_compressed = simulation.stripe.compressed_beforehand;
        let written = written
            .map(|written| {
                if is_compressed {
                    written.compressed()
                } else {
                    Ok(written)
                }
            })
            .transpose()?;
        let book = Mutex::new(Book::new(
            simulation.stripe.book.as_ref(),
            simulation.seed,
            state.clock.1,
            simulation.days,
        )?);
        Ok(Service {
            simulation,
            world,
            written,
            book,
            url,
            started,
            state: Mutex::new(state),
        })
    }

    /// Stripe's accounts, if they are written down.
    pub(crate) fn book(&self) -> Option<MutexGuard<'_, Book>> {
        self.simulation.stripe.book.as_ref().map(|_| self.lists())
    }

    /// All of Stripe's lists; those that are not computed are empty unless they are written down.
    pub(crate) fn lists(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// The server's clock.
    pub(crate) fn now(&self) -> i64 {
        let (since, seconds) = self.state().clock;
        seconds.saturating_add_unsigned(since.elapsed().as_secs())
    }

    /// A panic in one handler mustn't take the others down.
    pub(crate) fn state(&self) -> MutexGuard<'_, Mutable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a limit and keeps record of the answer.
    pub(crate) fn admit<T, E>(
        &self,
        vendor: Vendor,
        operation: &str,
        limit: impl FnOnce(&mut Gate, Instant) -> Result<T, E>,
    ) -> Result<T, E> {
        let (now, mut state) = (Instant::now(), self.state());
        let answer = limit(&mut state.gate, now);
        state
            .stats
            .record(vendor, operation, now - self.started, answer.is_ok());
        answer
    }

    fn arrive(self: &Arc<Self>, vendor: Vendor) -> (InFlight, Option<Fault>) {
        let mut state = self.state();
        state.stats.requests += 1;
        state.stats.in_flight += 1;
        state.stats.max_in_flight = state.stats.max_in_flight.max(state.stats.in_flight);
        let fault = if state.faults.affects(vendor) {
            state.affected += 1;
            state.faults.nth(state.affected)
        } else {
            None
        };
        (InFlight(Arc::clone(self)), fault)
    }
}

/// Counts a request as in flight until it is answered or abandoned.
struct InFlight(Arc<Service>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().stats.in_flight -= 1;
    }
}

/// The rule that applies to a request, if one does, and the request again: its body is read for the
/// parameters in it.
async fn spoiled(service: &Service, request: Received) -> (Received, Option<Rule>) {
    if service.state().rules.is_empty() {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let parameters = mixpanel::parameters(&body).into_iter().collect();
    let asked = Asked::new(&parts.uri, parameters, service.now());
    let rule = service
        .state()
        .rules
        .iter_mut()
        .find_map(|rule| rule.apply(&asked).then(|| rule.clone()));
    let mut request = Received::from_parts(parts, body.into());
    if rule.as_ref().is_some_and(Rule::edits) {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    (request, rule)
}

/// Whether the right answer is one about the credentials or the limits, which comes before anything
/// that a rule says.
fn comes_first(response: &Response) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Two minutes after the newest record that is shown, because Zendesk withholds the last minute and
/// readers of Stripe keep a distance as well; the machine's time, an hour after the data at least,
/// when all of it is shown.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing injects a clock into a server that stands for a vendor"
)]
fn clock(shown_until: Option<i64>, until: i64) -> i64 {
    let machine = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let machine = i64::try_from(machine.as_secs()).unwrap_or(0);
    shown_until.map_or_else(|| machine.max(until + 3600), |second| second + 120)
}

fn router(service: &Arc<Service>) -> Router {
    Router::new()
        .route("/v1/{*path}", get(stripe::get))
        .route("/api/v2/{*path}", get(zendesk::get))
        .route("/brand/{brand}/api/v2/{*path}", get(zendesk::get))
        .route("/oauth/tokens", post(zendesk::auth::issue))
        .route("/api/2.0/export", get(mixpanel_export::export))
        .route(
            "/api/query/{*path}",
            get(mixpanel::query).post(mixpanel::query),
        )
        .route("/api/app/me", get(mixpanel::me))
        .route(
            "/api/app/projects/{project}/{*path}",
            get(mixpanel_answers::app),
        )
        .route("/lookup-tables", get(mixpanel_answers::lookup_tables))
        .layer(from_fn_with_state(Arc::clone(service), around))
        .with_state(Arc::clone(service))
}

/// Counts, delays and spoils every request.
async fn around(State(service): State<Arc<Service>>, request: Received, next: Next) -> Response {
    let vendor = Vendor::of(request.uri().path());
    let (_in_flight, fault) = service.arrive(vendor);
    let slot = Slot::take(&service, request.method(), request.uri().path());
    let extra = if let Some(Fault::Slow(extra)) = fault {
        extra
    } else {
        Duration::ZERO
    };
    let delay = service.simulation.latency + extra;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let (request, rule) = spoiled(&service, request).await;
    let mut response = match (slot, fault.and_then(|fault| fault.answer(vendor)), &rule) {
        (Err(refusal), ..) | (_, Some(refusal), _) => refusal,
        (_, _, Some(rule)) if rule.is_outage() => spoil::instead(&rule.spoil, vendor),
        (Ok(slot), None, rule) => {
            let mut response = next.run(request).await;
            if let Some(rule) = rule.as_ref().filter(|_| !comes_first(&response)) {
                response = spoil::spoiled(&rule.spoil, vendor, response).await;
            }
            if let Some(slot) = slot {
                slot.until_the_end_of(response)
            } else {
                response
            }
        }
    };
    let date = DateTime::from_timestamp(service.now(), 0).unwrap_or_default();
    if let Ok(date) = HeaderValue::try_from(date.format("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
        response.headers_mut().insert(header::DATE, date);
    }
    match fault {
        Some(Fault::Cut) => faults::cut(response),
        _ => response,
    }
}

pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.to_str().is_ok_and(|all| all.contains("gzip")))
}
