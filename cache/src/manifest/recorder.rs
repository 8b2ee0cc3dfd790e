//! Writes down what a build asks, in the order in which it first asks for it.

use std::collections::HashMap;

use super::document::{ENTRIES_MAX, Listed};
use crate::entry::{ActionId, Entry};

/// What one task asked so far.
#[derive(Debug, Default)]
pub struct Recorder {
    order: Vec<(ActionId, Option<Entry>)>,
    places: HashMap<ActionId, usize>,
}

impl Recorder {
    /// Something was asked, and answered or not.
    pub fn asked(&mut self, action: ActionId, answer: Option<Entry>) {
        match self.places.get(&action) {
            Some(place) if answer.is_some() => self.order[*place].1 = answer,
            Some(_) => {}
            None if self.order.len() < ENTRIES_MAX => {
                self.places.insert(action, self.order.len());
                self.order.push((action, answer));
            }
            None => {}
        }
    }

    /// Something was answered with what had been told ahead of the question, and this is heard of later. What was put
    /// meanwhile counts.
    pub fn foretold(&mut self, action: ActionId, answer: Entry) {
        let is_answered = self.places.get(&action).is_some_and(|place| self.order[*place].1.is_some());
        if !is_answered {
            self.asked(action, Some(answer));
        }
    }

    /// Something was put: it takes the place at which it was asked for in vain.
    pub fn put(&mut self, action: ActionId, entry: Entry) {
        self.asked(action, Some(entry));
    }

    /// What has an answer, in the order in which it was first asked for.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        let listed = |(action, entry): &(ActionId, Option<Entry>)| {
            entry.map(|entry| Listed { action: *action, entry })
        };
        self.order.iter().filter_map(listed).collect()
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::digest::Digest;

    use super::*;

    #[test]
    fn what_was_asked_in_vain_and_put_later_stands_where_it_was_asked() {
        let (a, b, c) = (ActionId([1; 32]), ActionId([2; 32]), ActionId([3; 32]));
        let entry = |n: u8| Entry { output: Digest::of(&[n]), size: 1, time_ns: u64::from(n) };
        let mut recorder = Recorder::default();
        recorder.asked(a, None);
        recorder.asked(b, Some(entry(2)));
        recorder.asked(c, None);
        recorder.put(a, entry(1));
        recorder.asked(b, Some(entry(2)));
        recorder.foretold(a, entry(9));
        let listed: Vec<_> = recorder.listed().iter().map(|one| (one.action, one.entry)).collect();
        assert_eq!(listed, [(a, entry(1)), (b, entry(2))]);
    }
}
