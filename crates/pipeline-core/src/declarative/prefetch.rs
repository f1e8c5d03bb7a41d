//! Work that is begun ahead of its turn and taken in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};

use crate::memory::Hold;

/// Pieces of work of which the first few are under way at the same time.
///
/// All of them make progress whenever one is waited for: a request that stands in line for a limit
/// would otherwise hold up everybody behind it while nobody looks at it. What it reads before its
/// turn takes memory that nobody else waits for.
pub(super) struct Ahead<'a, T> {
    waiting: Box<dyn Iterator<Item = BoxFuture<'a, T>> + Send + 'a>,
    begun: VecDeque<(Hold, MaybeDone<BoxFuture<'a, T>>)>,
    at_once: usize,
}

impl<'a, T: Send + 'a> Ahead<'a, T> {
    pub(super) fn new<W: Future<Output = T> + Send + 'a>(
        work: impl Iterator<Item = W> + Send + 'a,
        at_once: usize,
    ) -> Self {
        Self {
            waiting: Box::new(work.map(FutureExt::boxed)),
            begun: VecDeque::new(),
            at_once,
        }
    }

    /// The next result in order; none behind the last.
    pub(super) async fn next(&mut self) -> Option<T> {
        poll_fn(|context| {
            self.begin();
            if let Some((hold, _)) = self.begun.front() {
                hold.turn_has_come();
            }
            self.drive(context);
            match self
                .begun
                .front_mut()
                .map(|(_, first)| Pin::new(first).take_output())
            {
                None => Poll::Ready(None),
                Some(None) => Poll::Pending,
                Some(done) => {
                    self.begun.pop_front();
                    Poll::Ready(done)
                }
            }
        })
        .await
    }

    /// Waits for something else without letting the work stand still.
    pub(super) async fn meanwhile<O>(&mut self, other: impl Future<Output = O>) -> O {
        let mut other = pin!(other);
        poll_fn(|context| {
            self.drive(context);
            other.as_mut().poll(context)
        })
        .await
    }

    fn begin(&mut self) {
        while self.begun.len() < self.at_once
            && let Some(work) = self.waiting.next()
        {
            let hold = Hold::ahead();
            let own = hold.clone();
            self.begun.push_back((
                hold,
                maybe_done(async move { own.scope(work).await }.boxed()),
            ));
        }
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        self.begin();
        for (_, work) in &mut self.begun {
            let _ = Pin::new(work).poll(context);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn c41_results_come_in_order_however_the_work_finishes() {
        let work = |number: u64| async move {
            for _ in 0..(5 - number) {
                tokio::task::yield_now().await;
            }
            number
        };
        let mut ahead = Ahead::new((0..5).map(work), 3);
        for expected in 0..5 {
            assert_eq!(ahead.next().await, Some(expected));
        }
        assert_eq!(ahead.next().await, None);
    }

    #[tokio::test]
    async fn what_stands_in_line_is_not_forgotten_while_something_behind_it_is_waited_for() {
        let line = Arc::new(tokio::sync::Semaphore::new(1));
        let place = Arc::clone(&line).acquire_owned().await.unwrap();
        let turn = |line: Arc<tokio::sync::Semaphore>| async move {
            drop(line.acquire_owned().await.unwrap());
        };
        let mut ahead = Ahead::new([turn(Arc::clone(&line))].into_iter(), 1);
        ahead.meanwhile(tokio::task::yield_now()).await;
        drop(place);
        // The line is fair: the work stands before us and must take its turn first.
        ahead.meanwhile(turn(line)).await;
        assert_eq!(ahead.next().await, Some(()));
    }
}
