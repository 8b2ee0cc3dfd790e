//! How far those are who asked for the builds that run.
//!
//! A client says it when it submits, and it is kept for as long as the build runs. It is nothing that must outlive a
//! coordinator: after a restart, what was submitted before goes where it is made first, wherever its client is.

use std::{collections::BTreeMap, sync::Arc};

use crate::{digest::Digest, id::BuildId, schedule::delivery::Deliveries};

/// Most builds of which it is kept. Those after them go where they are made first.
const BUILDS_MAX: usize = 65_536;

/// How far the clients of builds are.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Clients {
    by_build: BTreeMap<BuildId, Arc<Deliveries>>,
    /// What many say is kept once, with how many builds it is said of.
    places: BTreeMap<Digest, (Arc<Deliveries>, usize)>,
}

impl Clients {
    /// Takes in how far a build's client is.
    pub(in crate::machine) fn insert(&mut self, build: BuildId, deliveries: Deliveries) {
        if self.by_build.len() >= BUILDS_MAX || self.by_build.contains_key(&build) {
            return;
        }
        let place = self.places.entry(*deliveries.name()).or_insert_with(|| (Arc::new(deliveries), 0));
        place.1 += 1;
        self.by_build.insert(build, Arc::clone(&place.0));
    }

    /// How far a build's client is, when it said so.
    pub(in crate::machine) fn of(&self, build: &BuildId) -> Option<Arc<Deliveries>> {
        self.by_build.get(build).cloned()
    }

    /// Forgets a build that has ended.
    pub(in crate::machine) fn forget(&mut self, build: &BuildId) {
        let Some(deliveries) = self.by_build.remove(build) else { return };
        if let Some(place) = self.places.get_mut(deliveries.name()) {
            place.1 -= 1;
            if place.1 == 0 {
                self.places.remove(deliveries.name());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::delivery::{ClientWay, ClientWays};

    #[test]
    fn what_two_clients_say_alike_is_kept_once_and_for_as_long_as_one_of_their_builds_runs() {
        let near = ClientWay { rtt_us: 2_000, bytes_per_s: None };
        let ways = ClientWays { regions: [("eu".parse().unwrap(), near)].into(), ..ClientWays::default() };
        let [one, other]: [BuildId; 2] = ["acme/web/1", "acme/web/2"].map(|id| id.parse().unwrap());
        let mut clients = Clients::default();
        clients.insert(one.clone(), ways.deliveries().unwrap());
        clients.insert(other.clone(), ways.deliveries().unwrap());
        let (kept, same) = (clients.of(&one).unwrap(), clients.of(&other).unwrap());
        assert!(Arc::ptr_eq(&kept, &same));
        clients.forget(&one);
        clients.forget(&one);
        assert!(clients.of(&one).is_none() && clients.of(&other).is_some());
        clients.forget(&other);
        assert!(clients.places.is_empty());
    }
}
