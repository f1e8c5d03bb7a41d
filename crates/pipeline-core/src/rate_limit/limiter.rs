//! The client's side of the limits: who waits for what, and what the vendor's answers teach.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::error::Result;
use crate::rate_limit::Throttle;
use crate::rate_limit::adaptive::controller::Gate;
use crate::rate_limit::bucket::{Bucket, Obstacle};
use crate::rate_limit::headers::Hint;
use crate::rate_limit::quota::{BucketKey, Decision, Quota, RateLimitStore, Remaining};
use crate::rate_limit::usage::BucketUse;
use crate::rate_limit::wait_queue::Head;

/// What the time begins with, so that what began before the process has a time too.
const ORIGIN: Duration = Duration::from_hours(32 * 24);

/// The buckets of one client.
#[derive(Debug)]
pub(crate) struct Limiter {
    store: Arc<dyn RateLimitStore>,
    clock: Arc<dyn Clock>,
    origin: OnceLock<Instant>,
    buckets: HashMap<String, Arc<Bucket>>,
    /// Places given out in lines.
    tickets: AtomicU64,
}

/// Leave to send one request; holds its slots until dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Time spent waiting.
    pub(crate) waited: Duration,
    /// The limit waited for longest, in words.
    pub(crate) limit: Option<String>,
    /// When it was granted.
    sent: Duration,
    since: Instant,
    buckets: Vec<Arc<Bucket>>,
    is_reported: bool,
}

/// A wait before a request.
pub(crate) struct Wait {
    pub(crate) limit: String,
    pub(crate) wait: Duration,
}

/// What came of a request, as far as limits are concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Feedback {
    /// The limits let it through.
    Accepted,
    /// A limit refused it; the vendor may have said for how long.
    Refused(Throttle, Option<Duration>),
}

impl Limiter {
    pub(crate) fn new(
        store: Arc<dyn RateLimitStore>,
        clock: Arc<dyn Clock>,
        account: u64,
        quotas: Vec<(String, Quota)>,
    ) -> Self {
        let bucket = |(name, quota): (String, Quota)| {
            let key = BucketKey {
                account,
                bucket: name.clone(),
            };
            (name, Arc::new(Bucket::new(key, quota)))
        };
        Self {
            store,
            clock,
            origin: OnceLock::new(),
            buckets: quotas.into_iter().map(bucket).collect(),
            tickets: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Duration {
        ORIGIN + self.origin.get_or_init(Instant::now).elapsed()
    }

    /// The named buckets, the narrowest first: a request that waits for a narrow one must not hold
    /// up those who need only a wider one. The order is the same for every request, so lines are
    /// never waited for in a circle.
    fn select(&self, names: &[Cow<'static, str>]) -> Vec<Arc<Bucket>> {
        let mut buckets: Vec<_> = names
            .iter()
            .filter_map(|name| self.buckets.get(name.as_ref()).cloned())
            .collect();
        buckets.sort_by(|a, b| {
            a.quota
                .rate()
                .total_cmp(&b.quota.rate())
                .then_with(|| a.key.cmp(&b.key))
        });
        buckets.dedup_by(|a, b| a.key == b.key);
        buckets
    }

    /// What was used of each bucket so far.
    pub(crate) fn usage(&self) -> Vec<BucketUse> {
        let mut usage: Vec<_> = self
            .buckets
            .values()
            .filter_map(|bucket| bucket.usage())
            .collect();
        usage.sort_by(|a, b| a.bucket.cmp(&b.bucket));
        usage
    }

    /// The bucket that a throttled request hit when the vendor does not say which.
    pub(crate) fn narrowest(&self, names: &[Cow<'static, str>]) -> Option<String> {
        self.select(names)
            .first()
            .map(|bucket| bucket.key.bucket.clone())
    }

    /// The limit that decides how long this number of requests takes, in words, and how long that
    /// is.
    pub(crate) async fn forecast(
        &self,
        names: &[Cow<'static, str>],
        requests: u64,
    ) -> Result<Option<(String, Duration)>> {
        let mut longest = None;
        for bucket in self
            .select(names)
            .into_iter()
            .filter(|bucket| bucket.quota.is_known())
        {
            let quota = self.known(&bucket).await?;
            let left = self.store.left(&bucket.key, &quota).await?;
            let time = quota.time_for(requests, left);
            if longest.as_ref().is_none_or(|(_, longest)| time > *longest) {
                longest = Some((bucket.describe(self.now()), time));
            }
        }
        Ok(longest)
    }

    /// What is left of a bucket's quota; none when the bucket is unknown, or its
    /// quota.
    pub(crate) async fn left(&self, bucket: &str) -> Result<Option<Remaining>> {
        match self
            .buckets
            .get(bucket)
            .filter(|bucket| bucket.quota.is_known())
        {
            Some(bucket) => Ok(Some(
                self.store
                    .left(&bucket.key, &self.known(bucket).await?)
                    .await?,
            )),
            None => Ok(None),
        }
    }

    /// Waits until every named bucket lets a request pass. `before_wait` may refuse a known wait.
    pub(crate) async fn acquire(
        &self,
        names: &[Cow<'static, str>],
        mut before_wait: impl FnMut(&Wait) -> Result<()>,
    ) -> Result<Turn> {
        let buckets = self.select(names);
        for bucket in &buckets {
            self.known(bucket).await?;
        }
        let started = Instant::now();
        let mut longest: Option<(Duration, String, usize)> = None;
        let mut lines: Vec<Head> = Vec::with_capacity(buckets.len());
        if let Some(narrowest) = buckets.first() {
            lines.push(narrowest.line.enter(self.ticket()).await);
        }
        // The head of the narrowest line has its place in the others from now on, also while it
        // lets others pass.
        let ticket = self.ticket();
        loop {
            while let Some(bucket) = buckets.get(lines.len()) {
                lines.push(bucket.line.enter(ticket).await);
            }
            let now = self.now();
            let obstacle = buckets
                .iter()
                .enumerate()
                .find_map(|(index, bucket)| Some((index, bucket.obstacle(now)?)));
            let (binding, wait) = match obstacle {
                Some((binding, Obstacle::Gate(Gate::At(time)))) => {
                    (binding, Some(time.saturating_sub(now)))
                }
                Some((binding, _)) => (binding, None),
                None => {
                    let charges: Vec<_> = buckets.iter().map(|bucket| bucket.charge(now)).collect();
                    let Decision::Wait { wait, bucket } = self.store.reserve(&charges).await?
                    else {
                        break;
                    };
                    (
                        charges
                            .iter()
                            .position(|charge| charge.key.bucket == bucket)
                            .unwrap_or(0),
                        Some(wait),
                    )
                }
            };
            let limit = buckets[binding].describe(now);
            let asked = Instant::now();
            // The lines of wider buckets are left, so that others pass meanwhile.
            lines.truncate(binding + 1);
            match wait {
                Some(wait) => {
                    before_wait(&Wait {
                        limit: limit.clone(),
                        wait,
                    })?;
                    sleep(wait).await;
                }
                None => buckets[binding].answered.notified().await,
            }
            let waited = asked.elapsed();
            if longest
                .as_ref()
                .is_none_or(|(longest, ..)| waited > *longest)
            {
                longest = Some((waited, limit, binding));
            }
        }
        let sent = self.now();
        for bucket in &buckets {
            bucket.granted(sent);
        }
        let waited = started.elapsed();
        // A request that only waited in line waited for the head's limit.
        let in_line = || {
            buckets
                .first()
                .filter(|_| waited > Duration::ZERO)
                .map(|bucket| bucket.describe(sent))
        };
        if let Some(bucket) = buckets.get(longest.as_ref().map_or(0, |(.., binding)| *binding)) {
            bucket.waited(waited);
        }
        let limit = longest.map(|(_, limit, _)| limit).or_else(in_line);
        Ok(Turn {
            waited,
            limit,
            sent,
            since: Instant::now(),
            buckets,
            is_reported: false,
        })
    }

    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// What a bucket allows, as far as this run or an earlier one knows.
    async fn known(&self, bucket: &Bucket) -> Result<Quota> {
        bucket
            .recalled
            .get_or_try_init(|| self.recall(bucket))
            .await?;
        Ok(bucket.allowed())
    }

    async fn recall(&self, bucket: &Bucket) -> Result<()> {
        if let Some(learned) = self.store.recall(&bucket.key).await? {
            bucket.recall(self.now(), self.clock.now(), &learned);
        }
        Ok(())
    }

    /// Learns what one answer says about the buckets.
    pub(crate) fn learn(&self, turn: &Turn, hints: &[Hint]) {
        let now = self.now();
        for (name, bucket) in &self.buckets {
            let about: Vec<_> = hints
                .iter()
                .filter(|(about, _)| about == name)
                .map(|(_, hint)| hint)
                .collect();
            let concerns = turn.buckets.iter().any(|charged| charged.key == bucket.key);
            if concerns || !about.is_empty() {
                bucket.learn(now, turn.sent, &about);
            }
        }
    }

    /// Records the result of a request. True when waiting for the limit is enough before it is
    /// sent again; otherwise the request itself has to wait.
    pub(crate) async fn report(&self, turn: &mut Turn, feedback: &Feedback) -> Result<bool> {
        turn.is_reported = true;
        let now = self.now();
        let hit = match feedback {
            Feedback::Accepted => None,
            Feedback::Refused(Throttle::Rate(name) | Throttle::Concurrency(name), _) => {
                Some(name.as_ref())
            }
        };
        for bucket in &turn.buckets {
            match feedback {
                _ if hit.is_some_and(|hit| hit != bucket.key.bucket) => {
                    bucket.unanswered(now, turn.sent);
                }
                Feedback::Accepted => bucket.accepted(now, turn.sent),
                Feedback::Refused(Throttle::Rate(_), wait) => bucket.refused(now, turn.sent, *wait),
                Feedback::Refused(Throttle::Concurrency(_), _) => bucket.too_many(now, turn.sent),
            }
            if let Some(learned) = bucket.to_keep(self.clock.now()) {
                self.store.remember(&bucket.key, &learned).await?;
            }
        }
        Ok(
            matches!(feedback, Feedback::Refused(Throttle::Rate(name), _) if self.buckets.contains_key(name.as_ref())),
        )
    }

    /// True for a quota of which a refusal says nothing about the pace: it is used up, and will be
    /// for a while.
    pub(crate) fn is_long(&self, bucket: &str) -> bool {
        self.buckets.get(bucket).is_some_and(|bucket| {
            bucket.quota.is_known() && bucket.quota.per > Duration::from_mins(1)
        })
    }

    /// Pauses a bucket for all requests; false when the bucket is unknown.
    pub(crate) async fn pause(&self, bucket: &str, wait: Duration) -> Result<bool> {
        let Some(bucket) = self.buckets.get(bucket) else {
            return Ok(false);
        };
        self.store.block(&bucket.key, wait).await?;
        Ok(true)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.sent + self.since.elapsed();
        for bucket in &self.buckets {
            if !self.is_reported {
                bucket.unanswered(now, self.sent);
            }
            bucket.released();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::super::headers::RateLimitInfo;
    use super::super::quota::Reservation;
    use super::*;
    use crate::clock::TokioClock;

    /// Grants what it is asked for after these waits, each because of a bucket.
    #[derive(Debug, Default)]
    struct Waits {
        left: Mutex<VecDeque<(u64, &'static str)>>,
        asked: AtomicU64,
    }

    #[async_trait]
    impl RateLimitStore for Waits {
        async fn reserve(&self, _charges: &[Reservation]) -> Result<Decision> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let wait = self.left.lock().unwrap().pop_front();
            Ok(
                wait.map_or(Decision::Granted, |(wait, bucket)| Decision::Wait {
                    wait: second(wait),
                    bucket: bucket.to_owned(),
                }),
            )
        }

        async fn block(&self, _key: &BucketKey, _wait: Duration) -> Result<()> {
            Ok(())
        }
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn limiter(waits: &[(u64, &'static str)], quotas: &[(&str, Quota)]) -> (Arc<Waits>, Limiter) {
        let store = Arc::new(Waits {
            left: Mutex::new(waits.to_vec().into()),
            ..Waits::default()
        });
        let clock = Arc::new(TokioClock::starting_at(chrono::DateTime::UNIX_EPOCH));
        let quotas = quotas
            .iter()
            .map(|(name, quota)| ((*name).to_owned(), *quota))
            .collect();
        (Arc::clone(&store), Limiter::new(store, clock, 1, quotas))
    }

    const BOTH: [Cow<'static, str>; 2] = [Cow::Borrowed("narrow"), Cow::Borrowed("wide")];

    fn two() -> [(&'static str, Quota); 2] {
        [
            ("narrow", Quota::per_second(1)),
            ("wide", Quota::per_second(2)),
        ]
    }

    /// The time waited, the limit waited for longest, and the bucket that the wait is put down to.
    async fn wait(waits: &[(u64, &'static str)]) -> (u64, Option<String>, Vec<String>) {
        let (_store, limiter) = limiter(waits, &two());
        let turn = limiter.acquire(&BOTH, |_| Ok(())).await.unwrap();
        let waited_for = limiter
            .usage()
            .into_iter()
            .filter(|used| !used.waited.is_zero())
            .map(|used| used.bucket)
            .collect();
        (turn.waited.as_secs(), turn.limit.clone(), waited_for)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_put_down_to_the_limit_that_it_was_longest_for() {
        let (narrow, wide) = (
            Some("narrow: 1 requests/s".to_owned()),
            Some("wide: 2 requests/s".to_owned()),
        );
        assert_eq!(wait(&[]).await, (0, None, vec![]));
        assert_eq!(
            wait(&[(1, "narrow"), (10, "wide"), (2, "narrow")]).await,
            (13, wide, vec!["wide".to_owned()])
        );
        assert_eq!(
            wait(&[(9, "narrow"), (8, "wide")]).await,
            (17, narrow.clone(), vec!["narrow".to_owned()])
        );
        assert_eq!(
            wait(&[(5, "narrow"), (5, "wide")]).await,
            (10, narrow, vec!["narrow".to_owned()])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_head_of_a_line_asks_for_its_turn() {
        let (store, limiter) = limiter(&[(1, "narrow"); 5], &two());
        let turns =
            futures::future::join_all((0..20).map(|_| limiter.acquire(&BOTH, |_| Ok(())))).await;
        assert_eq!(store.asked.load(Ordering::Relaxed), 25);
        let limits: Vec<_> = turns
            .iter()
            .map(|turn| {
                (
                    turn.as_ref().unwrap().waited.as_secs(),
                    turn.as_ref().unwrap().limit.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            limits,
            [(5, Some("narrow: 1 requests/s")); 20],
            "whoever stood in line waited for the same"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_request_is_given_up_is_asked_again() {
        let (_store, limiter) = limiter(&[], &[("narrow", Quota::unknown())]);
        for _ in 0..4 {
            let mut turn = limiter.acquire(&BOTH, |_| Ok(())).await.unwrap();
            let refused = Feedback::Refused(Throttle::Rate("narrow".into()), None);
            assert!(limiter.report(&mut turn, &refused).await.unwrap());
        }
        for _ in 0..3 {
            let question =
                tokio::time::timeout(second(3_600), limiter.acquire(&BOTH, |_| Ok(()))).await;
            drop(question.unwrap().unwrap());
        }
        // An answer that came counts once: the question that is under way is still waited for.
        let mut answered = limiter.acquire(&BOTH, |_| Ok(())).await.unwrap();
        limiter
            .report(
                &mut answered,
                &Feedback::Refused(Throttle::Rate("narrow".into()), None),
            )
            .await
            .unwrap();
        let _question = limiter.acquire(&BOTH, |_| Ok(())).await.unwrap();
        drop(answered);
        assert!(
            tokio::time::timeout(second(3_600), limiter.acquire(&BOTH, |_| Ok(())))
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_teaches_about_limits_that_its_request_did_not_count_against() {
        let (_store, limiter) = limiter(&[], &two());
        let turn = limiter.acquire(&BOTH[..1], |_| Ok(())).await.unwrap();
        let hint = RateLimitInfo {
            limit: Some(5.0),
            concurrency: true,
            ..RateLimitInfo::default()
        };
        limiter.learn(
            &turn,
            &[
                ("wide".into(), hint.clone()),
                (
                    "unheard-of".into(),
                    RateLimitInfo {
                        limit: Some(1.0),
                        ..hint
                    },
                ),
            ],
        );
        let _held: Vec<_> =
            futures::future::join_all((0..5).map(|_| limiter.acquire(&BOTH[1..], |_| Ok(()))))
                .await;
        assert!(
            tokio::time::timeout(second(60), limiter.acquire(&BOTH[1..], |_| Ok(())))
                .await
                .is_err(),
            "five at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_that_takes_longest_decides_a_forecast() {
        let quotas = [
            ("narrow", Quota::per_hour(60)),
            ("wide", Quota::per_minute(10)),
            ("unknown", Quota::unknown()),
        ];
        let (_store, limiter) = limiter(&[], &quotas);
        let names = ["unknown", "wide", "narrow"].map(Cow::Borrowed);
        for (requests, limit, time) in [
            (1, "narrow: 60 requests/h", 0),
            (60, "wide: 10 requests/min", 6 * 59),
            (61, "narrow: 60 requests/h", 3_600),
        ] {
            let forecast = limiter.forecast(&names, requests).await.unwrap();
            assert_eq!(
                forecast,
                Some((limit.to_owned(), second(time))),
                "{requests} requests"
            );
        }
        assert_eq!(limiter.forecast(&names[..1], 1_000).await.unwrap(), None);
    }

    #[test]
    fn a_known_quota_of_more_than_a_minute_is_long() {
        let quotas = [
            ("h", Quota::per_hour(60)),
            ("min", Quota::per_minute(60)),
            ("s", Quota::per_second(60)),
            ("unknown", Quota::unknown()),
        ];
        let (_store, limiter) = limiter(&[], &quotas);
        assert_eq!(
            ["h", "min", "s", "unknown", "none"].map(|name| limiter.is_long(name)),
            [true, false, false, false, false]
        );
    }
}
