//! Which host leads, appends and ticks when.

use crate::sim::{
    happening::Happening,
    host::Coordinator,
    schedule::{Entry, Schedule},
    world::HOSTS,
};

const SNAPSHOT_EVERY: u64 = 1_500;

impl Schedule {
    pub(super) fn plan_host(&mut self, now: u64, host: u8) {
        let number = usize::from(host);
        let Some(coordinator) = self.world.coordinator(host) else { return };
        let undurable = coordinator.undurable();
        let deadline = self.world.host(host).and_then(|h| coordinator.deadline_in(h.now(now)));
        if undurable > 0 && !self.commits[number] {
            self.commits[number] = true;
            let takes = if self.draws.chance(20) { self.draws.below(500) } else { self.draws.below(6) };
            self.put(now + 1 + takes, Entry::Commit(host, undurable));
        }
        if let Some(within) = deadline {
            let at = now + within + self.draws.below(3);
            if at < self.ticks[number] {
                self.ticks[number] = at;
                self.put(at, Entry::Tick(host));
            }
        }
    }

    /// Whether a host can do something now; if it sleeps, the entry waits until it wakes up.
    pub(super) fn is_awake(&mut self, now: u64, host: u8, entry: Entry) -> bool {
        let until = self.asleep_until[usize::from(host)];
        if now < until {
            self.put(until, entry);
        }
        now >= until
    }

    /// A host on which a coordinator runs and does not sleep; one of them when there are two.
    pub(super) fn leader(&mut self, now: u64) -> Option<u8> {
        let awake: Vec<u8> = (0..HOSTS)
            .filter(|host| {
                self.world.coordinator(*host).is_some() && now >= self.asleep_until[usize::from(*host)]
            })
            .collect();
        let one = usize::try_from(self.draws.below(awake.len() as u64)).ok()?;
        awake.get(one).copied()
    }

    pub(super) fn take_host(&mut self, now: u64, entry: Entry) {
        match entry {
            Entry::Start { host, even_if_led } => {
                let is_led = self.leader(now).is_some();
                let is_free = self.world.coordinator(host).is_none();
                if is_free && (!is_led || even_if_led) {
                    self.happen(now, Happening::Start { host });
                } else if !is_led {
                    let other = (host + 1) % HOSTS;
                    self.put(now + 1_000, Entry::Start { host: other, even_if_led });
                }
            }
            Entry::Stop { host, process }
                if self.world.host(host).is_some_and(|host| host.process == process) =>
            {
                self.happen(now, Happening::Kill { host, appends: false, performs: 0 });
            }
            Entry::Commit(host, steps) => {
                if !self.is_awake(now, host, entry) {
                    return;
                }
                self.commits[usize::from(host)] = false;
                if self.world.coordinator(host).is_some_and(|c| c.undurable() > 0) {
                    self.happen(now, Happening::Commit { host, steps });
                }
                let is_due = |c: &Coordinator| c.since_snapshot() > SNAPSHOT_EVERY && c.undurable() == 0;
                if self.world.coordinator(host).is_some_and(is_due) {
                    self.happen(now, Happening::Snapshot { host });
                }
            }
            Entry::Tick(host) => {
                if !self.is_awake(now, host, entry) {
                    return;
                }
                self.ticks[usize::from(host)] = u64::MAX;
                let reading = self.world.host(host).map(|host| host.now(now));
                let is_due = reading.is_some_and(|reading| {
                    self.world.coordinator(host).and_then(|c| c.deadline_in(reading)) == Some(0)
                });
                if is_due {
                    self.happen(now, Happening::Tick { host });
                } else {
                    self.plan_host(now, host);
                }
            }
            _ => {}
        }
    }
}
