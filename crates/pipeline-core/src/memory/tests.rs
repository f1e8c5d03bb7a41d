#![allow(clippy::unwrap_used)]
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::*;

const MIB: usize = 1 << 20;

/// A budget with room for one hold of 60 and 20 besides.
fn small() -> MemoryBudget {
    MemoryBudget::with(80, 60)
}

/// A lease of a hold that wants so much, and waits for it as long as it takes.
async fn held(hold: &Hold, bytes: usize) -> Lease {
    let lease = hold.lease();
    lease.grow_patiently(bytes).await.unwrap();
    lease
}

#[test]
fn a7_what_a_destination_keeps_leaves_room_for_the_rest_of_the_process_beside_any_budget() {
    let of = |mib: usize| MemoryBudget::of_destination(mib * MIB) / MIB;
    assert_eq!(
        [of(0), of(64), of(128), of(256), of(1024), of(16 * 1024)],
        [8, 8, 16, 32, 48, 48]
    );
    for mib in [1, 64, 256, 1024] {
        let beside = MemoryBudget::new(mib * MIB).total() / MIB - mib + of(mib);
        assert!(
            beside <= 96,
            "{beside} MiB of the 128 that a process may take beside {mib}"
        );
    }
}

#[test]
fn a_budget_has_room_for_a_page_of_32_mib_and_for_others_beside_it() {
    for budget in [0, 64 * MIB, 256 * MIB, 1024 * MIB] {
        let memory = MemoryBudget::new(budget);
        assert!(memory.total() <= budget.max(MIB) + 48 * MIB, "{memory:?}");
        assert!(memory.most() < memory.total(), "{memory:?}");
        assert!(
            budget < 64 * MIB || memory.most() / BODY_FACTOR >= 32 * MIB,
            "{memory:?}: {}",
            memory.most()
        );
        assert!(memory.most() <= LARGEST);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_permitted_is_given_back_with_the_bytes() {
    let budget = small();
    let hold = budget.hold();
    let lease = held(&hold, 10).await;
    let bytes = leased(Bytes::from_static(b"abcdef"), Arc::new(lease));
    let slice = bytes.slice(1..2);
    drop((bytes, hold));
    assert_eq!((budget.held(), &slice[..]), (10, &b"b"[..]));
    drop(slice);
    assert_eq!((budget.held(), budget.peak()), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn a_hold_takes_no_more_than_one_may() {
    let budget = small();
    let (hold, other) = (budget.hold(), budget.hold());
    let lease = held(&hold, 50).await;
    let more = hold.lease();
    assert_eq!(more.most(), 10);
    assert_eq!(
        more.grow_patiently(11).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    let waits = timeout(Duration::from_hours(1), other.room_for_body(1_000)).await;
    assert!(waits.is_err(), "not while the first has room to grow");
    drop((lease, more, hold));
    assert_eq!(
        other.room_for_body(1_000).await.bytes(),
        60,
        "as much as one may"
    );
}

#[tokio::test(start_paused = true)]
async fn the_oldest_that_waits_is_first_and_the_others_leave_room_for_it() {
    let budget = small();
    let (one, two, three) = (budget.hold(), budget.hold(), budget.hold());
    let (_small, other) = (held(&three, 20).await, held(&two, 0).await);
    let lease = held(&one, 30).await;
    assert!(!other.grow(1).await.unwrap(), "it gives way after a moment");
    lease.grow_patiently(60).await.unwrap();
    assert_eq!(budget.held(), 80);
    drop((lease, one));
    other.grow_patiently(60).await.unwrap();
    assert_eq!(budget.peak(), 80);
}

#[tokio::test(start_paused = true)]
async fn what_is_ahead_waits_until_its_turn_has_come() {
    let budget = small();
    let (ahead, read) = (budget.with_hold(true, false), AtomicBool::new(false));
    let begun = async {
        let lease = ahead.room_for_body(15).await;
        read.store(lease.bytes() == 45, Ordering::Relaxed);
    };
    let turn = async {
        sleep(Duration::from_hours(1)).await;
        assert!(!read.load(Ordering::Relaxed), "more than is left over");
        ahead.turn_has_come();
    };
    tokio::join!(begun, turn);
    assert!(read.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_leaves_room_and_holds_nobody_up() {
    let budget = small();
    let hold = budget.hold();
    let kept = hold.keep(15).unwrap();
    assert!(hold.keep(6).is_none());
    let lease = held(&hold, 30).await;
    assert!(!hold.may_keep(), "there is not so much room");
    lease.shrink(5);
    assert!(hold.may_keep());
    let other = held(&budget.hold(), 60).await;
    assert_eq!((budget.held(), kept.bytes(), other.bytes()), (80, 15, 60));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_urgent_waits_for_nobody() {
    let budget = small();
    let _full = held(&budget.hold(), 60).await;
    let urgent = budget.urgent();
    assert_eq!(held(&urgent, 100).await.bytes(), 100);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_somebody_keeps_make_nobody_wait_for_ever() {
    let budget = small();
    let hold = budget.hold();
    let _kept = held(&hold, 60).await;
    drop(hold);
    let (staged, next) = (budget.staged(), budget.hold());
    staged.take(10);
    let lease = next.lease();
    assert!(
        timeout(FIRST_PATIENCE * 4, lease.grow_patiently(40))
            .await
            .is_err(),
        "while rows could be written"
    );
    drop(staged);
    timeout(FIRST_PATIENCE * 2, lease.grow_patiently(40))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(budget.held(), 100);
}

/// Slices that read pages of any size, some with lists read ahead of their turn, and one hand that
/// writes what they stage.
struct Run {
    budget: MemoryBudget,
    staged: Mutex<Vec<Lease>>,
    most: usize,
}

impl Run {
    /// Reads a body piece by piece, again and again until nothing makes it give way.
    async fn body(&self, hold: &Hold, length: usize) -> Lease {
        let mut usual = 1;
        loop {
            let lease = hold.room_for_body(usual).await;
            let mut read = 0;
            while read < length {
                sleep(Duration::from_millis(5)).await;
                read = (read + 1 + length / 4).min(length);
                if !lease.grow(read * BODY_FACTOR).await.unwrap() {
                    break;
                }
            }
            if read == length && lease.bytes() >= length * BODY_FACTOR {
                lease.shrink(length * BODY_FACTOR);
                return lease;
            }
            drop(lease);
            usual = 4 * read;
        }
    }

    fn stage(&self, page: Lease) {
        let lease = self.budget.staged();
        let rows = page.bytes() / BODY_FACTOR;
        drop(page);
        lease.take(rows);
        self.staged.lock().unwrap().push(lease);
    }

    async fn slice(&self, mut random: fastrand::Rng) {
        for _ in 0..20 {
            let page = self
                .body(&self.budget.hold(), random.usize(0..=self.most))
                .await;
            self.stage(page);
        }
    }

    /// Lists that are begun five at a time and taken in order, each with more pages that are read
    /// in their turn.
    async fn family(&self, mut random: fastrand::Rng) {
        let lengths: Vec<usize> = (0..5).map(|_| random.usize(0..=self.most)).collect();
        let mut holds: Vec<Option<Hold>> = lengths
            .iter()
            .map(|_| Some(self.budget.with_hold(true, false)))
            .collect();
        let started = |(length, hold): (&usize, &Option<Hold>)| {
            let (length, hold) = (*length, hold.clone());
            futures::future::maybe_done(Box::pin(async move {
                self.body(hold.as_ref().unwrap(), length).await
            }))
        };
        let mut begun: Vec<_> = lengths.iter().zip(&holds).map(started).collect();
        for index in 0..begun.len() {
            holds[index].as_ref().unwrap().turn_has_come();
            let page = std::future::poll_fn(|context| {
                for work in &mut begun[index..] {
                    let _ = std::pin::Pin::new(work).poll(context);
                }
                std::pin::Pin::new(&mut begun[index])
                    .take_output()
                    .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
            });
            let page = page.await;
            holds[index] = None;
            self.stage(page);
            let rest = self
                .body(&self.budget.hold(), random.usize(0..=self.most))
                .await;
            self.stage(rest);
        }
    }

    async fn write(&self) {
        loop {
            let _ = timeout(Duration::from_secs(10), self.budget.wanted()).await;
            let written = std::mem::take(&mut *self.staged.lock().unwrap());
            sleep(Duration::from_millis(20)).await;
            drop(written);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a7_the_sum_of_permits_is_bounded_and_everybody_gets_through() {
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let total = random.usize(100..2_000);
        let budget = MemoryBudget::with(total, total * 6 / 7);
        let most = budget.most() / BODY_FACTOR;
        let run = Run {
            budget,
            staged: Mutex::default(),
            most,
        };
        let started = Instant::now();
        let (slices, families) = (random.usize(1..12), random.usize(0..6));
        let mut forks = std::iter::repeat_with(|| random.fork());
        let mut work: Vec<_> = forks
            .by_ref()
            .take(slices)
            .map(|random| run.slice(random).boxed())
            .collect();
        work.extend(
            forks
                .take(families)
                .map(|random| run.family(random).boxed()),
        );
        let all = futures::future::join_all(work);
        tokio::select! {
            _ = all => {}
            () = run.write() => {}
            () = sleep(Duration::from_hours(2)) => panic!("seed {seed}: {:?}", run.budget),
        }
        // Rows are taken after their page was given back, when somebody else may have had its room
        // already.
        let beyond = total / 3;
        assert!(
            run.budget.peak() <= total + beyond,
            "seed {seed}: {} of {total}",
            run.budget.peak()
        );
        assert!(
            started.elapsed() < Duration::from_mins(10),
            "seed {seed}: {:?}",
            started.elapsed()
        );
        drop(run.staged);
        assert_eq!(run.budget.held(), 0, "seed {seed}");
    }
}
