//! How a story ends: what must be so when the trouble has been over for long.

use meridian_core::{
    id::BuildId,
    machine::{
        placement::reasons::WaitReason,
        record::{BuildRecord, BuildState, TaskState},
    },
};

use crate::sim::{audit::Rule, host::Host, world::World};

impl World {
    /// Whether every client was answered, and its build has ended or waits for what will never be.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let wishes = 0..u32::try_from(self.setup.wishes.len()).unwrap_or(u32::MAX);
        wishes.into_iter().all(|wish| {
            let build = self.ledger.promised(wish);
            build.is_some_and(|build| self.ledger.ended(build).is_some() || self.waits_for_good(wish, build))
        })
    }

    /// Whether a build rightly never ends: no agent that there is will ever match it and its client does not give it up, or
    /// all that it needs would leave a region that may send no more today. Then it must say so.
    fn waits_for_good(&self, wish: u32, build: &BuildId) -> bool {
        let Some(record) = self.ledger.reference().build(build) else { return false };
        let wanted = &self.setup.wishes[wish as usize];
        let is_hopeless = wanted.is_hopeless(&self.setup.agents) && !wanted.gives_up;
        let is_untouched = is_hopeless && record.tasks.iter().all(|task| task.state == TaskState::Queued);
        let mut machines = self.hosts.iter().filter_map(|host| host.coordinator.as_ref()).peekable();
        machines.peek().is_some()
            && machines.all(|coordinator| {
                let mut open = record.tasks.iter().filter(|task| !task.state.is_ended());
                open.all(|task| match coordinator.machine().wait_reason(&task.id) {
                    Some(WaitReason::NeverMatches { .. } | WaitReason::Away { .. } | WaitReason::NoAgent) => {
                        is_untouched
                    }
                    Some(WaitReason::Budget { .. }) => true,
                    _ => false,
                })
            })
    }

    pub(super) fn check_end(&mut self) {
        for wish in 0..u32::try_from(self.setup.wishes.len()).unwrap_or(u32::MAX) {
            let Some(build) = self.ledger.promised(wish) else {
                self.findings.add(Rule::Ends, format!("client {wish} was never answered"));
                continue;
            };
            let is_right = self.ledger.ended(build).is_some() || self.waits_for_good(wish, build);
            let record = self.ledger.reference().build(build);
            let says = || self.hosts.iter().filter_map(|host| said(host, record?)).collect::<Vec<_>>();
            let text = || format!("build {build} of client {wish} never ends: {:?}", says());
            self.findings.expect(is_right, Rule::Ends, text);
        }
        self.check_replay();
        for agent in &self.agents {
            let held = agent.held();
            self.findings.expect(held.is_empty(), Rule::OneHolder, || {
                format!("all has ended, and {} still holds {held:?}", agent.id())
            });
        }
        let open = |build: &BuildRecord| build.state == BuildState::Running;
        let running = self.ledger.reference().builds().filter(|build| open(build));
        let waiting = running.flat_map(|build| &build.tasks).filter(|task| !task.state.is_ended()).count();
        for coordinator in self.hosts.iter().filter_map(|host| host.coordinator.as_ref()) {
            let counts = coordinator.machine().counts();
            let left = (counts.tasks_queued, counts.tasks_placed + counts.tasks_leased);
            self.findings.expect(left == (waiting as u64, 0), Rule::Capacity, || {
                format!("all has ended but {waiting} that wait, and the coordinator counts {counts:?}")
            });
        }
    }
}

/// What a host says of a build that has not ended.
fn said(host: &Host, build: &BuildRecord) -> Option<Vec<String>> {
    let machine = host.coordinator.as_ref()?.machine();
    let say = |task: &meridian_core::machine::record::TaskRecord| {
        format!("{}: {:?}, {:?}", task.id, task.state, machine.wait_reason(&task.id))
    };
    Some(build.tasks.iter().filter(|task| !task.state.is_ended()).map(say).collect())
}
