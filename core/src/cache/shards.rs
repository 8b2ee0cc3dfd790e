//! Which agents share the cache of a region, and which of them are a key's homes.
//!
//! The coordinator says who belongs, with an epoch that only grows; each agent then works out the homes of a key by
//! itself ([`super::rendezvous`]). Two agents whose memberships differ for a moment look for a few keys in different
//! places and miss them there: that costs time and nothing else. A peer that names a newer epoch tells its reader that
//! a message is on its way, or was lost; one that names an older one is behind itself.
//!
//! Not here: whether a member answers (a circuit breaker's matter), and what it holds.

use std::{
    collections::{BTreeSet, btree_set},
    fmt,
    sync::Arc,
};

use crate::{
    cache::{
        offer::WEIGHT_MAX,
        peer_address::PeerAddress,
        rendezvous::{Draw, DrawKey, Seed},
    },
    id::{AgentId, Epoch, RegionName},
};

/// Most members of all regions together: a message with all of them must stay far below what the wire takes.
pub const MEMBERS_MAX: usize = 4_096;
/// Most homes of one key.
pub const REPLICAS_MAX: u32 = 8;

/// The number of a membership. It only grows: the leader's term first, and then the changes within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardEpoch {
    /// The term of the coordinator that said it.
    pub leader: Epoch,
    /// Counts the term's memberships from 1.
    pub change: u64,
}

/// Who shares the cache, everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    /// Its number.
    pub epoch: ShardEpoch,
    regions: Vec<RegionShards>,
    revoked: BTreeSet<AgentId>,
}

/// Who shares the cache of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionShards {
    region: RegionName,
    replicas: u32,
    members: Vec<ShardMember>,
    /// Each member's, in their order.
    seeds: Vec<Seed>,
}

/// An agent that shares the cache of its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMember {
    /// Which.
    pub agent: AgentId,
    /// Where it is reached.
    pub address: PeerAddress,
    /// How many keys it takes, beside the others' weights.
    pub weight: u32,
}

/// What a receiver knows of the membership: the newest that it was told.
#[derive(Debug, Clone, Default)]
pub struct ShardView {
    newest: Option<Arc<Shards>>,
}

/// What cannot be a membership.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardsError {
    /// A member, a region or a revoked agent out of order, or twice.
    #[error("{0} is named twice or out of order")]
    Order(String),
    /// A member in another region's list.
    #[error("shard {agent} is not of region {region}")]
    Region {
        /// The member.
        agent: AgentId,
        /// The list's region.
        region: RegionName,
    },
    /// A weight that none has.
    #[error("the weight of shard {agent} is {weight}, and must be 1 to {WEIGHT_MAX}")]
    Weight {
        /// The member.
        agent: AgentId,
        /// What was said.
        weight: u32,
    },
    /// No replica, or more than are of any use.
    #[error("region {region} has {replicas} replicas, and must have 1 to {REPLICAS_MAX}")]
    Replicas {
        /// The region.
        region: RegionName,
        /// What was said.
        replicas: u32,
    },
    /// Too many members.
    #[error("more than {MEMBERS_MAX} shards")]
    TooMany,
}

impl fmt::Display for ShardEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.leader, self.change)
    }
}

impl Shards {
    /// A membership of regions, and the agents whose word counts no more; both sorted.
    ///
    /// # Errors
    /// When something is out of order or named twice, or there are too many members.
    pub fn new(
        epoch: ShardEpoch,
        regions: Vec<RegionShards>,
        revoked: BTreeSet<AgentId>,
    ) -> Result<Self, ShardsError> {
        if let Some([_, second]) = regions.windows(2).find(|pair| pair[0].region >= pair[1].region) {
            return Err(ShardsError::Order(format!("region {}", second.region)));
        }
        if regions.iter().map(|region| region.members.len()).sum::<usize>() > MEMBERS_MAX {
            return Err(ShardsError::TooMany);
        }
        Ok(Self { epoch, regions, revoked })
    }

    /// The regions that have a shard, by name.
    #[must_use]
    pub fn regions(&self) -> &[RegionShards] {
        &self.regions
    }

    /// The shards of a region; `None` when it has none.
    #[must_use]
    pub fn region(&self, name: &RegionName) -> Option<&RegionShards> {
        self.regions.iter().find(|region| region.region == *name)
    }

    /// An agent that is a member.
    #[must_use]
    pub fn member(&self, agent: &AgentId) -> Option<&ShardMember> {
        let members = &self.region(&agent.region)?.members;
        members.binary_search_by(|member| member.agent.cmp(agent)).ok().map(|at| &members[at])
    }

    /// Whether an agent's entries and manifests count no more.
    #[must_use]
    pub fn is_revoked(&self, agent: &AgentId) -> bool {
        self.revoked.contains(agent)
    }

    /// The agents whose entries and manifests count no more.
    pub fn revoked(&self) -> btree_set::Iter<'_, AgentId> {
        self.revoked.iter()
    }

    /// Whether the other says the same, whatever its number.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.regions == other.regions && self.revoked == other.revoked
    }
}

impl RegionShards {
    /// The shards of a region, sorted by agent; a key has `replicas` homes, or all members when they are fewer.
    ///
    /// # Errors
    /// When a member is out of order, named twice, of another region or without a fitting weight, or the number of
    /// replicas is none.
    pub fn new(region: RegionName, replicas: u32, members: Vec<ShardMember>) -> Result<Self, ShardsError> {
        if !(1..=REPLICAS_MAX).contains(&replicas) {
            return Err(ShardsError::Replicas { region, replicas });
        }
        if let Some([_, second]) = members.windows(2).find(|pair| pair[0].agent >= pair[1].agent) {
            return Err(ShardsError::Order(format!("shard {}", second.agent)));
        }
        for ShardMember { agent, weight, address: _ } in &members {
            if agent.region != region {
                return Err(ShardsError::Region { agent: agent.clone(), region });
            }
            if !(1..=WEIGHT_MAX).contains(weight) {
                return Err(ShardsError::Weight { agent: agent.clone(), weight: *weight });
            }
        }
        let seeds = members.iter().map(|member| Seed::of(&member.agent.to_string())).collect();
        Ok(Self { region, replicas, members, seeds })
    }

    /// Which region's they are.
    #[must_use]
    pub const fn region(&self) -> &RegionName {
        &self.region
    }

    /// How many homes a key has, while there are as many members.
    #[must_use]
    pub const fn replicas(&self) -> u32 {
        self.replicas
    }

    /// The members, by agent.
    #[must_use]
    pub fn members(&self) -> &[ShardMember] {
        &self.members
    }

    /// The homes of a key, the first choice first. They are different agents.
    #[must_use]
    pub fn homes(&self, key: &[u8; 32]) -> Vec<&ShardMember> {
        let wanted = usize::try_from(self.replicas).unwrap_or(1).min(self.members.len());
        let key = DrawKey::of(key);
        let mut best: Vec<(Draw, &ShardMember)> = Vec::with_capacity(wanted + 1);
        for (member, seed) in self.members.iter().zip(&self.seeds) {
            let draw = Draw::of(key, *seed, member.weight);
            if best.len() == wanted && best.last().is_none_or(|(last, _)| *last <= draw) {
                continue;
            }
            // Of equal draws, which nobody will live to see, the earlier agent's wins.
            let place = best.partition_point(|(other, _)| *other <= draw);
            best.insert(place, (draw, member));
            best.truncate(wanted);
        }
        best.into_iter().map(|(_, member)| member).collect()
    }

    /// Whether an agent is one of a key's homes.
    #[must_use]
    pub fn is_home(&self, agent: &AgentId, key: &[u8; 32]) -> bool {
        self.homes(key).iter().any(|member| member.agent == *agent)
    }
}

impl ShardView {
    /// Takes in what the coordinator says, unless something newer is known; whether it was taken.
    pub fn take(&mut self, told: Arc<Shards>) -> bool {
        let is_newer = told.epoch > self.epoch();
        if is_newer {
            self.newest = Some(told);
        }
        is_newer
    }

    /// The newest membership; `None` while nothing was told.
    #[must_use]
    pub const fn newest(&self) -> Option<&Arc<Shards>> {
        self.newest.as_ref()
    }

    /// Its number; the least of all while nothing was told.
    #[must_use]
    pub fn epoch(&self) -> ShardEpoch {
        self.newest.as_ref().map_or(ShardEpoch::default(), |shards| shards.epoch)
    }

    /// Whether a peer that names this epoch knows something newer, so that this side's view is stale.
    #[must_use]
    pub fn is_behind(&self, named: ShardEpoch) -> bool {
        named > self.epoch()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    const KEYS: u32 = 100_000;

    fn member(name: &str, weight: u32) -> ShardMember {
        let agent = format!("eu/{name}").parse().unwrap();
        ShardMember { agent, address: format!("{name}.example:7444").parse().unwrap(), weight }
    }

    fn region(replicas: u32, members: &[(&str, u32)]) -> RegionShards {
        let mut members: Vec<_> = members.iter().map(|(name, weight)| member(name, *weight)).collect();
        members.sort_by(|a, b| a.agent.cmp(&b.agent));
        RegionShards::new("eu".parse().unwrap(), replicas, members).unwrap()
    }

    /// `count` equal shards whose names begin with `prefix`.
    fn equal(prefix: &str, count: usize, replicas: u32) -> RegionShards {
        let names: Vec<String> = (0..count).map(|number| format!("{prefix}{number}")).collect();
        region(replicas, &names.iter().map(|name| (name.as_str(), 100)).collect::<Vec<_>>())
    }

    fn with(mut shards: RegionShards, more: ShardMember) -> RegionShards {
        shards.members.push(more);
        shards.members.sort_by(|a, b| a.agent.cmp(&b.agent));
        RegionShards::new(shards.region, shards.replicas, shards.members).unwrap()
    }

    fn key(salt: u64, number: u32) -> [u8; 32] {
        *Digest::of(format!("{salt} {number}").as_bytes()).as_bytes()
    }

    fn names(shards: &RegionShards, key: &[u8; 32]) -> Vec<String> {
        shards.homes(key).iter().map(|home| home.agent.to_string()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

        // Each key moves by itself with probability p = 1 / (N + 1), so of n keys p·n move, with a standard deviation
        // of √(p·(1 − p)·n). Of 100,000 keys and at most 25 shards a tenth above p·n is 6.3 of these: eight runs
        // exceed it by chance once in a billion.
        #[test]
        fn a_shard_that_comes_takes_its_share_of_the_keys_and_moves_no_other(
            prefix in "[a-z]{1,8}", count in 1..=24usize, salt in any::<u64>(),
        ) {
            let before = equal(&prefix, count, 1);
            let after = with(before.clone(), member("newcomer", 100));
            let mut moved = 0;
            for number in 0..KEYS {
                let key = key(salt, number);
                let (was, is) = (names(&before, &key), names(&after, &key));
                if was != is {
                    moved += 1;
                    prop_assert_eq!(is, ["eu/newcomer"], "a key moved between two that were there");
                }
            }
            let bound = f64::from(KEYS) * 1.1 / (count as f64 + 1.0);
            prop_assert!(f64::from(moved) <= bound, "{} of {} keys moved to one of {}", moved, KEYS, count + 1);
            prop_assert!(f64::from(moved) >= bound * 0.9 / 1.1, "and it is no idler: {}", moved);
        }

        #[test]
        fn a_shard_that_goes_loses_its_own_keys_only(
            prefix in "[a-z]{1,8}", count in 2..=12usize, replicas in 1..=3u32, salt in any::<u64>(), gone in any::<prop::sample::Index>(),
        ) {
            let before = equal(&prefix, count, replicas);
            let mut members = before.members.clone();
            let gone = members.remove(gone.index(count)).agent.to_string();
            let after = RegionShards::new(before.region.clone(), replicas, members).unwrap();
            for number in 0..5_000 {
                let key = key(salt, number);
                let (was, is) = (names(&before, &key), names(&after, &key));
                // The homes that stay keep their order; at most one comes, at the end.
                let kept: Vec<_> = was.iter().filter(|home| **home != gone).cloned().collect();
                prop_assert_eq!(&is[..kept.len()], &kept[..]);
                prop_assert_eq!(is.len(), was.len().min(count - 1));
                prop_assert!(was.contains(&gone) || was == is);
            }
        }

        #[test]
        fn homes_are_as_many_different_agents_as_there_can_be(
            count in 0..=6usize, replicas in 1..=REPLICAS_MAX, salt in any::<u64>(),
        ) {
            let shards = equal("s", count, replicas);
            for number in 0..200 {
                let key = key(salt, number);
                let homes = names(&shards, &key);
                prop_assert_eq!(homes.len(), count.min(replicas as usize));
                prop_assert_eq!(homes.iter().collect::<BTreeSet<_>>().len(), homes.len());
                for member in shards.members() {
                    let is_home = homes.contains(&member.agent.to_string());
                    prop_assert_eq!(shards.is_home(&member.agent, &key), is_home);
                }
            }
        }
    }

    fn loads(shards: &RegionShards) -> BTreeMap<String, u32> {
        let mut loads = BTreeMap::new();
        for number in 0..KEYS {
            for home in names(shards, &key(7, number)) {
                *loads.entry(home).or_default() += 1;
            }
        }
        loads
    }

    // The smallest share is 1 %, 1,000 keys of 100,000, with a standard deviation of 31: within 10 % is more than three
    // of these. The keys are always the same, so it holds or it does not.
    #[test]
    fn shards_win_keys_in_proportion_to_their_weights() {
        let weights = [("a", 1), ("b", 2), ("c", 7), ("d", 40), ("e", 50)];
        let loads = loads(&region(1, &weights));
        for (name, weight) in weights {
            let load = f64::from(loads[&format!("eu/{name}")]);
            let share = f64::from(KEYS) * f64::from(weight) / 100.0;
            let tolerance = if weight < 5 { 0.1 } else { 0.03 };
            assert!((load / share - 1.0).abs() < tolerance, "{name}: {load} for {share}");
        }
    }

    #[test]
    fn only_what_weights_say_of_one_another_counts() {
        let shards = |scale: u32| region(2, &[("a", scale), ("b", 3 * scale), ("c", 5 * scale)]);
        for number in 0..2_000 {
            let key = key(3, number);
            assert_eq!(names(&shards(1), &key), names(&shards(13_107), &key));
        }
    }

    #[test]
    fn a_weight_that_changes_moves_keys_of_that_shard_only() {
        let before = region(1, &[("a", 10), ("b", 10), ("c", 10)]);
        for (weight, is_more) in [(20, true), (5, false)] {
            let after = region(1, &[("a", weight), ("b", 10), ("c", 10)]);
            for number in 0..5_000 {
                let key = key(5, number);
                let (was, is) = (names(&before, &key), names(&after, &key));
                let moved = if is_more { &is } else { &was };
                assert!(was == is || *moved == ["eu/a"], "{was:?} became {is:?}");
            }
        }
    }

    #[test]
    fn two_replicas_share_the_load_of_equal_shards_evenly() {
        for (name, load) in loads(&equal("s", 8, 2)) {
            let share = f64::from(KEYS) * 2.0 / 8.0;
            assert!((f64::from(load) / share - 1.0).abs() < 0.02, "{name}: {load}");
        }
    }

    /// Agents of every release and CPU must agree on these, for ever. When this fails, the code is wrong.
    #[test]
    fn keys_lie_where_they_have_always_lain() {
        let weights = [("a1", 100), ("a2", 100), ("b", 250), ("big", 300), ("c.small", 40), ("d", 64)];
        let shards = region(3, &weights);
        let homes = |key: &[u8; 32]| {
            shards.homes(key).iter().map(|home| home.agent.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        let placed = GOLDEN.map(|(word, _)| (word, homes(Digest::of(word.as_bytes()).as_bytes())));
        assert_eq!(placed, GOLDEN.map(|(word, homes)| (word, homes.to_owned())));
        assert_eq!(homes(&[0; 32]), "b big c.small");
        assert_eq!(homes(&[255; 32]), "a2 d big");
        let many: String = (0..10_000).map(|number| homes(&key(0, number)) + "\n").collect();
        assert_eq!(
            Digest::of(many.as_bytes()).to_hex(),
            "57df7fb9f49922fefb1e17773b412369f9a41c1450f3a53acce86cc65731902a"
        );
    }

    const GOLDEN: [(&str, &str); 8] = [
        ("", "big b a2"),
        ("meridian", "a2 big a1"),
        ("0", "a2 c.small big"),
        ("1", "big b c.small"),
        ("2", "big c.small a1"),
        ("3", "a2 b big"),
        ("go", "big a1 a2"),
        ("far and cold", "big b a1"),
    ];

    #[test]
    fn what_is_no_membership_is_refused() {
        let eu = || -> RegionName { "eu".parse().unwrap() };
        let new = |replicas, members: &[(&str, u32)]| {
            let members = members.iter().map(|(name, weight)| member(name, *weight)).collect();
            RegionShards::new(eu(), replicas, members)
        };
        assert!(new(1, &[("a", 1), ("b", WEIGHT_MAX)]).is_ok());
        assert!(matches!(new(0, &[]), Err(ShardsError::Replicas { .. })));
        assert!(matches!(new(REPLICAS_MAX + 1, &[]), Err(ShardsError::Replicas { .. })));
        assert!(matches!(new(1, &[("a", 0)]), Err(ShardsError::Weight { .. })));
        assert!(matches!(new(1, &[("a", WEIGHT_MAX + 1)]), Err(ShardsError::Weight { .. })));
        assert!(matches!(new(1, &[("b", 1), ("a", 1)]), Err(ShardsError::Order(_))));
        assert!(matches!(new(1, &[("a", 1), ("a", 2)]), Err(ShardsError::Order(_))));
        let foreign = RegionShards::new("us".parse().unwrap(), 1, vec![member("a", 1)]);
        assert!(matches!(foreign, Err(ShardsError::Region { .. })));
        let twice = vec![new(1, &[("a", 1)]).unwrap(), new(1, &[("b", 1)]).unwrap()];
        let shards = |regions| Shards::new(ShardEpoch::default(), regions, BTreeSet::new());
        assert!(matches!(shards(twice), Err(ShardsError::Order(_))));
        assert_eq!(shards(vec![equal("s", MEMBERS_MAX + 1, 1)]), Err(ShardsError::TooMany));
    }

    #[test]
    fn a_view_takes_what_is_newer_and_notices_that_it_is_behind() {
        let at = |leader, change| ShardEpoch { leader: Epoch(leader), change };
        let told = |leader, change, name| {
            let regions = vec![region(1, &[(name, 1)])];
            Arc::new(Shards::new(at(leader, change), regions, BTreeSet::new()).unwrap())
        };
        let mut view = ShardView::default();
        assert!(view.newest().is_none() && view.is_behind(at(1, 1)));
        assert!(view.take(told(2, 1, "a")));
        assert!(view.take(told(2, 2, "b")));
        for stale in [told(2, 2, "c"), told(2, 1, "c"), told(1, 9, "c")] {
            assert!(!view.take(stale));
        }
        let newest = view.newest().unwrap();
        assert!(newest.member(&"eu/b".parse().unwrap()).is_some());
        assert!(newest.member(&"eu/a".parse().unwrap()).is_none());
        assert!(view.is_behind(at(2, 3)) && view.is_behind(at(3, 1)) && !view.is_behind(at(2, 2)));
        assert!(view.take(told(3, 1, "a")), "a new leader counts anew");
        assert_eq!(view.epoch().to_string(), "3.1");
    }
}
