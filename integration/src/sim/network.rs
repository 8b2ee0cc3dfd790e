//! How long messages take, and which do not get through just now.

use std::collections::HashMap;

use crate::draws::Draws;

/// The usual way between each region's agents and the coordinator.
const ONE_WAY_MS: [u64; 3] = [90, 4, 45];
const AGENTS_PER_REGION: u8 = 4;

/// The way between the coordinator and one agent.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    up_closed_until: u64,
    down_closed_until: u64,
    slower: u64,
    slower_until: u64,
}

/// All ways.
#[derive(Debug)]
pub struct Network {
    ways: Vec<Way>,
    /// When the last message of a stream arrives, for each direction: a later one arrives later.
    last: HashMap<(u32, bool), u64>,
}

impl Network {
    /// Ways for so many agents.
    #[must_use]
    pub fn new(agents: usize) -> Self {
        Self { ways: vec![Way::default(); agents], last: HashMap::new() }
    }

    fn way(&self, agent: u8) -> Way {
        self.ways.get(usize::from(agent)).copied().unwrap_or_default()
    }

    /// How long a message takes.
    pub fn delay(&self, agent: u8, now: u64, draws: &mut Draws) -> u64 {
        let way = self.way(agent);
        let usual = ONE_WAY_MS[usize::from(agent / AGENTS_PER_REGION) % ONE_WAY_MS.len()];
        let slower = if now < way.slower_until { way.slower } else { 1 };
        // Now and then a packet is lost and sent again.
        let again = if draws.chance(10) { 200 + draws.below(2_000) } else { 0 };
        (usual + draws.below(usual + 2)) * slower + again
    }

    /// When the next message of a stream arrives.
    pub fn arrives(&mut self, link: u32, is_up: bool, agent: u8, now: u64, draws: &mut Draws) -> u64 {
        let at = now + self.delay(agent, now, draws);
        let last = self.last.entry((link, is_up)).or_default();
        *last = at.max(*last);
        *last
    }

    /// Until when nothing gets through; in the past when it does.
    #[must_use]
    pub fn closed_until(&self, agent: u8, is_up: bool) -> u64 {
        let way = self.way(agent);
        if is_up { way.up_closed_until } else { way.down_closed_until }
    }

    /// Lets nothing through.
    pub fn close(&mut self, agent: u8, up: bool, down: bool, until: u64) {
        if let Some(way) = self.ways.get_mut(usize::from(agent)) {
            if up {
                way.up_closed_until = way.up_closed_until.max(until);
            }
            if down {
                way.down_closed_until = way.down_closed_until.max(until);
            }
        }
    }

    /// Makes messages slower.
    pub fn slow(&mut self, agent: u8, times: u64, until: u64) {
        if let Some(way) = self.ways.get_mut(usize::from(agent)) {
            (way.slower, way.slower_until) = (times, until);
        }
    }

    /// A usual round trip, in microseconds.
    pub fn round_trip_us(&self, agent: u8, now: u64, draws: &mut Draws) -> u32 {
        let both = self.delay(agent, now, draws) + self.delay(agent, now, draws);
        u32::try_from(both.saturating_mul(1_000)).unwrap_or(u32::MAX)
    }
}
