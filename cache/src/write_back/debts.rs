//! Who still lacks which manifest, and when each is tried again.
//!
//! Every home of every manifest has its own pause, so that one that is away or refuses holds up no other. A manifest is
//! given up by age alone: a try with one that is away costs next to nothing, and a region's agents may all be away for
//! hours. One that refuses for good, or has bodies sent to it for nothing, is tried a few times all the same: whoever runs
//! it may see the mistake, and an agent that has just begun refuses what it cannot judge yet.
//!
//! A plain state machine: it is told the time. Not here: what waits, which is the queue's and survives a restart.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;
use tonic::Code;

/// For how long a manifest is tried. What was built in this time elsewhere is mostly newer.
const TRIED_FOR: Duration = Duration::from_secs(6 * 3600);

/// What a try that failed says of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may go well any moment, and costs little: the home is away, busy, or broke off.
    Passing,
    /// It will most likely go the same way: the home refuses for good, or takes bodies for nothing.
    Lasting,
}

impl Failure {
    /// What a home's refusal says; `has_sent` when bodies were sent to it before.
    pub(super) const fn of(refusal: Code, has_sent: bool) -> Self {
        match refusal {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::Unimplemented
            | Code::FailedPrecondition => Self::Lasting,
            // A disk is full, or a quota used up. Before anything was sent it only has no place free.
            Code::ResourceExhausted if has_sent => Self::Lasting,
            _ => Self::Passing,
        }
    }

    /// The first pause, how many times as long each next one is, and the longest.
    const fn pauses(self) -> (Duration, u32, Duration) {
        match self {
            Self::Passing => (Duration::from_secs(1), 2, Duration::from_secs(60)),
            Self::Lasting => (Duration::from_secs(60), 4, Duration::from_secs(3600)),
        }
    }
}

/// One that does not have a manifest.
#[derive(Debug)]
struct Owed {
    due: Instant,
    /// The next pause, if it fails as before.
    pause: Duration,
}

impl Owed {
    fn failed(&mut self, failure: Failure, now: Instant) {
        let (first, times, longest) = failure.pauses();
        let pause = self.pause.clamp(first, longest);
        self.due = now + pause;
        self.pause = pause * times;
    }
}

/// Of one manifest, who has it, and who was asked and has it not.
#[derive(Debug)]
pub(super) struct Debt {
    owed: BTreeMap<String, Owed>,
    /// Who took it and need not be asked again.
    taken: BTreeSet<String>,
    since: Instant,
    /// When the try began that is under way, or was last.
    tried: Instant,
}

impl Debt {
    fn new(now: Instant) -> Self {
        Self { owed: BTreeMap::new(), taken: BTreeSet::new(), since: now, tried: now }
    }

    /// Whether a home is to be asked in this try.
    pub(super) fn is_due(&self, home: &str) -> bool {
        !self.taken.contains(home) && self.owed.get(home).is_none_or(|owed| owed.due <= self.tried)
    }

    /// A home has it.
    pub(super) fn took(&mut self, home: String) {
        self.owed.remove(&home);
        self.taken.insert(home);
    }

    /// A home did not take it at `now`.
    pub(super) fn failed(&mut self, home: String, failure: Failure, now: Instant) {
        let first = Owed { due: now, pause: Duration::ZERO };
        self.owed.entry(home).or_insert(first).failed(failure, now);
    }

    /// Nobody is owed anything any more.
    pub(super) fn forgive(&mut self) {
        self.owed.clear();
    }

    /// When the next one is to be asked.
    fn due(&self) -> Option<Instant> {
        self.owed.values().map(|owed| owed.due).min()
    }
}

/// What is owed of all that waits.
#[derive(Debug, Default)]
pub(super) struct Debts(HashMap<Digest, Debt>);

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Try this one.
    Try(Digest),
    /// Nothing is due before that.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

impl Debts {
    /// What to try at `now` of what waits, the oldest first.
    pub(super) fn next(&self, waiting: &[Digest], now: Instant) -> Next {
        let due = |manifest: &Digest| self.0.get(manifest).and_then(Debt::due).unwrap_or(now);
        if let Some(manifest) = waiting.iter().find(|manifest| due(manifest) <= now) {
            return Next::Try(*manifest);
        }
        waiting.iter().map(due).min().map_or(Next::Nothing, Next::At)
    }

    /// Begins a try of a manifest at `now`, to be told who takes it.
    pub(super) fn begin(&mut self, manifest: Digest, now: Instant) -> &mut Debt {
        let debt = self.0.entry(manifest).or_insert_with(|| Debt::new(now));
        debt.tried = now;
        debt
    }

    /// A try ended at `now`. Says who still lacks it when it is over, which is when nobody does or when it was tried for
    /// long enough; nothing when it will be tried again.
    pub(super) fn tried(&mut self, manifest: &Digest, now: Instant) -> Option<BTreeSet<String>> {
        let debt = self.0.get_mut(manifest)?;
        if debt.owed.is_empty() || now.duration_since(debt.since) >= TRIED_FOR {
            return self.0.remove(manifest).map(|debt| debt.owed.into_keys().collect());
        }
        // Those that were to be asked and are no homes now.
        let tried = debt.tried;
        for owed in debt.owed.values_mut().filter(|owed| owed.due <= tried) {
            owed.failed(Failure::Passing, now);
        }
        None
    }

    /// Forgets what does not wait any more.
    pub(super) fn keep(&mut self, waiting: &[Digest]) {
        if self.0.len() > waiting.len() {
            self.0.retain(|manifest, _| waiting.contains(manifest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::Failure::{Lasting, Passing};

    fn manifest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    /// A home does not take a manifest.
    fn fail(debts: &mut Debts, one: Digest, failure: Failure, now: Instant) -> Option<BTreeSet<String>> {
        debts.begin(one, now).failed("a".into(), failure, now);
        debts.tried(&one, now)
    }

    /// How often, at which pauses in seconds and for how long a manifest is tried that its home never takes.
    fn tried_in_vain(failure: Failure) -> (Vec<u64>, Duration) {
        let (mut debts, began) = (Debts::default(), Instant::now());
        let (waiting, mut now, mut pauses) = ([manifest(1)], began, Vec::new());
        loop {
            match debts.next(&waiting, now) {
                Next::At(at) => {
                    pauses.push((at - now).as_secs());
                    now = at;
                }
                Next::Try(one) => {
                    if let Some(owed) = fail(&mut debts, one, failure, now) {
                        assert_eq!(owed, BTreeSet::from(["a".to_owned()]));
                        return (pauses, now - began);
                    }
                }
                Next::Nothing => unreachable!("it waits"),
            }
        }
    }

    #[test]
    fn one_whose_home_is_away_holds_up_no_other() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        let waiting = [manifest(1), manifest(2)];
        assert_eq!(debts.next(&waiting, now), Next::Try(manifest(1)));
        assert_eq!(fail(&mut debts, manifest(1), Passing, now), None);
        assert_eq!(debts.next(&waiting, now), Next::Try(manifest(2)));
        debts.begin(manifest(2), now).took("a".into());
        assert_eq!(debts.tried(&manifest(2), now), Some(BTreeSet::new()));
        let later = now + Duration::from_secs(1);
        assert_eq!(debts.next(&waiting[..1], now), Next::At(later));
        assert_eq!(debts.next(&waiting[..1], later), Next::Try(manifest(1)));
        assert_eq!(debts.next(&[], now), Next::Nothing);
    }

    #[test]
    fn an_outage_of_hours_loses_nothing_and_one_that_never_ends_is_given_up() {
        let (pauses, tried_for) = tried_in_vain(Passing);
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(tried_for >= TRIED_FOR && tried_for <= TRIED_FOR + Duration::from_secs(60), "{tried_for:?}");
        assert!(pauses.len() < 400, "{} tries", pauses.len());
    }

    #[test]
    fn a_home_that_refuses_for_good_is_tried_a_few_times_a_day() {
        let (pauses, tried_for) = tried_in_vain(Lasting);
        assert_eq!(pauses[..5], [60, 240, 960, 3600, 3600]);
        assert!(tried_for >= TRIED_FOR && pauses.len() < 10, "{} tries", pauses.len());
    }

    #[test]
    fn a_home_that_refuses_holds_up_no_other_home_and_one_that_is_no_home_is_waited_for() {
        let (mut debts, began) = (Debts::default(), Instant::now());
        let at = |s: u64| began + Duration::from_secs(s);
        let debt = debts.begin(manifest(1), began);
        debt.failed("refuses".into(), Lasting, began);
        debt.failed("away".into(), Passing, began);
        assert_eq!(debts.tried(&manifest(1), began), None);
        assert_eq!(debts.next(&[manifest(1)], began), Next::At(at(1)));
        let debt = debts.begin(manifest(1), at(1));
        assert!(debt.is_due("away") && debt.is_due("new") && !debt.is_due("refuses"));
        // It is no home in this try, so that nobody asks it; what takes long is no reason to wait longer.
        assert_eq!(debts.tried(&manifest(1), at(5)), None);
        assert_eq!(debts.next(&[manifest(1)], at(5)), Next::At(at(7)));
        debts.begin(manifest(1), at(7)).took("away".into());
        assert_eq!(debts.tried(&manifest(1), at(7)), None);
        assert_eq!(debts.next(&[manifest(1)], at(7)), Next::At(at(60)));
        let debt = debts.begin(manifest(1), at(60));
        assert!(debt.is_due("refuses") && !debt.is_due("away"), "what is there is not brought again");
    }

    #[test]
    fn a_refusal_lasts_when_it_is_for_good_and_when_bodies_were_sent_for_nothing() {
        for code in [
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::FailedPrecondition,
        ] {
            assert_eq!([false, true].map(|sent| Failure::of(code, sent)), [Lasting; 2], "{code:?}");
        }
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::Internal, Code::Unknown]
        {
            assert_eq!([false, true].map(|sent| Failure::of(code, sent)), [Passing; 2], "{code:?}");
        }
        assert_eq!([false, true].map(|sent| Failure::of(Code::ResourceExhausted, sent)), [Passing, Lasting]);
    }

    #[test]
    fn what_does_not_wait_any_more_is_forgotten() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        for n in 0..3 {
            fail(&mut debts, manifest(n), Passing, now);
        }
        debts.keep(&[manifest(1)]);
        assert_eq!(debts.0.len(), 1);
        assert_eq!(debts.next(&[manifest(2)], now), Next::Try(manifest(2)));
    }
}
