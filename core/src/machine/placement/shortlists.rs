//! Which agents are worth a look when there are very many and hardly one is free.
//!
//! Which agents suit a lineage best, whoever waits for them, changes slowly: with what they hold and how far they are, from
//! the coordinator and from a client who said where it is. So for each lineage, and the clients of each place, the
//! best few are kept for a moment, and a choice looks at them and at those that are free. **Everybody that is free is always
//! looked at**, and a fleet of ordinary size is looked at whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    digest::Digest,
    quantity::Millis,
    schedule::{choice::Prospect, queue::LineId},
    time::Mono,
};

/// Lines with at most so many agents are looked at whole.
const WHOLE_MAX: usize = 128;
/// So are lines of which more are free: then it is not one slot that many wait for.
const FREE_MAX: usize = 32;
/// How many of the best are kept.
const BEST_MAX: usize = 16;
/// For how long.
const KEPT: Millis = Millis::seconds(10);
/// Lists that are kept.
const LISTS_MAX: usize = 1_024;

/// A line, a lineage, and the place of whoever asks when that is known.
type Whose = (LineId, Digest, Option<Digest>);

/// The agents that suit each lineage best.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Shortlists {
    lists: BTreeMap<Whose, Shortlist>,
}

#[derive(Debug, Clone)]
struct Shortlist {
    made: Mono,
    generation: u64,
    best: Vec<u32>,
}

/// Whose list it is, and whether it still holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::machine) struct Asked {
    pub(in crate::machine) line: LineId,
    pub(in crate::machine) lineage: Digest,
    /// The name of what it takes to bring something to whoever asks, when that is known.
    pub(in crate::machine) client: Option<Digest>,
    /// Of the line's agents.
    pub(in crate::machine) generation: u64,
    pub(in crate::machine) now: Mono,
}

/// Which agents to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) enum Look {
    /// All of the line, and nothing is kept of it.
    All,
    /// All of the line, and then the best are kept.
    AllAndKeep,
    /// These.
    These(Vec<u32>),
}

impl Asked {
    const fn whose(&self) -> Whose {
        (self.line, self.lineage, self.client)
    }
}

impl Shortlists {
    /// Which of a line's agents to look at.
    pub(in crate::machine) fn look(&self, asked: Asked, rows: &[u32], free: &BTreeSet<u32>) -> Look {
        if rows.len() <= WHOLE_MAX {
            return Look::All;
        }
        let free = free.iter().filter(|row| rows.binary_search(row).is_ok());
        let free: Vec<u32> = free.take(FREE_MAX + 1).copied().collect();
        if free.len() > FREE_MAX {
            return Look::All;
        }
        let list = self.lists.get(&asked.whose());
        let fresh =
            list.filter(|list| list.generation == asked.generation && asked.now.since(list.made) < KEPT);
        let Some(list) = fresh else { return Look::AllAndKeep };
        let best = list.best.iter().filter(|row| !free.contains(row)).copied();
        let mut these: Vec<u32> = best.chain(free.iter().copied()).collect();
        these.sort_unstable();
        Look::These(these)
    }

    /// Keeps the best of all that were looked at.
    pub(in crate::machine) fn keep(&mut self, asked: Asked, prospects: &[Prospect]) {
        let suits = |prospect: &Prospect| prospect.terms.finish_us().saturating_sub(prospect.terms.wait_us);
        let mut ranked: Vec<(u64, u32)> =
            prospects.iter().map(|prospect| (suits(prospect), prospect.row)).collect();
        if ranked.len() > BEST_MAX {
            ranked.select_nth_unstable(BEST_MAX);
            ranked.truncate(BEST_MAX);
        }
        if self.lists.len() >= LISTS_MAX {
            self.lists.retain(|_, list| asked.now.since(list.made) < KEPT);
            if self.lists.len() >= LISTS_MAX {
                self.lists.clear();
            }
        }
        let best = ranked.into_iter().map(|(_, row)| row).collect();
        let list = Shortlist { made: asked.now, generation: asked.generation, best };
        self.lists.insert(asked.whose(), list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cost::Terms;

    fn prospect(row: u32) -> Prospect {
        Prospect {
            row,
            terms: Terms { wait_us: 1_000_000, run_us: u64::from(row), ..Terms::default() },
            is_free: false,
            slots: 1,
            rtt_us: None,
            held_permille: None,
            is_fallback: false,
        }
    }

    #[test]
    fn a_large_line_is_looked_at_whole_once_and_then_only_its_best_and_whoever_is_free() {
        let rows: Vec<u32> = (0..500).collect();
        let (line, lineage) = (LineId(1), Digest::of(b"l"));
        let asked = Asked { line, lineage, client: None, generation: 3, now: Mono(0) };
        let mut lists = Shortlists::default();
        let free = BTreeSet::from([5, 400]);
        assert_eq!(lists.look(asked, &rows[..128], &free), Look::All);
        assert_eq!(lists.look(asked, &rows, &(0..40).collect()), Look::All);
        assert_eq!(lists.look(asked, &rows, &free), Look::AllAndKeep);
        lists.keep(asked, &rows.iter().map(|row| prospect(*row)).collect::<Vec<_>>());
        let best: Vec<u32> = (0..16).chain([400]).collect();
        assert_eq!(lists.look(asked, &rows, &free), Look::These(best));
        let elsewhere = Asked { client: Some(Digest::of(b"elsewhere")), ..asked };
        assert_eq!(lists.look(elsewhere, &rows, &free), Look::AllAndKeep, "others are near to them");
        let later = Asked { now: Mono(10_000), ..asked };
        assert_eq!(lists.look(later, &rows, &free), Look::AllAndKeep, "it is too old");
        let changed = Asked { generation: 4, ..asked };
        assert_eq!(lists.look(changed, &rows, &free), Look::AllAndKeep, "agents came or went");
    }
}
