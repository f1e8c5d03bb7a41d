//! Queues in which every request keeps its place.
//!
//! A request that needs several limits leaves the queues of the wider ones while it waits for the
//! narrowest. Were it the last in them afterwards, the narrow limit would stand unused for as long
//! as the wider one is busy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A queue of requests. Its head has it for itself, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    has_head: bool,
    /// Requests that wait, by their tickets.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The head of a queue.
#[derive(Debug)]
pub(crate) struct Head(Arc<WaitQueue>);

/// A request in a queue, which may give up.
struct Waiter<'l> {
    queue: &'l WaitQueue,
    ticket: u64,
}

impl WaitQueue {
    /// Waits to be the head. The lower a ticket is, the nearer is the place; tickets are
    /// unique.
    pub(crate) async fn enter(self: &Arc<Self>, ticket: u64) -> Head {
        let turn = Arc::new(Notify::new());
        self.queue().waiting.insert(ticket, Arc::clone(&turn));
        let _waiter = Waiter {
            queue: self,
            ticket,
        };
        while !self.queue().is_next(ticket) {
            turn.notified().await;
        }
        Head(Arc::clone(self))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Makes it the head if it is the next.
    fn is_next(&mut self, ticket: u64) -> bool {
        let is_next = !self.has_head && self.waiting.keys().next() == Some(&ticket);
        self.has_head |= is_next;
        is_next
    }

    fn call_next(&self) {
        if let Some(turn) = self.waiting.values().next().filter(|_| !self.has_head) {
            turn.notify_one();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut queue = self.queue.queue();
        queue.waiting.remove(&self.ticket);
        queue.call_next();
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.has_head = false;
        queue.call_next();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;

    use super::*;

    #[test]
    fn whoever_has_the_lowest_ticket_is_next_whenever_it_came() {
        let line = Arc::<WaitQueue>::default();
        let head = line.enter(5).now_or_never().unwrap();
        let mut waiting: Vec<_> = [7, 2, 9, 4]
            .map(|ticket| Box::pin(line.enter(ticket)))
            .into();
        assert!(
            waiting
                .iter_mut()
                .all(|waiter| waiter.now_or_never().is_none())
        );
        drop(head);
        // Of 2, 4, 7 and 9, where they stand above.
        for (index, others) in [(1, [0, 2, 3]), (3, [0, 2, 2]), (0, [2, 2, 2])] {
            assert!(
                others
                    .into_iter()
                    .all(|other| (&mut waiting[other]).now_or_never().is_none())
            );
            drop((&mut waiting[index]).now_or_never().unwrap());
        }
        drop((&mut waiting[2]).now_or_never().unwrap());
        assert!(line.queue().waiting.is_empty() && !line.queue().has_head);
    }

    #[tokio::test]
    async fn whoever_gives_up_holds_nobody_up() {
        let line = Arc::<WaitQueue>::default();
        let head = line.enter(1).await;
        let mut first = Box::pin(line.enter(2));
        let second = tokio::spawn({
            let line = Arc::clone(&line);
            async move { drop(line.enter(3).await) }
        });
        assert!((&mut first).now_or_never().is_none());
        tokio::task::yield_now().await;
        // It is called, and gives up before it looks.
        drop(head);
        drop(first);
        second.await.unwrap();
        drop(line.enter(4).now_or_never().unwrap());
    }
}
