//! Which holder brings what, where several bring one prefetch.
//!
//! What is lacking stands in the order in which the build will ask for it. Whoever is free takes the next part of it:
//! large while much is left and small in the end, so that all end together. Whoever finds a part under way with a holder
//! that takes far longer than it would itself asks for that part as well: **no holder, however slow, keeps a part for
//! longer than a few times what another one needs for it.** A part that its holder gave up is the next to be taken, by
//! another.
//!
//! A plain state machine: it is told the time. Not here: the calls, and whether a second holder is worth one.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;

/// The smallest part. Below it a question's way costs as much as its answer.
const PART_MIN: u64 = 4 << 20;
/// The largest.
const PART_MAX: u64 = 32 << 20;
/// No part is asked of another holder before it was under way for so long.
const OVERDUE_AFTER: Duration = Duration::from_secs(1);
/// Nor before so many times as long as the other one needs.
const OVERDUE_TIMES: u32 = 3;

/// Bodies that are asked for together. Never a piece of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// In the order in which they are sent.
    pub(super) bodies: Vec<Digest>,
    /// How large they are together.
    pub(super) bytes: u64,
}

/// What a holder should do next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Ask for this.
    Take(Arc<Part>),
    /// Nothing now; what others have under way may come back.
    Wait,
    /// Nothing any more.
    Over,
}

struct UnderWay {
    part: Arc<Part>,
    /// Who was asked, and when.
    with: Vec<(usize, Instant)>,
}

struct Returned {
    part: Arc<Part>,
    /// Who had it.
    by: Vec<usize>,
}

/// How a holder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Works,
    /// Others had to do what it was asked for: it is asked again only when they are gone.
    Lags,
    Gone,
}

/// What is lacking, and who brings it. Holders are numbers.
pub(super) struct Split {
    paces: Vec<Pace>,
    queue: VecDeque<Part>,
    queued: u64,
    under_way: Vec<UnderWay>,
    returned: VecDeque<Returned>,
}

impl Split {
    /// Of what is lacking, in order, as parts that are better not cut. Nobody works on it yet.
    pub(super) fn of(lacking: Vec<Part>) -> Self {
        let queued = lacking.iter().map(|part| part.bytes).sum();
        let (under_way, returned) = (Vec::new(), VecDeque::new());
        Self { paces: Vec::new(), queue: lacking.into(), queued, under_way, returned }
    }

    /// A holder begins to work.
    pub(super) fn joins(&mut self, holder: usize) {
        if self.paces.len() <= holder {
            self.paces.resize(holder + 1, Pace::Gone);
        }
        self.paces[holder] = Pace::Works;
    }

    /// A holder works no more.
    pub(super) fn leaves(&mut self, holder: usize) {
        self.paces[holder] = Pace::Gone;
    }

    /// How many work and do not lag.
    pub(super) fn working(&self) -> usize {
        self.paces.iter().filter(|pace| **pace == Pace::Works).count()
    }

    /// Gives `holder` what it was asked for at `now`, before anything was split: the first bodies, of so many bytes.
    pub(super) fn took_first(&mut self, holder: usize, bytes: u64, now: Instant) -> Arc<Part> {
        let part = self.cut(bytes);
        self.under_way.push(UnderWay { part: Arc::clone(&part), with: vec![(holder, now)] });
        part
    }

    /// What `holder` should do at `now`. `needs` says how long it takes for a part of so many bytes, once it has brought
    /// one.
    pub(super) fn next(
        &mut self,
        holder: usize,
        needs: Option<&dyn Fn(u64) -> Duration>,
        now: Instant,
    ) -> Turn {
        // One that has brought nothing yet does not know what it needs: then twice as long as for one that is fast.
        let overdue = |bytes: u64| match needs {
            Some(needs) => OVERDUE_AFTER.max(needs(bytes) * OVERDUE_TIMES),
            None => OVERDUE_AFTER * 2,
        };
        let is_last_resort = self.paces[holder] == Pace::Lags && self.working() > 0;
        if is_last_resort {
            let waits = if self.left() == 0 { Turn::Over } else { Turn::Wait };
            // Those who work may do worse.
            return self.late(holder, now, overdue).unwrap_or(waits);
        }
        if let Some(at) = self.returned.iter().position(|returned| !returned.by.contains(&holder))
            && let Some(Returned { part, .. }) = self.returned.remove(at)
        {
            return self.begin(part, holder, now);
        }
        if let Some(late) = self.late(holder, now, overdue) {
            return late;
        }
        if !self.queue.is_empty() {
            let count = u64::try_from(self.working()).unwrap_or(1).max(1);
            let part = self.cut((self.queued / (2 * count)).clamp(PART_MIN, PART_MAX));
            return self.begin(part, holder, now);
        }
        // In the end it is enough that it would have been done by now.
        if let Some(needs) = needs
            && let Some(late) = self.late(holder, now, needs)
        {
            return late;
        }
        let is_others = |way: &UnderWay| way.with.iter().any(|(with, _)| *with != holder);
        if self.under_way.iter().any(is_others) { Turn::Wait } else { Turn::Over }
    }

    /// Whether nobody need bring the part any more.
    pub(super) fn is_over(&self, part: &Arc<Part>) -> bool {
        !self.under_way.iter().any(|way| Arc::ptr_eq(&way.part, part))
    }

    /// A holder has brought all of a part. Others that were asked for it lag behind.
    pub(super) fn done(&mut self, holder: usize, part: &Arc<Part>) {
        let Some(at) = self.under_way.iter().position(|way| Arc::ptr_eq(&way.part, part)) else { return };
        for (with, _) in self.under_way.remove(at).with {
            if with != holder && self.paces[with] == Pace::Works {
                self.paces[with] = Pace::Lags;
            }
        }
    }

    /// A holder does not bring the part; the next one that is free and has not tried does.
    pub(super) fn give_back(&mut self, holder: usize, part: &Arc<Part>) {
        let Some(at) = self.under_way.iter().position(|way| Arc::ptr_eq(&way.part, part)) else { return };
        let way = &mut self.under_way[at];
        way.with.retain(|(with, _)| *with != holder);
        if way.with.is_empty() {
            self.under_way.remove(at);
            self.refuse(holder, part);
        }
    }

    /// What a holder said was all of a part was not.
    pub(super) fn refuse(&mut self, holder: usize, part: &Arc<Part>) {
        match self.returned.iter_mut().find(|returned| Arc::ptr_eq(&returned.part, part)) {
            Some(returned) => returned.by.push(holder),
            None => self.returned.push_back(Returned { part: Arc::clone(part), by: vec![holder] }),
        }
    }

    /// How many bytes nobody was asked for yet, and how many are under way.
    pub(super) fn left(&self) -> u64 {
        let under_way: u64 = self.under_way.iter().map(|way| way.part.bytes).sum();
        let returned: u64 = self.returned.iter().map(|returned| returned.part.bytes).sum();
        self.queued + under_way + returned
    }

    fn begin(&mut self, part: Arc<Part>, holder: usize, now: Instant) -> Turn {
        self.under_way.push(UnderWay { part: Arc::clone(&part), with: vec![(holder, now)] });
        Turn::Take(part)
    }

    /// The earliest part that every other holder asked for it has had for longer than is patient: two that stall keep
    /// it from a third no more than one does.
    fn late(&mut self, holder: usize, now: Instant, patience: impl Fn(u64) -> Duration) -> Option<Turn> {
        let late = self.under_way.iter_mut().find(|way| {
            let patience = patience(way.part.bytes);
            way.with.iter().all(|(with, since)| *with != holder && now.duration_since(*since) > patience)
        })?;
        late.with.push((holder, now));
        Some(Turn::Take(Arc::clone(&late.part)))
    }

    /// Takes what is first off the queue, until it has so many bytes.
    fn cut(&mut self, bytes: u64) -> Arc<Part> {
        let mut part = Part::default();
        while part.bytes < bytes
            && let Some(next) = self.queue.pop_front()
        {
            part.bodies.extend(next.bodies);
            part.bytes += next.bytes;
        }
        self.queued -= part.bytes;
        Arc::new(part)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn body(n: usize) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    fn lacking(sizes: &[u64]) -> Vec<Part> {
        sizes.iter().enumerate().map(|(n, size)| Part { bodies: vec![body(n)], bytes: *size }).collect()
    }

    /// A holder as the test plays it.
    #[derive(Debug, Clone, Copy)]
    struct Player {
        /// Milliseconds for a MiB; none for one that never ends.
        pace: Option<u64>,
        /// It brings nothing of what it says that it brings.
        lies: bool,
        /// It gives up whatever it is at after so many milliseconds.
        dies: Option<u64>,
    }

    fn player() -> impl Strategy<Value = Player> {
        let pace = prop::option::weighted(0.8, 1..2000_u64);
        (pace, prop::bool::weighted(0.2), prop::option::weighted(0.3, 0..60_000_u64))
            .prop_map(|(pace, lies, dies)| Player { pace, lies, dies })
    }

    /// Plays it out; gives when each body came, in milliseconds, and how many bytes were asked for.
    fn play(sizes: &[u64], players: &[Player]) -> (HashMap<Digest, u64>, u64) {
        let begin = Instant::now();
        let mut split = Split::of(lacking(sizes));
        let (mut came, mut asked) = (HashMap::new(), 0);
        let mut at: Vec<Option<(Arc<Part>, u64)>> = vec![None; players.len()];
        (0..players.len()).for_each(|holder| split.joins(holder));
        let mut away = vec![false; players.len()];
        for ms in (0..600_000_u64).step_by(20) {
            let now = begin + Duration::from_millis(ms);
            for (holder, player) in players.iter().enumerate() {
                if away[holder] {
                    continue;
                }
                if player.dies.is_some_and(|dies| ms >= dies) {
                    away[holder] = true;
                    split.leaves(holder);
                    if let Some((part, _)) = at[holder].take() {
                        split.give_back(holder, &part);
                    }
                    continue;
                }
                let cost = |bytes: u64| player.pace.map(|pace| pace * bytes.div_ceil(1 << 20));
                if let Some((part, since)) = &at[holder] {
                    if !split.is_over(part) {
                        if cost(part.bytes).is_none_or(|cost| ms < since + cost) {
                            continue;
                        }
                        split.done(holder, part);
                        if player.lies {
                            split.refuse(holder, part);
                            split.leaves(holder);
                            away[holder] = true;
                        } else {
                            part.bodies.iter().for_each(|body| {
                                came.entry(*body).or_insert(ms);
                            });
                        }
                    }
                    at[holder] = None;
                }
                if away[holder] {
                    continue;
                }
                let needs = |bytes: u64| Duration::from_millis(cost(bytes).unwrap_or(u64::MAX / 4));
                let knows: Option<&dyn Fn(u64) -> Duration> = player.pace.is_some().then_some(&needs as _);
                match split.next(holder, knows, now) {
                    Turn::Take(part) => {
                        asked += part.bytes;
                        at[holder] = Some((part, ms));
                    }
                    Turn::Wait | Turn::Over => {}
                }
            }
        }
        (came, asked)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn one_good_holder_is_enough_for_everything_to_come_whatever_the_others_do(
            sizes in prop::collection::vec(0..3_000_000_u64, 0..80),
            mut players in prop::collection::vec(player(), 1..4),
            place in any::<prop::sample::Index>(),
        ) {
            let good = place.index(players.len() + 1);
            players.insert(good, Player { pace: Some(200), lies: false, dies: None });
            let (came, _) = play(&sizes, &players);
            prop_assert_eq!(came.len(), sizes.len());
        }
    }

    const GOOD: Player = Player { pace: Some(10), lies: false, dies: None };

    #[test]
    fn two_alike_bring_it_in_half_the_time_and_in_order_and_nothing_twice() {
        let sizes = vec![1 << 20; 256];
        let (alone, _) = play(&sizes, &[GOOD]);
        let (both, asked) = play(&sizes, &[GOOD, GOOD]);
        let end = |came: &HashMap<Digest, u64>| *came.values().max().unwrap();
        assert!(end(&both) * 10 < end(&alone) * 6, "{} and {}", end(&both), end(&alone));
        assert_eq!(asked, 256 << 20);
        // What the build asks for first comes in the first third.
        let first = (0..32).map(|n| both[&body(n)]).max().unwrap();
        assert!(first * 3 <= end(&both), "{first} of {}", end(&both));
    }

    #[test]
    fn one_that_stalls_for_ever_holds_a_part_up_for_a_bounded_time() {
        let stalled = Player { pace: None, lies: false, dies: None };
        let (came, _) = play(&vec![1 << 20; 128], &[stalled, GOOD]);
        assert_eq!(came.len(), 128);
        let first = came[&body(0)];
        assert!(first <= 2_000, "the first body came after {first} ms");
    }

    #[test]
    fn several_that_stall_one_after_the_other_on_the_same_part_do_not_keep_it_from_one_that_works() {
        let stalled = Player { pace: None, lies: false, dies: None };
        let (came, _) = play(&[1 << 20; 8], &[stalled, stalled, stalled, GOOD]);
        assert_eq!(came.len(), 8);
        let last = *came.values().max().unwrap();
        assert!(last <= 10_000, "the last body came after {last} ms");
    }
}
