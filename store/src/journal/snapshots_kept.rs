//! Which snapshots are kept beside the newest one, and for how long.
//!
//! A start needs the newest only. The older ones are where a replay to a moment of the past begins.

use meridian_core::id::JournalIndex;

/// Most snapshots that are kept, the newest among them.
const SNAPSHOTS_MAX: usize = 8;

/// Which of `snapshots` (ascending) need not be kept beside records from `first` on.
///
/// One is of use for as long as the record after it is kept. Of more than [`SNAPSHOTS_MAX`] such, those go first that leave the
/// smallest gaps: the oldest and the newest always stay.
pub(super) fn surplus_snapshots(first: JournalIndex, snapshots: &[JournalIndex]) -> Vec<JournalIndex> {
    let Some((newest, older)) = snapshots.split_last() else { return Vec::new() };
    let (mut kept, mut surplus): (Vec<JournalIndex>, Vec<JournalIndex>) =
        older.iter().partition(|at| at.0 + 1 >= first.0);
    kept.push(*newest);
    while kept.len() > SNAPSHOTS_MAX {
        let gap = |position: &usize| kept[position + 1].0 - kept[position - 1].0;
        let Some(least) = (1..kept.len() - 1).min_by_key(gap) else { break };
        surplus.push(kept.remove(least));
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_can_begin_near_any_record_that_is_kept() {
        let mut kept: Vec<JournalIndex> = Vec::new();
        for at in (1..=200).map(|number| JournalIndex(number * 10)) {
            // The records of the last 1,000 are kept, as whole segments of 50 each.
            let first = JournalIndex(at.0.saturating_sub(1_000) / 50 * 50 + 1);
            kept.push(at);
            let surplus = surplus_snapshots(first, &kept);
            kept.retain(|at| !surplus.contains(at));
            assert!(kept.len() <= SNAPSHOTS_MAX && kept.is_sorted() && kept.last() == Some(&at), "{kept:?}");
            assert!(kept[0].0 + 1 >= first.0, "{kept:?} holds one that no record follows");
            let gaps = kept.windows(2).map(|pair| pair[1].0 - pair[0].0).chain([kept[0].0 + 1 - first.0]);
            assert!(gaps.max() <= Some(400), "{kept:?} leaves a gap after {first}");
        }
    }
}
