//! The vendors' rate limits.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// The limits that are enforced; `None` is unlimited, which is the default everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Stripe: requests per second for each operation (method and route).
    pub stripe_operation: Option<u32>,
    /// Stripe: requests per second for the account.
    pub stripe_global: Option<u32>,
    /// Stripe: how many requests may come at once; a second's worth if `None`.
    pub stripe_burst: Option<u32>,
    /// Zendesk: requests per minute for the account.
    pub zendesk_account: Option<u32>,
    /// Zendesk: requests per minute for all incremental exports together.
    pub zendesk_export: Option<u32>,
    /// Zendesk: whether the lists that have a limit of their own count it: deleted tickets (10 a
    /// minute), tags and the export of the search (100), audits of tickets (450).
    pub zendesk_endpoints: bool,
    /// Mixpanel: raw exports per second.
    pub mixpanel_export_second: Option<u32>,
    /// Mixpanel: raw exports per rolling hour.
    pub mixpanel_export_hour: Option<u32>,
    /// Mixpanel: Query API requests per rolling hour; further pages of a profile session don't
    /// count.
    pub mixpanel_query_hour: Option<u32>,
    /// Mixpanel: queries that are answered at once, profile pages among them.
    pub mixpanel_queries_at_once: Option<u32>,
    /// Mixpanel: raw exports that are answered at once.
    pub mixpanel_exports_at_once: Option<u32>,
}

impl Limits {
    /// The published limits, with those of a Stripe sandbox (25 requests a second in all).
    pub fn sandbox() -> Limits {
        Limits {
            stripe_operation: Some(25),
            stripe_global: Some(25),
            stripe_burst: None,
            zendesk_account: Some(700),
            zendesk_export: Some(10),
            zendesk_endpoints: true,
            mixpanel_export_second: Some(3),
            mixpanel_export_hour: Some(60),
            mixpanel_query_hour: Some(60),
            mixpanel_queries_at_once: Some(5),
            mixpanel_exports_at_once: Some(100),
        }
    }

    /// The published limits, with those of a live Stripe account (100 requests a second in all, 25
    /// an operation).
    pub fn live() -> Limits {
        Limits {
            stripe_global: Some(100),
            ..Limits::sandbox()
        }
    }
}

/// What is left of a limit after a request, for the vendors that say so in headers.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// Until the next request is possible again, or until the oldest one is forgotten.
    pub(crate) reset: Duration,
}

/// A time to wait in whole seconds, rounded up, as headers have it.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Which of Zendesk's limits a request counts against, besides the account's.
#[derive(Clone, Copy)]
pub(crate) struct ZendeskCall<'a> {
    /// The Help Center's budget instead of the account's.
    pub(crate) help_center: bool,
    pub(crate) export: bool,
    /// The name of the list's own limit.
    pub(crate) endpoint: Option<&'a str>,
}

/// What Zendesk tells about its limits.
#[derive(Clone)]
pub(crate) struct ZendeskBudgets {
    pub(crate) account: Budget,
    pub(crate) endpoint: Option<(String, Budget)>,
}

/// What Zendesk documents, or sends in headers, for the limits of single lists, a minute.
fn endpoint_limit(name: &str) -> u32 {
    match name {
        "deleted_tickets" => 10,
        "ticket_audits" => 450,
        _ => 100,
    }
}

/// The state of all limits.
pub(crate) struct Gate {
    limits: Limits,
    stripe_operations: HashMap<String, Bucket>,
    stripe_global: Bucket,
    zendesk_account: Window,
    zendesk_help_center: Window,
    zendesk_export: Window,
    zendesk_endpoints: HashMap<String, Window>,
    mixpanel_export_second: Window,
    mixpanel_export_hour: Window,
    mixpanel_query_hour: Window,
}

impl Gate {
    pub(crate) fn new(limits: Limits, now: Instant) -> Gate {
        Gate {
            limits,
            stripe_operations: HashMap::new(),
            stripe_global: Bucket::full(limits.stripe_global, limits.stripe_burst, now),
            zendesk_account: Window::new(limits.zendesk_account, MINUTE),
            zendesk_help_center: Window::new(limits.zendesk_account, MINUTE),
            zendesk_export: Window::new(limits.zendesk_export, MINUTE),
            zendesk_endpoints: HashMap::new(),
            mixpanel_export_second: Window::new(limits.mixpanel_export_second, SECOND),
            mixpanel_export_hour: Window::new(limits.mixpanel_export_hour, HOUR),
            mixpanel_query_hour: Window::new(limits.mixpanel_query_hour, HOUR),
        }
    }

    /// The error is the value of `Stripe-Rate-Limited-Reason`. A refused request costs nothing.
    pub(crate) fn stripe(&mut self, operation: &str, now: Instant) -> Result<(), &'static str> {
        let limits = self.limits;
        let bucket = self
            .stripe_operations
            .entry(operation.to_owned())
            .or_insert_with(|| Bucket::full(limits.stripe_operation, limits.stripe_burst, now));
        if !bucket.ready(now) {
            return Err("endpoint-rate");
        }
        if !self.stripe_global.ready(now) {
            return Err("global-rate");
        }
        bucket.take();
        self.stripe_global.take();
        Ok(())
    }

    /// The error is the budgets and how long to wait. A refused request costs nothing.
    pub(crate) fn zendesk(
        &mut self,
        call: ZendeskCall,
        now: Instant,
    ) -> Result<ZendeskBudgets, (ZendeskBudgets, Duration)> {
        let account = if call.help_center {
            &mut self.zendesk_help_center
        } else {
            &mut self.zendesk_account
        };
        let export = call.export.then_some(&mut self.zendesk_export);
        let own = call.endpoint.map(|name| {
            let limit = self.limits.zendesk_endpoints.then(|| endpoint_limit(name));
            (
                name,
                self.zendesk_endpoints
                    .entry(name.to_owned())
                    .or_insert_with(|| Window::new(limit, MINUTE)),
            )
        });
        let (name, mut own) = own.unzip();
        let mut windows: Vec<&mut Window> = [Some(account), export].into_iter().flatten().collect();
        windows.extend(own.as_deref_mut());
        let spent = windows
            .iter_mut()
            .map(|window| window.budget(now))
            .find(|budget| budget.remaining == 0);
        if spent.is_none() {
            for window in &mut windows {
                window.take(now);
            }
        }
        let account = windows[0].budget(now);
        drop(windows);
        let endpoint = name
            .zip(own)
            .map(|(name, window)| (name.to_owned(), window.budget(now)));
        let budgets = ZendeskBudgets {
            account,
            endpoint: endpoint.filter(|_| self.limits.zendesk_endpoints),
        };
        spent.map_or_else(
            || Ok(budgets.clone()),
            |spent| Err((budgets.clone(), spent.reset)),
        )
    }

    /// The error is how long to wait.
    pub(crate) fn mixpanel_export(&mut self, now: Instant) -> Result<(), Duration> {
        let (second, hour) = (
            self.mixpanel_export_second.budget(now),
            self.mixpanel_export_hour.budget(now),
        );
        for budget in [hour, second] {
            if budget.remaining == 0 {
                return Err(budget.reset);
            }
        }
        self.mixpanel_export_second.take(now);
        self.mixpanel_export_hour.take(now);
        Ok(())
    }

    /// How many queries are left of the hour.
    pub(crate) fn mixpanel_queries_left(&mut self, now: Instant) -> u32 {
        self.mixpanel_query_hour.budget(now).remaining
    }

    /// The error is the spent budget.
    pub(crate) fn mixpanel_query(&mut self, now: Instant) -> Result<(), Budget> {
        let budget = self.mixpanel_query_hour.budget(now);
        if budget.remaining == 0 {
            return Err(budget);
        }
        self.mixpanel_query_hour.take(now);
        Ok(())
    }
}

/// A token bucket; without a rate it never runs dry.
struct Bucket {
    rate: Option<f64>,
    capacity: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(rate: Option<u32>, burst: Option<u32>, now: Instant) -> Bucket {
        let capacity = f64::from(burst.or(rate).unwrap_or(1).max(1));
        Bucket {
            rate: rate.map(f64::from),
            capacity,
            tokens: capacity,
            filled: now,
        }
    }

    fn ready(&mut self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let gained = now.duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(self.capacity);
        self.filled = now;
        self.tokens >= 1.0
    }

    fn take(&mut self) {
        if self.rate.is_some() {
            self.tokens -= 1.0;
        }
    }
}

/// At most so many requests in any period of the given length.
struct Window {
    limit: Option<u32>,
    period: Duration,
    taken: VecDeque<Instant>,
}

impl Window {
    fn new(limit: Option<u32>, period: Duration) -> Window {
        Window {
            limit,
            period,
            taken: VecDeque::new(),
        }
    }

    fn budget(&mut self, now: Instant) -> Budget {
        while self
            .taken
            .front()
            .is_some_and(|taken| now.duration_since(*taken) >= self.period)
        {
            self.taken.pop_front();
        }
        // What Zendesk documents as the ceiling of any account stands for "unlimited" in headers.
        let limit = self.limit.unwrap_or(100_000);
        let used = u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
        let reset = self.taken.front().map_or(self.period, |oldest| {
            self.period.saturating_sub(now.duration_since(*oldest))
        });
        Budget {
            limit,
            remaining: limit.saturating_sub(used),
            reset,
        }
    }

    fn take(&mut self, now: Instant) {
        if self.limit.is_some() {
            self.taken.push_back(now);
        }
    }
}
