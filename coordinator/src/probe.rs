//! Round trip and clock offset of one agent, by four time stamps.
//!
//! With t0 our sending, t1 the agent's receiving, t2 its answering and t3 our receiving (RFC 5905, section 8):
//! round trip = (t3 − t0) − (t2 − t1), offset = ((t1 − t0) + (t2 − t3)) / 2. Of the last samples the one with
//! the smallest round trip is taken, since queueing only ever adds to it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use meridian_core::machine::input::Observation;
use meridian_proto::v1;

/// Samples of which the best is taken.
const SAMPLES: usize = 16;
/// Probes that may be unanswered at once; older ones count as lost.
const UNANSWERED_MAX: usize = 8;

#[derive(Debug)]
struct Sent {
    number: u64,
    at: Instant,
    wall_us: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    rtt_us: u64,
    offset_us: i64,
}

/// The measurements of one agent's stream.
#[derive(Debug, Default)]
pub(crate) struct Prober {
    next: u64,
    sent: VecDeque<Sent>,
    samples: VecDeque<Sample>,
    latest: Observation,
}

impl Prober {
    /// The next probe to send, at wall-clock time `now_us`.
    pub(crate) fn next(&mut self, now_us: u64) -> v1::CoordinatorMessage {
        self.next += 1;
        if self.sent.len() == UNANSWERED_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { number: self.next, at: Instant::now(), wall_us: now_us });
        v1::CoordinatorMessage {
            epoch: 0,
            sequence: 0,
            message: Some(v1::coordinator_message::Message::Probe(v1::Probe { number: self.next })),
        }
    }

    /// Takes an answer in. `None` when it answers no probe that is still waited for.
    pub(crate) fn echoed(&mut self, echo: &v1::Echo, now_us: u64) -> Option<Observation> {
        let position = self.sent.iter().position(|sent| sent.number == echo.number)?;
        let sent = self.sent.remove(position)?;
        let held = Duration::from_micros(echo.sent_wall_us.saturating_sub(echo.received_wall_us));
        self.take(sent.at.elapsed().saturating_sub(held), sent.wall_us, echo, now_us);
        Some(self.latest.clone())
    }

    fn take(&mut self, rtt: Duration, sent_us: u64, echo: &v1::Echo, now_us: u64) {
        let offset = (difference(echo.received_wall_us, sent_us) + difference(echo.sent_wall_us, now_us)) / 2;
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX),
            offset_us: i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX }),
        });
        if let Some(best) = self.samples.iter().min_by_key(|sample| sample.rtt_us) {
            self.latest.rtt_us = Some(best.rtt_us);
            self.latest.clock_offset_us = Some(best.offset_us);
        }
    }

    /// Takes in the figures that the agent alone knows.
    pub(crate) fn observed(&mut self, figures: &Observation) -> Observation {
        self.latest.disk_free = figures.disk_free;
        self.latest.cache_hits = figures.cache_hits;
        self.latest.cache_lookups = figures.cache_lookups;
        self.latest.residency.clone_from(&figures.residency);
        self.latest.shard = figures.shard;
        self.latest.sidecars.clone_from(&figures.sidecars);
        self.latest.cache = figures.cache;
        // These are told once, when they are new.
        let (sketch, peers) = (figures.sketch.clone(), figures.peers.clone());
        Observation { sketch, peers, ..self.latest.clone() }
    }
}

fn difference(a: u64, b: u64) -> i128 {
    i128::from(a) - i128::from(b)
}

#[cfg(test)]
mod tests {
    use meridian_core::{digest::Digest, machine::input::ShardFigures, quantity::ByteCount};

    use super::*;

    #[test]
    fn the_sample_with_the_smallest_round_trip_gives_both_figures() {
        let mut prober = Prober::default();
        // The agent's clock is 1 s ahead. 40 ms there and back, of which the agent held the probe for 10 ms.
        let echo = v1::Echo { number: 1, received_wall_us: 1_015_000, sent_wall_us: 1_025_000 };
        prober.take(Duration::from_millis(30), 0, &echo, 40_000);
        assert_eq!(prober.latest.rtt_us, Some(30_000));
        assert_eq!(prober.latest.clock_offset_us, Some(1_000_000));
        // A slow sample, all of whose delay is on the way there, would spoil the offset.
        let echo = v1::Echo { number: 2, received_wall_us: 1_500_000, sent_wall_us: 1_500_000 };
        prober.take(Duration::from_millis(500), 0, &echo, 500_000);
        assert_eq!(prober.latest.clock_offset_us, Some(1_000_000));
    }

    #[test]
    fn the_agents_own_figures_stand_beside_the_measured_ones() {
        let mut prober = Prober::default();
        let echo = v1::Echo { number: 1, received_wall_us: 15_000, sent_wall_us: 25_000 };
        prober.take(Duration::from_millis(30), 0, &echo, 40_000);
        let figures = Observation {
            disk_free: Some(ByteCount(1)),
            cache_hits: 2,
            cache_lookups: 3,
            residency: vec![Digest::of(b"m")],
            shard: Some(ShardFigures { held: ByteCount(4), capacity: ByteCount(5) }),
            ..Observation::default()
        };
        let told = prober.observed(&figures);
        assert_eq!(told, Observation { rtt_us: Some(30_000), clock_offset_us: Some(0), ..figures });
    }

    #[test]
    fn an_answer_to_no_probe_is_ignored_and_unanswered_probes_are_bounded() {
        let mut prober = Prober::default();
        for _ in 0..100 {
            prober.next(0);
        }
        assert_eq!(prober.sent.len(), UNANSWERED_MAX);
        let echo = |number| v1::Echo { number, received_wall_us: 0, sent_wall_us: 0 };
        assert!(prober.echoed(&echo(1), 0).is_none());
        assert!(prober.echoed(&echo(100), 0).is_some());
        assert!(prober.echoed(&echo(100), 0).is_none());
        prober.echoed(&v1::Echo { number: 99, received_wall_us: u64::MAX, sent_wall_us: 0 }, u64::MAX);
    }
}
