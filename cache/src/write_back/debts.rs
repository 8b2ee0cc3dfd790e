//! Who still lacks which manifest, and when each is tried again.
//!
//! Every manifest has its own pause, so that one whose home is away holds up no other. It is given up by age alone: a try
//! costs next to nothing, and a region's agents may all be away for hours.
//!
//! A plain state machine: it is told the time. Not here: what waits, which is the queue's and survives a restart.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// For how long a manifest is tried. What was built in this time elsewhere is mostly newer.
const TRIED_FOR: Duration = Duration::from_secs(6 * 3600);

/// Of one manifest, who has it, and who was asked and has it not.
#[derive(Debug)]
pub(super) struct Debt {
    /// Who did not take it.
    pub(super) owed: BTreeSet<String>,
    /// Who took it and need not be asked again.
    pub(super) taken: BTreeSet<String>,
    since: Instant,
    due: Instant,
    pause: Duration,
}

impl Debt {
    fn new(now: Instant) -> Self {
        let (owed, taken) = (BTreeSet::new(), BTreeSet::new());
        Self { owed, taken, since: now, due: now, pause: PAUSE_MIN }
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
        let due = |manifest: &Digest| self.0.get(manifest).map_or(now, |debt| debt.due);
        if let Some(manifest) = waiting.iter().find(|manifest| due(manifest) <= now) {
            return Next::Try(*manifest);
        }
        waiting.iter().map(due).min().map_or(Next::Nothing, Next::At)
    }

    /// Who has a manifest and who lacks it, to be changed by a try at `now`.
    pub(super) fn of(&mut self, manifest: Digest, now: Instant) -> &mut Debt {
        self.0.entry(manifest).or_insert_with(|| Debt::new(now))
    }

    /// A try ended at `now`. Says who still lacks it when it is over, which is when nobody does or when it was tried for
    /// long enough; nothing when it will be tried again.
    pub(super) fn tried(&mut self, manifest: &Digest, now: Instant) -> Option<BTreeSet<String>> {
        let debt = self.0.get_mut(manifest)?;
        if debt.owed.is_empty() || now.duration_since(debt.since) >= TRIED_FOR {
            return self.0.remove(manifest).map(|debt| debt.owed);
        }
        debt.due = now + debt.pause;
        debt.pause = (debt.pause * 2).min(PAUSE_MAX);
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

    fn manifest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn one_whose_home_is_away_holds_up_no_other() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        let waiting = [manifest(1), manifest(2)];
        assert_eq!(debts.next(&waiting, now), Next::Try(manifest(1)));
        debts.of(manifest(1), now).owed.insert("a".into());
        assert_eq!(debts.tried(&manifest(1), now), None);
        assert_eq!(debts.next(&waiting, now), Next::Try(manifest(2)));
        debts.of(manifest(2), now);
        assert_eq!(debts.tried(&manifest(2), now), Some(BTreeSet::new()));
        assert_eq!(debts.next(&waiting[..1], now), Next::At(now + PAUSE_MIN));
        assert_eq!(debts.next(&waiting[..1], now + PAUSE_MIN), Next::Try(manifest(1)));
        assert_eq!(debts.next(&[], now), Next::Nothing);
    }

    #[test]
    fn an_outage_of_hours_loses_nothing_and_one_that_never_ends_is_given_up() {
        let (mut debts, began) = (Debts::default(), Instant::now());
        let (waiting, mut now, mut tries) = ([manifest(1)], began, 0);
        let given_up = loop {
            match debts.next(&waiting, now) {
                Next::At(at) => now = at,
                Next::Try(one) => {
                    tries += 1;
                    debts.of(one, now).owed.insert("a".into());
                    if let Some(owed) = debts.tried(&one, now) {
                        break owed;
                    }
                }
                Next::Nothing => unreachable!("it waits"),
            }
        };
        assert_eq!(given_up, BTreeSet::from(["a".to_owned()]));
        let tried_for = now - began;
        assert!(tried_for >= TRIED_FOR && tried_for <= TRIED_FOR + PAUSE_MAX, "{tried_for:?}");
        assert!(tries < 400, "{tries} tries");
    }

    #[test]
    fn what_does_not_wait_any_more_is_forgotten() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        for n in 0..3 {
            debts.of(manifest(n), now).owed.insert("a".into());
            debts.tried(&manifest(n), now);
        }
        debts.keep(&[manifest(1)]);
        assert_eq!(debts.0.len(), 1);
        assert_eq!(debts.next(&[manifest(2)], now), Next::Try(manifest(2)));
    }
}
