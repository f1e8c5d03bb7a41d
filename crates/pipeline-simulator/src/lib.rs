#![doc = include_str!("../README.md")]
#![expect(
    clippy::result_large_err,
    reason = "the error of a handler's step is the answer itself"
)]

mod book;
mod faults;
mod ledger;
mod limits;
mod mixpanel;
mod mixpanel_answers;
mod mixpanel_export;
mod mixpanel_history;
mod mixpanel_slots;
mod packed;
mod people;
mod server;
mod stats;
mod stripe;
mod stripe_query;
mod template;
#[cfg(test)]
mod tests;
mod timeline;
mod truth;
mod world;
mod written;
mod zendesk;

use std::collections::BTreeMap;
use std::time::Duration;

pub use book::{StripeAccount, StripeBook};
pub use faults::rule::{Rule, Spoil};
pub use faults::{Faults, Throttle};
pub use limits::Limits;
pub use server::{Body, Simulator};
pub use stats::{Operation, Stats};
pub use truth::{TrueEvent, Truth};
pub use zendesk::changes::{ZendeskAccount, ZendeskChange};

/// Everything a server is started with. Two servers with equal settings serve equal data.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Chooses the values in the records.
    pub seed: u64,
    /// The port on 127.0.0.1; 0 lets the system choose one.
    pub port: u16,
    /// The end of the data, in seconds since 1970: all records are older. The server's clock is the
    /// machine's, moved forward when that is needed to stay an hour after this.
    pub until: i64,
    /// How many days the data goes back; Stripe's events go back thirty at most, as there.
    pub days: u32,
    /// Hides all records that are as new as this second or newer and starts the server's clock two
    /// minutes after it; [`Simulator::show_until`] moves it on. With `None` everything is there
    /// from the start.
    pub shown_until: Option<i64>,
    /// Stripe's side.
    pub stripe: StripeWorld,
    /// Zendesk's side.
    pub zendesk: ZendeskWorld,
    /// Mixpanel's side.
    pub mixpanel: MixpanelWorld,
    /// The rate limits that are enforced; none by default.
    pub limits: Limits,
    /// Time that passes before each answer.
    pub latency: Duration,
    /// What goes wrong; nothing by default.
    pub faults: Faults,
    /// What goes wrong with certain requests only, such as a list that is refused: the first that
    /// applies counts. None by default. [`Faults::ordinary_account`] has what every vendor refuses
    /// to most.
    pub rules: Vec<Rule>,
}

impl Default for Simulation {
    /// Two years up to 1 November 2026, small enough to read in a few seconds.
    fn default() -> Simulation {
        Simulation {
            seed: 1,
            port: 0,
            until: 1_793_491_200,
            days: 730,
            shown_until: None,
            stripe: StripeWorld::default(),
            zendesk: ZendeskWorld::default(),
            mixpanel: MixpanelWorld::default(),
            limits: Limits::default(),
            latency: Duration::ZERO,
            faults: Faults::default(),
            rules: Vec::new(),
        }
    }
}

/// A Stripe account.
#[derive(Clone, Debug)]
pub struct StripeWorld {
    /// Accepted API keys. Only those of the account's own mode work: `sk_live_`/`rk_live_` when
    /// [`live`](Self::live), `sk_test_`/`rk_test_` otherwise.
    pub keys: Vec<String>,
    /// Live mode instead of a sandbox; every record's `livemode` says so.
    pub live: bool,
    /// How many charges.
    pub charges: u64,
    /// How many customers.
    pub customers: u64,
    /// How many objects every other stream has.
    pub others: u64,
    /// Other numbers of objects for the streams named, by table name: `invoices`, `top_ups`, ….
    pub counts: BTreeMap<String, u64>,
    /// The share of a stream's objects created in the last twentieth of the time: 0.05 is an even
    /// spread, 0.9 a young account that grows fast.
    pub recent_share: f64,
    /// Other shares for the streams named, by table name.
    pub recent_shares: BTreeMap<String, f64>,
    /// Of the objects, in blocks of so many, one block in eight shares one second of creation, as
    /// bulk imports do.
    pub burst: u64,
    /// Writes all charges at the start, with these members expanded, and keeps them in memory, 3.6
    /// KB each, so that the server takes little of the processor from what is measured beside it.
    pub written_beforehand: Option<Vec<String>>,
    /// Compresses what is written beforehand as well, with gzip, for clients that accept it.
    pub compressed_beforehand: bool,
    /// Instead of the computed lists, accounts whose objects are written down, so that they change.
    pub book: Option<StripeBook>,
    /// Streams that the key may not read (403), by table name.
    pub forbidden: Vec<String>,
    /// Streams of a product that the account isn't set up for (400), by table name.
    pub not_enabled: Vec<String>,
}

impl Default for StripeWorld {
    fn default() -> StripeWorld {
        StripeWorld {
            keys: ["sk_test_sim", "rk_test_sim", "sk_live_sim", "rk_live_sim"]
                .map(str::to_owned)
                .to_vec(),
            live: false,
            charges: 2_000,
            customers: 500,
            others: 120,
            counts: BTreeMap::new(),
            recent_share: 0.2,
            recent_shares: BTreeMap::new(),
            burst: 128,
            written_beforehand: None,
            compressed_beforehand: false,
            book: None,
            forbidden: Vec::new(),
            not_enabled: Vec::new(),
        }
    }
}

impl StripeWorld {
    /// How many objects a stream has.
    pub fn count(&self, stream: &str) -> u64 {
        let default = match stream {
            "charges" => self.charges,
            "customers" => self.customers,
            _ => self.others,
        };
        self.counts.get(stream).copied().unwrap_or(default)
    }
}

/// A Zendesk account.
#[derive(Clone, Debug)]
pub struct ZendeskWorld {
    /// How many tickets, the deleted ones and those of AI agents included.
    pub tickets: u64,
    /// How many users.
    pub users: u64,
    /// How many organizations.
    pub organizations: u64,
    /// How many groups.
    pub groups: u64,
    /// How many events of tickets, comments among them; three for each ticket if `None`.
    pub events: Option<u64>,
    /// How many objects every other list has; the lists of single tickets, articles and so on
    /// depend on these.
    pub others: u64,
    /// Other numbers of objects for the streams named: `macros`, `articles`, ….
    pub counts: BTreeMap<String, u64>,
    /// What the account has paid for. Streams beyond it are refused (403).
    pub plan: ZendeskPlan,
    /// Whether there is a Help Center. Without one its requests are answered by a web page (404).
    pub help_center: bool,
    /// Subdomains of brands with a Help Center each, the account's own first; the records are dealt
    /// out among them. Requests to the hosts of the others have `/brand/SUBDOMAIN` before their
    /// path. Without any there is one Help Center, and the list of brands is made up.
    pub brands: Vec<String>,
    /// Streams that the credentials may not read (403), by name.
    pub forbidden: Vec<String>,
    /// Deleting for good takes everything: the texts of a ticket's comments, wherever they are
    /// shown, and a user's identities.
    pub erases: bool,
    /// How many tickets change while each page of an export is on its way.
    pub changes_per_page: u64,
    /// Pages of exports and lists asked for with more records than this are answered by 504.
    pub slow_pages_over: Option<usize>,
    /// Every so many requests the answer is 503 with `Retry-After: 3`, as under load; 0 for never.
    pub backpressure_every: u64,
    /// A page of a time-based export that is one second cuts it off, and ends where it began: the
    /// defect that readers get caught in. Off, the page holds the whole second.
    pub cuts_seconds: bool,
    /// As [`StripeWorld::recent_share`], of the times of change.
    pub recent_share: f64,
    /// As [`StripeWorld::burst`].
    pub burst: u64,
    /// The user of Basic authentication, without `/token`.
    pub email: String,
    /// The API token of Basic authentication.
    pub token: String,
    /// The OAuth client's identifier.
    pub client_id: String,
    /// The OAuth client's secret.
    pub client_secret: String,
    /// The refresh token that is valid at the start; each use replaces it.
    pub refresh_token: String,
    /// An upper bound on the life of access tokens, whatever `expires_in` asks for.
    pub token_lifetime: Duration,
}

impl Default for ZendeskWorld {
    fn default() -> ZendeskWorld {
        ZendeskWorld {
            tickets: 3_000,
            users: 600,
            organizations: 80,
            groups: 12,
            events: None,
            others: 12,
            counts: BTreeMap::new(),
            plan: ZendeskPlan::Enterprise,
            help_center: true,
            brands: Vec::new(),
            forbidden: Vec::new(),
            erases: false,
            changes_per_page: 0,
            slow_pages_over: None,
            backpressure_every: 0,
            cuts_seconds: false,
            recent_share: 0.2,
            burst: 32,
            email: "admin@example.com".to_owned(),
            token: "sim_token".to_owned(),
            client_id: "sim_client".to_owned(),
            client_secret: "sim_secret".to_owned(),
            refresh_token: "sim_refresh".to_owned(),
            token_lifetime: Duration::from_hours(48),
        }
    }
}

/// What a Zendesk account has paid for, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZendeskPlan {
    /// Support or Suite Team.
    Team,
    /// Support or Suite Professional.
    Professional,
    /// Support or Suite Enterprise.
    Enterprise,
}

impl ZendeskWorld {
    /// How many objects a list has at the start.
    pub(crate) fn count(&self, name: &str) -> u64 {
        if name == "brands" && !self.brands.is_empty() {
            return self.brands.len() as u64;
        }
        self.counts.get(name).copied().unwrap_or(self.others)
    }

    pub(crate) fn event_count(&self) -> u64 {
        self.events.unwrap_or(3 * self.tickets)
    }
}

/// A Mixpanel project. Unless it has a [`local_zone`](Self::local_zone) it was made after 2023: its
/// days and times are UTC.
#[derive(Clone, Debug)]
pub struct MixpanelWorld {
    /// How many whole days of events, the last one being the day before [`Simulation::until`].
    pub days: u32,
    /// How many events each day has.
    pub events_per_day: u64,
    /// The share of events that arrive late, up to [`late_days`](Self::late_days) days.
    pub late: f64,
    /// How late those may be.
    pub late_days: u32,
    /// The share of events that arrive later still.
    pub very_late: f64,
    /// How late those may be.
    pub very_late_days: u32,
    /// The share of users that are merged with another, each at a time of its own: from then on all
    /// events of theirs are exported with the other's id, and keep their own beside it. An event of
    /// its own, `$identify`, says when.
    pub merged: f64,
    /// The zone whose wall clock events are stored by, as projects from before 2023 do.
    pub local_zone: Option<chrono_tz::Tz>,
    /// Most events of one export: larger ones are answered with 504. No limit by default.
    pub export_rows: u64,
    /// How many profiles.
    pub profiles: u64,
    /// How many cohorts.
    pub cohorts: u64,
    /// The project's id.
    pub project_id: u64,
    /// The service account's user name.
    pub username: String,
    /// The service account's secret.
    pub secret: String,
}

impl Default for MixpanelWorld {
    fn default() -> MixpanelWorld {
        MixpanelWorld {
            days: 30,
            events_per_day: 500,
            late: 0.0,
            late_days: 5,
            very_late: 0.0,
            very_late_days: 20,
            merged: 0.0,
            local_zone: None,
            export_rows: u64::MAX,
            profiles: 500,
            cohorts: 4,
            project_id: 2_000_001,
            username: "sim.service-account".to_owned(),
            secret: "sim_secret".to_owned(),
        }
    }
}

/// A vendor whose API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vendor {
    /// Everything under `/v1/`.
    Stripe,
    /// Everything under `/api/v2/`, also of brands, and `/oauth/tokens`.
    Zendesk,
    /// Everything else.
    Mixpanel,
}

impl Vendor {
    /// Whose API a path belongs to.
    pub(crate) fn of(path: &str) -> Vendor {
        if path.starts_with("/v1/") {
            Vendor::Stripe
        } else if ["/api/v2/", "/oauth/", "/brand/"]
            .iter()
            .any(|start| path.starts_with(start))
        {
            Vendor::Zendesk
        } else {
            Vendor::Mixpanel
        }
    }
}
