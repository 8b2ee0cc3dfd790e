//! What people ask of a coordinator: clients for their builds, and an administrator for the agents' upkeep.

use meridian_core::{
    id::{IdempotencyKey, ProjectId, RequestId},
    machine::{
        effect::{Refusal, Reply},
        input::{Input, Upkeep},
    },
    quantity::Millis,
    requester::Requester,
    schedule::delivery::{ClientWay, ClientWays},
};

use crate::sim::{
    audit::Rule,
    happening::Care,
    host::Asked,
    setup::REGIONS,
    world::{News, World},
};

fn requester(project: &ProjectId) -> Requester {
    let name = format!("spiffe://sim/team/{}/member/ci", project.team);
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// How far everything is from the client of a wish: three of four have measured it, and each of those is beside one of the
/// regions.
fn ways_of(wish: u32) -> Option<Box<ClientWays>> {
    let beside = (wish % 4) as usize;
    REGIONS.get(beside)?;
    let way = |rtt_us| ClientWay { rtt_us, bytes_per_s: None };
    let regions = REGIONS.iter().enumerate().filter_map(|(number, region)| {
        Some((region.parse().ok()?, way(if number == beside { 2_000 } else { 180_000 })))
    });
    Some(Box::new(ClientWays { coordinator: Some(way(120_000)), regions: regions.collect() }))
}

fn administrator() -> Requester {
    "spiffe://sim/admin".parse().unwrap_or_else(|error| panic!("{error}"))
}

impl World {
    pub(super) fn ask(&mut self, number: u8, wish: u32, heard: bool) {
        let Some(wanted) = self.setup.wishes.get(wish as usize) else { return };
        let (spec, project) = (Box::new(wanted.spec(wish)), wanted.project());
        let Ok(key) = IdempotencyKey::new(&format!("wish-{wish}")) else { return };
        let requester = requester(&project);
        self.request(number, Asked::Build { wish, heard }, |request| Input::Submit {
            request,
            project,
            requester,
            key,
            spec,
            traceparent: None,
            ways: ways_of(wish),
        });
    }

    pub(super) fn cancel(&mut self, number: u8, wish: u32) {
        let Some(build) = self.ledger.promised(wish).cloned() else { return };
        let by = requester(&build.project);
        self.request(number, Asked::Cancel { wish }, |request| Input::Cancel { request, build, by });
    }

    /// An administrator does something about an agent. The reason has the number of it, by which it is known again.
    pub(super) fn upkeep(&mut self, host: u8, agent: u8, number: u32, care: Care) {
        let Some(agent) = self.agents.get(usize::from(agent)).map(|agent| agent.id().clone()) else { return };
        let Some(now) = self.hosts.get(usize::from(host)).map(|host| host.now(self.now)) else { return };
        let why = format!("no. {number}");
        let upkeep = match care {
            Care::Cordon => Upkeep::Cordon { why },
            Care::Drain { grace_ms } => Upkeep::Drain { why, grace: grace_ms.map(Millis) },
            Care::Uncordon => Upkeep::Uncordon,
            Care::Maintain { from_in_ms, lasts_ms } => {
                let from = now.wall.after(Millis(from_in_ms));
                Upkeep::Maintain { from, until: from.after(Millis(lasts_ms)), why }
            }
            Care::EndMaintenance => Upkeep::EndMaintenance { from: None },
        };
        let by = administrator();
        self.request(host, Asked::Upkeep { number, care }, |request| Input::Upkeep {
            request,
            agent,
            by,
            upkeep,
        });
    }

    fn request(&mut self, number: u8, asked: Asked, input: impl FnOnce(RequestId) -> Input) {
        let Some(coordinator) =
            self.hosts.get_mut(usize::from(number)).and_then(|host| host.coordinator.as_mut())
        else {
            return;
        };
        let request = coordinator.open_request(asked);
        self.tell(number, input(request));
    }

    /// Somebody is answered.
    pub(super) fn answer(&mut self, asked: Asked, reply: Reply) {
        let findings = &mut self.findings;
        match (asked, reply) {
            (Asked::Build { wish, heard }, Reply::Submitted { build }) => {
                if heard {
                    self.ledger.note_promised(wish, &build, findings);
                    self.news.push(News::Answered(wish));
                }
            }
            (Asked::Build { wish, .. }, Reply::Refused(Refusal::QueueFull { .. })) => {
                self.news.push(News::Refused(wish));
            }
            (Asked::Cancel { wish }, Reply::Cancelled { changed: true }) => {
                if let Some(build) = self.ledger.promised(wish).cloned() {
                    self.ledger.note_cancelled(&build, findings);
                }
            }
            // A build that ended long ago is forgotten, and cannot be given up any more.
            (
                Asked::Cancel { .. },
                Reply::Cancelled { changed: false } | Reply::Refused(Refusal::UnknownBuild { .. }),
            ) => {}
            (Asked::Upkeep { number, care }, Reply::UpkeepDone { changed, .. }) => {
                let is_kept = changed > 0 && !care.lets_in();
                self.ledger.note_upkeep(number, is_kept, findings);
            }
            (asked, other) => findings.add(Rule::ToldStays, format!("{asked:?} was answered {other:?}")),
        }
    }
}
