//! A Stripe account whose objects are written down one by one, so that they can change, vanish and
//! tell of it.
//!
//! The lists of [`world`](crate::world) are computed and stand still. Here everything is kept in
//! memory: objects of every list, the lists inside objects, the lists of other objects, the events
//! that tell of changes, and connected accounts that have all of that themselves. What an event
//! carries is deliberately of no use: its object has been in another version of the API and says
//! so.

mod answer;
mod changes;
mod query;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use self::answer::answer;
pub(crate) use self::query::percent_decoded;
use crate::server::Service;
use crate::world::{DAY, draw, hash};

const DEFINITIONS: &str = include_str!("../../data/stripe_book.json");

/// Entries of a list inside an object that Stripe sends with it.
const EMBEDDED: usize = 10;

/// How long events are kept.
pub(crate) const RETENTION: i64 = 30 * DAY;

/// What a written-down account is started with.
#[derive(Clone, Debug)]
pub struct StripeBook {
    /// How many objects each list has at the start.
    pub objects: u64,
    /// The lists that have any; all when empty.
    pub streams: Vec<String>,
    /// How many things happen while each page of a list is on its way.
    pub changes_per_page: u64,
    /// How many connected accounts there are: then the list `accounts` has these, and otherwise
    /// some that nobody can read.
    pub connected: u64,
}

impl Default for StripeBook {
    fn default() -> StripeBook {
        StripeBook {
            objects: 30,
            streams: Vec::new(),
            changes_per_page: 0,
            connected: 0,
        }
    }
}

/// One list of the data file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) path: String,
    /// The list that single objects are asked for from, where it is another one.
    pub(crate) objects: Option<String>,
    pub(crate) object: String,
    pub(crate) prefix: String,
    pub(crate) params: Vec<String>,
    record: Map<String, Value>,
    /// The list whose objects each have one of this.
    pub(crate) parent: Option<String>,
    /// The member that says which of them an object belongs to.
    pub(crate) parent_member: Option<String>,
    /// The parameter that asks for those that belong to one.
    pub(crate) parent_param: Option<String>,
    /// The value of the parameter `object`, where two lists share a path.
    pub(crate) only: Option<String>,
    #[serde(default)]
    pub(crate) events: Vec<String>,
    #[serde(default)]
    pub(crate) expand: Vec<String>,
    #[serde(default)]
    pub(crate) nested: Vec<Nested>,
    /// The member that an update changes.
    pub(crate) touch: Option<String>,
    /// Changes without an event.
    #[serde(default)]
    pub(crate) silent: bool,
}

/// A list inside the objects of another.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Nested {
    pub(crate) member: String,
    pub(crate) table: String,
    /// Whether it is there without being asked for.
    pub(crate) always: bool,
}

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) created: i64,
    /// The object that it belongs to.
    pub(crate) parent: Option<String>,
    pub(crate) fields: Map<String, Value>,
    pub(crate) gone: bool,
}

/// The objects of one list, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) objects: Vec<Kept>,
    positions: HashMap<String, usize>,
}

impl Shelf {
    fn add(&mut self, kept: Kept) {
        self.positions.insert(kept.id.clone(), self.objects.len());
        self.objects.push(kept);
    }

    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        self.positions.get(id).copied()
    }

    /// The objects that belong to one, the newest first.
    pub(crate) fn of(&self, parent: &str) -> impl Iterator<Item = &Kept> {
        self.objects
            .iter()
            .rev()
            .filter(move |kept| !kept.gone && kept.parent.as_deref() == Some(parent))
    }

    pub(crate) fn alive(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.objects.iter().filter(|kept| !kept.gone)
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) kind: String,
    pub(crate) body: Value,
}

/// What one account has.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) shelves: Vec<Shelf>,
    /// The oldest first.
    pub(crate) events: Vec<Told>,
}

/// Everything that is written down.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) settings: StripeBook,
    pub(crate) definitions: Vec<Definition>,
    /// By the account's id; the empty one is the key's own.
    pub(crate) accounts: BTreeMap<String, Account>,
    /// False for the empty lists beside the computed ones, which may belong to objects of those.
    is_written: bool,
    seed: u64,
    drawn: u64,
}

impl Book {
    pub(crate) fn new(
        written: Option<&StripeBook>,
        seed: u64,
        now: i64,
        days: u32,
    ) -> std::io::Result<Book> {
        let definitions: Vec<Definition> = serde_json::from_str(DEFINITIONS)?;
        let settings = written.cloned().unwrap_or(StripeBook {
            objects: 0,
            ..StripeBook::default()
        });
        let connected = settings.connected;
        let mut book = Book {
            settings,
            definitions,
            accounts: BTreeMap::new(),
            is_written: written.is_some(),
            seed,
            drawn: 0,
        };
        let own = book.account("", now, days);
        book.accounts.insert(String::new(), own);
        for number in 0..connected {
            let name = connected_name(number);
            let account = book.account(&name, now, days);
            book.accounts.insert(name, account);
        }
        Ok(book)
    }

    /// Connects an account with objects of its own.
    fn connect(&mut self, name: &str, now: i64, days: u32) {
        let account = self.account(name, now, days);
        self.accounts.insert(name.to_owned(), account);
        let table = self.table("accounts");
        let kept = self.fresh(table, Some(name.to_owned()), None, now);
        if let Some(own) = self.accounts.get_mut("") {
            own.shelves[table].add(kept);
        }
    }

    /// Lets an account revoke the platform's access.
    fn disconnect(&mut self, name: &str) {
        self.accounts.remove(name);
        self.change("", "accounts", name, None);
    }

    fn account(&mut self, name: &str, now: i64, days: u32) -> Account {
        let mut account = Account {
            shelves: vec![Shelf::default(); self.definitions.len()],
            events: Vec::new(),
        };
        let span = i64::from(days) * DAY;
        let count = i64::try_from(self.settings.objects)
            .unwrap_or(i64::MAX)
            .max(1);
        for table in self.parents_first() {
            let is_kept = self.settings.streams.is_empty()
                || self
                    .settings
                    .streams
                    .contains(&self.definitions[table].name);
            let is_own =
                name.is_empty() || self.definitions[table].parent.as_deref() != Some("accounts");
            let is_accounts = self.definitions[table].name == "accounts";
            if is_accounts && name.is_empty() && self.settings.connected > 0 {
                for number in 0..self.settings.connected {
                    let kept = self.fresh(table, Some(connected_name(number)), None, now - span);
                    account.shelves[table].add(kept);
                }
                continue;
            }
            // A connected account has none of its own.
            if !is_kept || !is_own || (!name.is_empty() && is_accounts) {
                continue;
            }
            for index in 0..i64::try_from(self.settings.objects).unwrap_or(0) {
                // A block of each list has one second of creation, as bulk imports do.
                let index = if index % 8 < 3 {
                    index - index % 8
                } else {
                    index
                };
                let created = now - span + span * 9 / 10 * index / count;
                let parent = self.parent(&account, table);
                if self.definitions[table].parent.is_some() && parent.is_none() {
                    continue;
                }
                let kept = self.fresh(table, None, parent, created);
                account.shelves[table].add(kept);
            }
        }
        account
    }

    /// The tables so that each comes after the one that it belongs to.
    fn parents_first(&self) -> Vec<usize> {
        let depth = |table: usize| {
            let mut depth = 0;
            let mut at = self.definitions[table]
                .parent
                .as_deref()
                .or(self.loose_parent(table));
            while let Some(parent) = at {
                depth += 1;
                at = self.definitions[self.table(parent)].parent.as_deref();
            }
            depth
        };
        let mut order: Vec<usize> = (0..self.definitions.len()).collect();
        order.sort_by_key(|table| depth(*table));
        order
    }

    /// The table that has this one inside its objects although it is a list of its own: refunds and
    /// payments.
    fn loose_parent(&self, table: usize) -> Option<&str> {
        let name = &self.definitions[table].name;
        let owner = self
            .definitions
            .iter()
            .find(|owner| owner.nested.iter().any(|nested| nested.table == *name));
        owner.map(|owner| owner.name.as_str())
    }

    pub(crate) fn table(&self, name: &str) -> usize {
        self.definitions
            .iter()
            .position(|definition| definition.name == name)
            .unwrap_or(0)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.definitions
            .iter()
            .position(|definition| definition.name == name)
    }

    /// Some object of the table that this one belongs to.
    pub(crate) fn parent(&mut self, account: &Account, table: usize) -> Option<String> {
        let owner = self.definitions[table]
            .parent
            .clone()
            .or_else(|| self.loose_parent(table).map(str::to_owned))?;
        let owner = self.table(&owner);
        let number = self.next();
        let alive: Vec<&Kept> = account.shelves[owner].alive().collect();
        // One in four belongs to the first, which has more than comes with it therefore.
        let index = if number.is_multiple_of(4) {
            0
        } else {
            usize::try_from(number % alive.len().max(1) as u64).unwrap_or(0)
        };
        alive.get(index).map(|kept| kept.id.clone())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.drawn += 1;
        draw(self.seed, self.drawn)
    }

    /// An object that is not there yet.
    pub(crate) fn fresh(
        &mut self,
        table: usize,
        id: Option<String>,
        parent: Option<String>,
        created: i64,
    ) -> Kept {
        let number = self.next();
        let definition = &self.definitions[table];
        let id = id.unwrap_or_else(|| format!("{}{number:016x}", definition.prefix));
        let mut fields = definition.record.clone();
        for value in fields.values_mut() {
            fill(value, created);
        }
        if let (Some(member), Some(parent)) = (&definition.parent_member, &parent) {
            fields.insert(member.clone(), Value::from(parent.clone()));
        }
        if ["prices", "tax_rates"].contains(&definition.name.as_str()) {
            fields.insert("active".to_owned(), Value::from(number.is_multiple_of(2)));
        }
        Kept {
            id,
            created,
            parent,
            fields,
            gone: false,
        }
    }

    /// An object as Stripe writes it, with lists inside it as far as they are asked for; `whole`
    /// has all entries of them.
    pub(crate) fn render(
        &self,
        account: &Account,
        table: usize,
        kept: &Kept,
        expand: &[String],
        whole: bool,
    ) -> Value {
        let definition = &self.definitions[table];
        let mut object = Map::new();
        object.insert("id".to_owned(), Value::from(kept.id.clone()));
        object.insert("object".to_owned(), Value::from(definition.object.clone()));
        object.extend(kept.fields.clone());
        for nested in definition
            .nested
            .iter()
            .filter(|nested| nested.always || expand.contains(&nested.member))
        {
            let inner = self.table(&nested.table);
            let entries: Vec<&Kept> = account.shelves[inner].of(&kept.id).collect();
            let shown = if whole {
                entries.len()
            } else {
                EMBEDDED.min(entries.len())
            };
            let data: Vec<Value> = entries[..shown]
                .iter()
                .map(|entry| self.render(account, inner, entry, &[], false))
                .collect();
            let list = json!({ "object": "list", "data": data, "has_more": shown < entries.len(), "total_count": entries.len(),
                "url": self.definitions[inner].path });
            object.insert(nested.member.clone(), list);
        }
        Value::Object(object)
    }

    /// The objects of a list, as a complete reading of it has them.
    pub(crate) fn records(&self, account: &str, stream: &str) -> Vec<Value> {
        let (Some(account), Some(table)) = (self.accounts.get(account), self.find(stream)) else {
            return Vec::new();
        };
        let expand = &self.definitions[table].expand;
        account.shelves[table]
            .alive()
            .map(|kept| {
                let mut record = self.render(account, table, kept, expand, true);
                if let (Value::Object(record), Some(parent)) = (&mut record, &kept.parent) {
                    record
                        .entry("_parent")
                        .or_insert_with(|| Value::from(parent.clone()));
                }
                record
            })
            .collect()
    }
}

fn connected_name(number: u64) -> String {
    format!("acct_connected{number:04}")
}

/// Stripe's written-down accounts, from the outside.
#[derive(Clone, Copy)]
pub struct StripeAccount<'a> {
    pub(crate) service: &'a Service,
}

impl StripeAccount<'_> {
    /// Lets so many things happen now: objects are made, changed and deleted, and events tell of
    /// it.
    pub fn happen(&self, things: u64) {
        let now = self.service.now();
        if let Some(mut book) = self.service.book() {
            (0..things).for_each(|_| book.happen(now));
        }
    }

    /// Lets objects of every list be deleted, changed and made, several in one second, and events
    /// tell of it.
    pub fn happen_everywhere(&self) {
        let now = self.service.now();
        if let Some(mut book) = self.service.book() {
            book.happen_everywhere(now);
        }
    }

    /// How many things happen from now on while each page of a list is on its way.
    pub fn changes_per_page(&self, things: u64) {
        if let Some(mut book) = self.service.book() {
            book.settings.changes_per_page = things;
        }
    }

    /// The objects of a list as a complete reading of it has them, with all entries of the lists
    /// inside them. The key's own account is the empty name.
    pub fn records(&self, account: &str, stream: &str) -> Vec<Value> {
        self.service
            .book()
            .map(|book| book.records(account, stream))
            .unwrap_or_default()
    }

    /// Connects an account of this name, which has objects already.
    pub fn connect(&self, name: &str) {
        let (now, days) = (self.service.now(), self.service.simulation.days);
        if let Some(mut book) = self.service.book() {
            book.connect(name, now, days);
        }
    }

    /// Lets an account revoke the platform's access: it is not listed any more, and requests for it
    /// are refused.
    pub fn disconnect(&self, name: &str) {
        if let Some(mut book) = self.service.book() {
            book.disconnect(name);
        }
    }

    /// The names of all accounts; that of the key's own is empty.
    pub fn accounts(&self) -> Vec<String> {
        self.service
            .book()
            .map(|book| book.accounts.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The names of all lists.
    pub fn streams(&self) -> Vec<String> {
        self.service
            .book()
            .map(|book| {
                book.definitions
                    .iter()
                    .map(|list| list.name.clone())
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The server's clock, in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.service.now()
    }

    /// How many events there are, of all accounts.
    pub fn events(&self) -> usize {
        self.service.book().map_or(0, |book| {
            book.accounts
                .values()
                .map(|account| account.events.len())
                .sum()
        })
    }

    /// Lets a key expire after so many further requests.
    pub fn expire(&self, key: &str, requests: u64) {
        let mut state = self.service.state();
        let from = state.stats.requests + requests + 1;
        state.expiring.insert(key.to_owned(), from);
    }

    /// The streams that the key may not read from now on.
    pub fn forbid(&self, streams: &[&str]) {
        self.service.state().forbidden = streams.iter().map(|name| (*name).to_owned()).collect();
    }

    /// How many objects the events name that come after so many events; each counts once.
    pub fn named_since(&self, events: usize) -> usize {
        let object = |told: &Told| {
            Some((
                told.body["data"]["object"]["object"].as_str()?.to_owned(),
                told.body["data"]["object"]["id"].to_string(),
            ))
        };
        let named = |book: &Book| -> BTreeSet<(String, String)> {
            book.accounts
                .values()
                .flat_map(|account| account.events.iter().skip(events))
                .filter_map(object)
                .collect()
        };
        self.service.book().map_or(0, |book| named(&book).len())
    }

    /// Makes an object with these members. Gives its id.
    pub fn make(
        &self,
        account: &str,
        stream: &str,
        parent: Option<&str>,
        members: Value,
    ) -> Option<String> {
        let now = self.service.now();
        self.service
            .book()?
            .make(account, stream, parent, members, now)
    }

    /// Changes members of an object, or deletes it when there are none, without a word.
    pub fn change(&self, account: &str, stream: &str, id: &str, members: Option<Value>) {
        if let Some(mut book) = self.service.book() {
            book.change(account, stream, id, members);
        }
    }

    /// Tells of an object by an event of this name, which happened so many seconds ago and shows
    /// only now.
    pub fn tell(&self, account: &str, kind: &str, object: Value, seconds_ago: i64) {
        let now = self.service.now() - seconds_ago;
        if let Some(mut book) = self.service.book() {
            book.say(account, kind, object, now);
        }
    }
}

/// Replaces the places where a template says when.
fn fill(value: &mut Value, created: i64) {
    match value {
        Value::String(text) if text == "${time}" => *value = Value::from(created),
        Value::Object(object) => object.values_mut().for_each(|value| fill(value, created)),
        _ => {}
    }
}

/// An order that has nothing to do with time.
fn scattered(id: &str) -> u64 {
    draw(hash(id.as_bytes()), 1)
}
