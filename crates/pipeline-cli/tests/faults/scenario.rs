//! A scenario: which account is read, what goes wrong, and what must be seen.

use std::path::Path;
use std::time::Duration;

use pipeline_simulator::{MixpanelWorld, Simulation, StripeWorld, ZendeskWorld};

use crate::between::{Act, Trouble};

/// The vendor whose account is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vendor {
    Stripe,
    Zendesk,
    Mixpanel,
}

/// The destination that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Parquet,
    Jsonl,
    /// A server of the tests' own.
    Postgres,
    /// Parquet in an object store of the tests' own.
    Bucket,
}

/// Something done to the sandbox's folder while no sync runs.
pub(crate) type Deed = fn(&Path);

/// Everything about one fault. What is not set is an ordinary sync of a small account.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) vendor: Vendor,
    pub(crate) streams: Vec<&'static str>,
    pub(crate) store: Store,
    /// Objects of the streams named, where the account's own number does not do.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// Members of the source's table more.
    pub(crate) members: &'static str,
    /// Whether a whole sync comes before the fault.
    pub(crate) prepared: bool,
    /// What is done to the folder before the fault's run.
    pub(crate) before: Option<Deed>,
    pub(crate) troubles: Vec<Trouble>,
    /// Arguments of the fault's run; `sync` when there are none.
    pub(crate) args: Vec<&'static str>,
    /// Environment of the fault's run.
    pub(crate) env: Vec<(&'static str, &'static str)>,
    /// A shell's command that comes before the program in the fault's run, such as a limit.
    pub(crate) shell: Option<&'static str>,
    /// Exit codes that the fault's run may have.
    pub(crate) exits: Vec<i32>,
    /// Texts that it prints.
    pub(crate) says: Vec<&'static str>,
    /// Texts that it does not print.
    pub(crate) hides: Vec<&'static str>,
    /// Most requests of the fault's run.
    pub(crate) most_requests: usize,
    /// Fewest requests of the fault's run: proof that it tried again.
    pub(crate) fewest_requests: usize,
    /// Queries of the database after the fault's run, and their result as text.
    pub(crate) stores: Vec<(&'static str, &'static str)>,
    /// Streams that the fault's run reads to the end.
    pub(crate) unharmed: Vec<&'static str>,
    /// What is done to the folder when the fault is over.
    pub(crate) repair: Option<Deed>,
    /// Arguments of the run after the fault, besides `sync`.
    pub(crate) resumes: Vec<&'static str>,
    /// Time before each answer.
    pub(crate) latency: Duration,
    /// Days of events.
    pub(crate) days: u32,
    /// Whether the configuration names no streams, which selects all.
    pub(crate) selects_all: bool,
}

impl Scenario {
    fn of(vendor: Vendor, streams: &[&'static str]) -> Self {
        Self {
            vendor,
            streams: streams.to_vec(),
            store: Store::Sqlite,
            counts: Vec::new(),
            members: "",
            prepared: false,
            before: None,
            troubles: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            shell: None,
            exits: vec![0],
            says: Vec::new(),
            hides: Vec::new(),
            most_requests: 60,
            fewest_requests: 0,
            stores: Vec::new(),
            unharmed: Vec::new(),
            repair: None,
            resumes: Vec::new(),
            latency: Duration::ZERO,
            days: 2,
            selects_all: false,
        }
    }

    /// 250 charges in three pages, and 20 coupons that are read as a whole.
    pub(crate) fn stripe() -> Self {
        Self::of(Vendor::Stripe, &["charges", "coupons"])
    }

    /// 12 groups in one page, and tickets of an export.
    pub(crate) fn zendesk() -> Self {
        Self::of(Vendor::Zendesk, &["groups", "tickets"])
    }

    /// Two days of 40 events.
    pub(crate) fn mixpanel() -> Self {
        Self::of(Vendor::Mixpanel, &["export"])
    }

    /// Changes how many days of events there are.
    pub(crate) fn days(self, days: u32) -> Self {
        Self { days, ..self }
    }

    /// Reads every stream of the account; the two ordinary ones are compared.
    pub(crate) fn every_stream(self) -> Self {
        Self {
            selects_all: true,
            ..self
        }
    }

    /// Writes another destination than SQLite.
    pub(crate) fn into(self, store: Store) -> Self {
        Self { store, ..self }
    }

    /// Changes how many objects a stream has.
    pub(crate) fn with(mut self, stream: &'static str, objects: u64) -> Self {
        self.counts.push((stream, objects));
        self
    }

    /// Adds lines to the source's table.
    pub(crate) fn members(self, members: &'static str) -> Self {
        Self { members, ..self }
    }

    /// Syncs everything before the fault comes.
    pub(crate) fn prepared(self) -> Self {
        Self {
            prepared: true,
            ..self
        }
    }

    /// Changes the folder before the fault's run.
    pub(crate) fn before(self, deed: Deed) -> Self {
        Self {
            before: Some(deed),
            ..self
        }
    }

    /// Spoils all requests that begin so.
    pub(crate) fn always(self, path: &'static str, act: Act) -> Self {
        self.trouble(Trouble::new(path, act))
    }

    /// Spoils the second request that begins so: a page in the middle.
    pub(crate) fn once(self, path: &'static str, act: Act) -> Self {
        self.trouble(Trouble::new(path, act).after(1).times(1))
    }

    /// Spoils the first request that begins so.
    pub(crate) fn first(self, path: &'static str, act: Act) -> Self {
        self.trouble(Trouble::new(path, act).times(1))
    }

    /// Spoils the first export that has events: what is newer than the simulated project comes
    /// before it, and is empty.
    pub(crate) fn first_export(self, act: Act) -> Self {
        self.trouble(
            Trouble::new("/api/2.0/export", act)
                .containing("from_date=2026-10")
                .times(1),
        )
    }

    /// Spoils what this says.
    pub(crate) fn trouble(mut self, trouble: Trouble) -> Self {
        self.troubles.push(trouble);
        self
    }

    /// Runs other arguments than `sync` while the fault is there.
    pub(crate) fn args(mut self, args: &[&'static str]) -> Self {
        self.args = args.to_vec();
        self
    }

    /// Ends the fault's run after this time: for faults that last.
    pub(crate) fn for_at_most(self, time: &'static str) -> Self {
        self.args(&["sync", "--max-duration", time])
    }

    /// Sets a variable in the fault's run.
    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// Runs the program behind this command of a shell.
    pub(crate) fn shell(self, command: &'static str) -> Self {
        Self {
            shell: Some(command),
            ..self
        }
    }

    /// The fault's run ends with this code instead of 0.
    pub(crate) fn exits(self, code: i32) -> Self {
        Self {
            exits: vec![code],
            ..self
        }
    }

    /// The fault's run may end with any of these codes.
    pub(crate) fn exits_with_any(self, codes: &[i32]) -> Self {
        Self {
            exits: codes.to_vec(),
            ..self
        }
    }

    /// The fault's run prints this, whatever the case of its letters.
    pub(crate) fn says(mut self, text: &'static str) -> Self {
        self.says.push(text);
        self
    }

    /// The fault's run does not print this.
    pub(crate) fn hides(mut self, text: &'static str) -> Self {
        self.hides.push(text);
        self
    }

    /// The fault's run sends at most this number of requests.
    pub(crate) fn at_most(self, requests: usize) -> Self {
        Self {
            most_requests: requests,
            ..self
        }
    }

    /// The fault's run sends at least this number of requests.
    pub(crate) fn at_least(self, requests: usize) -> Self {
        Self {
            fewest_requests: requests,
            ..self
        }
    }

    /// After the fault's run this query has this result.
    pub(crate) fn stores(mut self, query: &'static str, result: &'static str) -> Self {
        self.stores.push((query, result));
        self
    }

    /// The fault's run reads these streams to the end all the same.
    pub(crate) fn unharmed(mut self, streams: &[&'static str]) -> Self {
        self.unharmed = streams.to_vec();
        self
    }

    /// Changes the folder when the fault is over.
    pub(crate) fn repair(self, deed: Deed) -> Self {
        Self {
            repair: Some(deed),
            ..self
        }
    }

    /// Lets the run after the fault read everything again: the values that were stored are wrong,
    /// or the table is lost.
    pub(crate) fn refreshed(mut self) -> Self {
        self.resumes.push("--full-refresh");
        self
    }

    /// The account that is read.
    pub(crate) fn simulation(&self) -> Simulation {
        let count = |stream: &str, default| {
            self.counts
                .iter()
                .find(|(named, _)| *named == stream)
                .map_or(default, |(_, count)| *count)
        };
        let counts = self
            .counts
            .iter()
            .map(|(stream, count)| ((*stream).to_owned(), *count))
            .collect();
        let stripe = StripeWorld {
            keys: vec![KEY.to_owned()],
            charges: count("charges", 250),
            customers: count("customers", 120),
            others: count("others", 20),
            live: true,
            burst: count("burst", 1),
            counts,
            ..StripeWorld::default()
        };
        let zendesk = ZendeskWorld {
            tickets: count("tickets", 40),
            users: count("users", 20),
            groups: count("groups", 12),
            organizations: count("organizations", 5),
            token: KEY.to_owned(),
            client_secret: KEY.to_owned(),
            ..ZendeskWorld::default()
        };
        let mixpanel = MixpanelWorld {
            days: self.days,
            events_per_day: count("export", 40),
            profiles: 10,
            secret: KEY.to_owned(),
            ..MixpanelWorld::default()
        };
        Simulation {
            days: 60,
            stripe,
            zendesk,
            mixpanel,
            latency: self.latency,
            ..Simulation::default()
        }
    }

    /// The name of the source.
    pub(crate) fn source(&self) -> &'static str {
        match self.vendor {
            Vendor::Stripe => "payments",
            Vendor::Zendesk => "desk",
            Vendor::Mixpanel => "web",
        }
    }

    /// `pipeline.toml` for this base URL, and these members of the destination.
    pub(crate) fn configuration(&self, url: &str, destination: &str) -> String {
        let source = match self.vendor {
            Vendor::Stripe => {
                "connector = \"stripe\"\napi_key = \"${SECRET}\"\nrate_share = 1.0".to_owned()
            }
            Vendor::Zendesk if self.members.contains("client_id") => {
                "connector = \"zendesk\"\nsubdomain = \"sim\"".to_owned()
            }
            Vendor::Zendesk => {
                let world = ZendeskWorld::default();
                format!(
                    "connector = \"zendesk\"\nsubdomain = \"sim\"\nemail = \"{}\"\napi_token = \
                     \"${{SECRET}}\"",
                    world.email
                )
            }
            Vendor::Mixpanel => {
                let world = MixpanelWorld::default();
                format!(
                    "connector = \"mixpanel\"\nproject_id = {}\nusername = \"{}\"\nsecret = \
                     \"${{SECRET}}\"\nstart_date = \"2026-10-{}\"",
                    world.project_id,
                    world.username,
                    32 - self.days
                )
            }
        };
        // One page after the other, so that the second one is always the same; but not where one
        // list must not hold up another.
        let sync = match (self.selects_all, self.unharmed.is_empty()) {
            // As many tables in a transaction as there are.
            (true, _) => "commit_interval = \"10s\"\n",
            (false, true) => "commit_interval = \"50ms\"\nmax_slices = 1\n",
            (false, false) => "commit_interval = \"50ms\"\n",
        };
        let streams = if self.selects_all {
            String::new()
        } else {
            format!("streams = {:?}\n", self.streams)
        };
        format!(
            "[destination]\n{destination}\n\n[sources.{}]\n{source}\nbase_url = \
             \"{url}\"\n{streams}{}\n\n[sync]\n{sync}",
            self.source(),
            self.members
        )
    }
}

/// The credential of every source. It is looked for in everything that is written.
pub(crate) const KEY: &str = "sk_live_h/sh0hush1hush2";
