//! What happens in a written-down account.

use serde_json::{Map, Value, json};

use super::{Account, Book, Kept, Told};

impl Book {
    /// Lets something happen, in one account or another.
    pub(crate) fn happen(&mut self, now: i64) {
        let number = self.next();
        let names: Vec<String> = self.accounts.keys().cloned().collect();
        let name = names[usize::try_from(number % names.len() as u64).unwrap_or(0)].clone();
        let Some(mut account) = self.accounts.remove(&name) else {
            return;
        };
        let tables: Vec<usize> = (0..self.definitions.len())
            .filter(|table| !account.shelves[*table].objects.is_empty())
            .collect();
        if !tables.is_empty() {
            let table = tables[usize::try_from(self.next() % tables.len() as u64).unwrap_or(0)];
            match self.next() % 20 {
                0..=5 => self.insert(&mut account, table, now),
                6..=12 => self.update(&mut account, table, now),
                13..=15 => self.delete(&mut account, table, now),
                16 => self.remake(&mut account, table, now),
                // Much at once: a bulk import, and several changes of one object in one second.
                17 => (0..12).for_each(|_| self.insert(&mut account, table, now)),
                18 => (0..3).for_each(|_| self.update(&mut account, table, now)),
                _ => {
                    self.update(&mut account, table, now);
                    self.delete(&mut account, table, now);
                }
            }
        }
        self.accounts.insert(name, account);
    }

    /// Lets objects of every list be deleted, changed and made, several in one second, in all
    /// accounts.
    pub(crate) fn happen_everywhere(&mut self, now: i64) {
        for name in self.accounts.keys().cloned().collect::<Vec<_>>() {
            let Some(mut account) = self.accounts.remove(&name) else {
                continue;
            };
            for table in 0..self.definitions.len() {
                self.delete(&mut account, table, now);
                (0..2).for_each(|_| self.update(&mut account, table, now));
                (0..3).for_each(|_| self.insert(&mut account, table, now));
            }
            self.accounts.insert(name, account);
        }
    }

    fn insert(&mut self, account: &mut Account, table: usize, now: i64) {
        let definition = self.definitions[table].clone();
        let parent = self.parent(account, table);
        if definition.parent.is_some() && parent.is_none() || definition.name == "accounts" {
            return;
        }
        let kept = self.fresh(table, None, parent, now);
        account.shelves[table].add(kept.clone());
        let made = ["created", "opened", "attached", "succeeded", "paid"]
            .map(|end| definition.events.iter().find(|name| name.ends_with(end)));
        match made.into_iter().flatten().next() {
            Some(kind) => self.tell(account, table, &kept, kind, None, now),
            None => self.tell_of_parent(account, table, &kept, None, now),
        }
    }

    fn update(&mut self, account: &mut Account, table: usize, now: i64) {
        let definition = self.definitions[table].clone();
        let changes: Vec<&String> = definition
            .events
            .iter()
            .filter(|name| {
                !["created", "deleted", "opened", "attached", "detached"]
                    .iter()
                    .any(|end| name.ends_with(end))
            })
            .collect();
        let is_inner = definition.events.is_empty() && self.is_inside(table);
        if changes.is_empty() && !definition.silent && !is_inner {
            return;
        }
        let (Some(position), Some(touch)) = (self.some(account, table), definition.touch) else {
            return;
        };
        let number = self.next();
        let old = account.shelves[table].objects[position]
            .fields
            .get(&touch)
            .cloned()
            .unwrap_or_default();
        let value = match &old {
            Value::Object(_) => json!({ "revision": number.to_string() }),
            Value::Number(_) => Value::from(number % 1_000_000),
            _ => Value::from(format!("revision {number}")),
        };
        account.shelves[table].objects[position]
            .fields
            .insert(touch.clone(), value);
        let kept = account.shelves[table].objects[position].clone();
        if changes.is_empty() {
            return self.tell_of_parent(account, table, &kept, None, now);
        }
        // One action is told several times, within one second.
        for _ in 0..=number % 2 {
            let kind = changes[usize::try_from(self.next() % changes.len() as u64).unwrap_or(0)];
            self.tell(
                account,
                table,
                &kept,
                kind,
                Some(Map::from_iter([(touch.clone(), old.clone())])),
                now,
            );
        }
    }

    fn delete(&mut self, account: &mut Account, table: usize, now: i64) {
        let definition = self.definitions[table].clone();
        let told = definition
            .events
            .iter()
            .find(|name| name.ends_with(".deleted"));
        let Some(position) = self.some(account, table) else {
            return;
        };
        let kept = account.shelves[table].objects[position].clone();
        match told {
            // Cancelled, and still there.
            Some(kind) if definition.object == "subscription" => {
                account.shelves[table].objects[position]
                    .fields
                    .insert("status".to_owned(), Value::from("canceled"));
                let kept = account.shelves[table].objects[position].clone();
                self.tell(account, table, &kept, kind, None, now);
            }
            Some(kind) => {
                // The event still shows what was inside. What belonged to it goes with it, and
                // nothing tells of that.
                self.tell(account, table, &kept, kind, None, now);
                self.take_away(account, table, position);
            }
            None if self.is_inside(table) && definition.events.is_empty() => {
                let before = self.entries(account, table, &kept);
                account.shelves[table].objects[position].gone = true;
                self.tell_of_parent(account, table, &kept, before, now);
            }
            None if definition.silent => self.take_away(account, table, position),
            None => {}
        }
    }

    /// Deletes an object, with all that belongs to it.
    fn take_away(&self, account: &mut Account, table: usize, position: usize) {
        account.shelves[table].objects[position].gone = true;
        let id = account.shelves[table].objects[position].id.clone();
        let name = Some(self.definitions[table].name.as_str());
        for inner in (0..self.definitions.len())
            .filter(|inner| self.definitions[*inner].parent.as_deref() == name)
        {
            let entries = account.shelves[inner].objects.iter_mut();
            entries
                .filter(|entry| entry.parent.as_deref() == Some(&id))
                .for_each(|entry| entry.gone = true);
        }
    }

    /// Deletes an object whose id people choose, and makes it again.
    fn remake(&mut self, account: &mut Account, table: usize, now: i64) {
        if !["coupons", "plans", "products"].contains(&self.definitions[table].name.as_str()) {
            return;
        }
        let Some(position) = self.some(account, table) else {
            return;
        };
        let kept = account.shelves[table].objects[position].clone();
        if self.has_lists(account, table, &kept.id) {
            return;
        }
        account.shelves[table].objects[position].gone = true;
        let object = self.definitions[table].object.clone();
        self.tell(
            account,
            table,
            &kept,
            &format!("{object}.deleted"),
            None,
            now,
        );
        let again = self.fresh(table, Some(kept.id), None, now);
        account.shelves[table].add(again.clone());
        self.tell(
            account,
            table,
            &again,
            &format!("{object}.created"),
            None,
            now,
        );
    }

    /// Some object that is there.
    fn some(&mut self, account: &Account, table: usize) -> Option<usize> {
        let number = self.next();
        let objects = &account.shelves[table].objects;
        let alive: Vec<usize> = (0..objects.len())
            .filter(|position| !objects[*position].gone)
            .collect();
        (!alive.is_empty())
            .then(|| alive[usize::try_from(number % alive.len() as u64).unwrap_or(0)])
    }

    /// The tables inside the objects of one, that are nowhere else.
    fn inside(&self, table: usize) -> Vec<usize> {
        let nested = &self.definitions[table].nested;
        let inner = nested.iter().map(|nested| self.table(&nested.table));
        inner
            .filter(|inner| {
                self.definitions[*inner].parent.as_deref() == Some(&self.definitions[table].name)
            })
            .collect()
    }

    fn is_inside(&self, table: usize) -> bool {
        let parent = self.definitions[table]
            .parent
            .as_deref()
            .map(|parent| self.table(parent));
        parent.is_some_and(|parent| self.inside(parent).contains(&table))
    }

    /// Whether an object has lists of its own that are not inside it.
    fn has_lists(&self, account: &Account, table: usize, id: &str) -> bool {
        let (name, inside) = (&self.definitions[table].name, self.inside(table));
        let lists = (0..self.definitions.len()).filter(|other| {
            self.definitions[*other].parent.as_deref() == Some(name) && !inside.contains(other)
        });
        lists
            .into_iter()
            .any(|list| account.shelves[list].of(id).next().is_some())
    }

    /// What `previous_attributes` say of the list that an entry is about to leave.
    fn entries(&self, account: &Account, table: usize, entry: &Kept) -> Option<Map<String, Value>> {
        let owner = &self.definitions[self.table(self.definitions[table].parent.as_deref()?)];
        let member = &owner
            .nested
            .iter()
            .find(|nested| nested.table == self.definitions[table].name)?
            .member;
        let entries: Vec<Value> = account.shelves[table]
            .of(entry.parent.as_deref()?)
            .map(|entry| self.render(account, table, entry, &[], false))
            .collect();
        Some(Map::from_iter([(
            member.clone(),
            json!({ "object": "list", "data": entries }),
        )]))
    }

    /// Tells of a change to the object that this one belongs to, if anything tells of it.
    fn tell_of_parent(
        &mut self,
        account: &mut Account,
        table: usize,
        kept: &Kept,
        previous: Option<Map<String, Value>>,
        now: i64,
    ) {
        let Some((name, id)) = self.definitions[table]
            .parent
            .clone()
            .zip(kept.parent.clone())
        else {
            return;
        };
        let parent = self.table(&name);
        let Some(position) = account.shelves[parent].find(&id) else {
            return;
        };
        let owner = account.shelves[parent].objects[position].clone();
        let name = self.definitions[table].name.clone();
        if name == "active_entitlements" {
            let entitlements: Vec<Value> = account.shelves[table]
                .of(&id)
                .map(|entry| self.render(account, table, entry, &[], false))
                .collect();
            let summary = json!({ "object": "entitlements.active_entitlement_summary", "customer": id, "livemode": false,
                "entitlements": { "object": "list", "data": entitlements, "has_more": false } });
            return self.note(
                account,
                "entitlements.active_entitlement_summary.updated",
                summary,
                previous,
                now,
            );
        }
        let ends: &[&str] = match name.as_str() {
            "payout_balance_transactions" => &["reconciliation_completed"],
            "setup_attempts" => &["requires_action"],
            "application_fee_refunds" => &["refunded"],
            "checkout_session_line_items" => &["completed"],
            "quote_line_items" => &["finalized"],
            _ => &["updated"],
        };
        let kind = self.definitions[parent]
            .events
            .iter()
            .find(|kind| ends.iter().any(|end| kind.ends_with(end)))
            .cloned();
        if let Some(kind) = kind.filter(|_| !self.definitions[table].silent) {
            self.tell(account, parent, &owner, &kind, previous, now);
        }
    }

    /// Records an event about an object.
    fn tell(
        &mut self,
        account: &mut Account,
        table: usize,
        kept: &Kept,
        kind: &str,
        previous: Option<Map<String, Value>>,
        now: i64,
    ) {
        let mut object = self.render(account, table, kept, &[], false);
        if let (Value::Object(object), Some(touch)) = (&mut object, &self.definitions[table].touch)
        {
            let stale = match object.get(touch) {
                Some(Value::Number(_)) => Value::from(-1),
                Some(Value::Object(_)) => json!({ "revision": "of an event" }),
                _ => Value::from("of an event"),
            };
            object.insert(touch.clone(), stale);
        }
        self.note(account, kind, object, previous, now);
    }

    fn note(
        &mut self,
        account: &mut Account,
        kind: &str,
        object: Value,
        previous: Option<Map<String, Value>>,
        now: i64,
    ) {
        let number = self.next();
        let id = format!("evt_1{number:016x}");
        let versions = ["2022-11-15", "2024-06-20", "2026-05-27.dahlia"];
        let version = versions[usize::try_from(number % 3).unwrap_or(0)];
        let mut data = json!({ "object": object });
        if let Some(previous) = previous {
            data["previous_attributes"] = Value::Object(previous);
        }
        let body = json!({ "id": id, "object": "event", "api_version": version, "created": now, "data": data, "livemode": false,
            "pending_webhooks": number % 3, "request": { "id": null, "idempotency_key": null }, "type": kind });
        account.events.push(Told {
            id,
            created: now,
            kind: kind.to_owned(),
            body,
        });
    }

    /// Makes an object, silently.
    pub(crate) fn make(
        &mut self,
        account: &str,
        stream: &str,
        parent: Option<&str>,
        members: Value,
        now: i64,
    ) -> Option<String> {
        let table = self.find(stream)?;
        let mut kept = self.fresh(table, None, parent.map(str::to_owned), now);
        if let Value::Object(members) = members {
            kept.created = members
                .get("created")
                .and_then(Value::as_i64)
                .unwrap_or(now);
            kept.id = members
                .get("id")
                .and_then(Value::as_str)
                .map_or(kept.id, str::to_owned);
            kept.fields.extend(members);
            kept.fields.remove("id");
        }
        let id = kept.id.clone();
        self.accounts.get_mut(account)?.shelves[table].add(kept);
        Some(id)
    }

    /// Changes members of an object, or deletes it, silently.
    pub(crate) fn change(&mut self, account: &str, stream: &str, id: &str, members: Option<Value>) {
        let (Some(table), Some(account)) = (self.find(stream), self.accounts.get_mut(account))
        else {
            return;
        };
        let Some(position) = account.shelves[table].find(id) else {
            return;
        };
        let kept = &mut account.shelves[table].objects[position];
        match members {
            Some(Value::Object(members)) => kept.fields.extend(members),
            _ => kept.gone = true,
        }
    }

    /// Records an event about whatever it is.
    pub(crate) fn say(&mut self, name: &str, kind: &str, object: Value, now: i64) {
        let Some(mut account) = self.accounts.remove(name) else {
            return;
        };
        self.note(&mut account, kind, object, None, now);
        self.accounts.insert(name.to_owned(), account);
    }
}
