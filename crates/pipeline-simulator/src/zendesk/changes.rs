//! Changes to the account while the server runs.

use super::events::Kind;
use crate::ledger::Fate;
use crate::server::Service;
use crate::world::{Row, draw};

/// What can happen to records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZendeskChange {
    /// Somebody makes one.
    Create,
    /// Somebody changes it. A ticket gets an event.
    Update,
    /// The system changes a ticket: `generated_timestamp` moves, `updated_at` does not, and there
    /// is no event.
    UpdateBySystem,
    /// It is deleted and can be restored: a ticket's status becomes `deleted`, a user turns
    /// inactive.
    Delete,
    /// A deleted one is restored.
    Restore,
    /// A deleted one is deleted for good and loses what it said; its `updated_at` does not move.
    /// Where the account [erases](crate::ZendeskWorld::erases), a ticket's comments lose their text
    /// too, and a user's identities vanish.
    Scrub,
    /// It vanishes from its list.
    Remove,
    /// The first comment of a ticket is blackened.
    Redact,
}

/// The account of Zendesk's side, to be changed. Every change happens at the server's time now.
pub struct ZendeskAccount<'a> {
    pub(crate) service: &'a Service,
}

impl ZendeskAccount<'_> {
    /// Makes a change to so many records of a table, which are chosen by the seed. Gives how many
    /// there were to change: fewer when not so many are left, none in a table that follows another
    /// one.
    pub fn change(&self, table: &str, change: ZendeskChange, count: u64) -> u64 {
        (0..count).take_while(|_| self.one(table, change)).count() as u64
    }

    fn one(&self, table: &str, change: ZendeskChange) -> bool {
        let (world, now) = (&*self.service.world, self.service.now());
        let Some(ordinal) = world.find(table) else {
            return false;
        };
        let turn = {
            let mut state = self.service.state();
            state.changes += 1;
            state.changes
        };
        let Some(mut ledger) = world.tables[ordinal].ledger_mut() else {
            return false;
        };
        let fates: &[Fate] = match change {
            ZendeskChange::Restore | ZendeskChange::Scrub => &[Fate::Deleted],
            ZendeskChange::Remove => &[Fate::Live, Fate::Deleted],
            _ => &[Fate::Live],
        };
        let start = draw(self.service.simulation.seed ^ 0x77, turn) % ledger.len().max(1);
        let chosen = if change == ZendeskChange::Create {
            Some(ledger.add(now))
        } else {
            ledger.find(start, fates)
        };
        let Some(index) = chosen else { return false };
        drop(ledger);
        let texts = self.texts(table, index, change);
        self.service.state().erased.extend(texts);
        let Some(mut ledger) = world.tables[ordinal].ledger_mut() else {
            return false;
        };
        match change {
            ZendeskChange::Create => {}
            ZendeskChange::Update | ZendeskChange::Redact => {
                ledger.change(index, now, |entry| entry.updated = now);
            }
            ZendeskChange::UpdateBySystem => ledger.change(index, now, |_| {}),
            ZendeskChange::Delete => ledger.change(index, now, |entry| {
                (entry.fate, entry.updated) = (Fate::Deleted, now);
            }),
            ZendeskChange::Restore => ledger.change(index, now, |entry| {
                (entry.fate, entry.updated) = (Fate::Live, now);
            }),
            ZendeskChange::Scrub => ledger.change(index, now, |entry| entry.fate = Fate::Scrubbed),
            ZendeskChange::Remove => ledger.change(index, now, |entry| entry.fate = Fate::Gone),
        }
        drop(ledger);
        if table == "tickets" {
            let mut events = world.events_mut();
            match change {
                ZendeskChange::Create => events.add(index, Kind::Open, now),
                ZendeskChange::Update => events.add(
                    index,
                    if turn.is_multiple_of(3) {
                        Kind::Touch
                    } else {
                        Kind::Reply
                    },
                    now,
                ),
                ZendeskChange::Redact => return events.redact(index, now),
                ZendeskChange::Scrub if self.service.simulation.zendesk.erases => {
                    events.blacken(index);
                }
                _ => {}
            }
        }
        true
    }

    /// The texts that the changes so far have taken away for privacy: nothing that was read may
    /// still hold one of them after the sync that hears of it.
    pub fn erased(&self) -> Vec<String> {
        self.service.state().erased.clone()
    }

    /// The texts that a change takes away.
    fn texts(&self, table: &str, index: u64, change: ZendeskChange) -> Vec<String> {
        let world = &*self.service.world;
        let members = |names: &[&str]| {
            let row = Row {
                table: world.table(table),
                index,
            };
            let text =
                |name: &&str| serde_json::from_slice::<String>(&world.field(row, name)?).ok();
            names.iter().filter_map(text).collect::<Vec<String>>()
        };
        match (table, change) {
            ("tickets", ZendeskChange::Redact) => {
                world.events().texts(index).into_iter().take(1).collect()
            }
            ("tickets", ZendeskChange::Scrub) => {
                let comments = if self.service.simulation.zendesk.erases {
                    world.events().texts(index)
                } else {
                    Vec::new()
                };
                comments
                    .into_iter()
                    .chain(members(&["subject", "description"]))
                    .collect()
            }
            ("users", ZendeskChange::Scrub) => members(&["email", "phone"]),
            _ => Vec::new(),
        }
    }
}
