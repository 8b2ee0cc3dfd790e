//! How far the fleet's regions are from here, so that a build is made where its artifacts are soonest at hand.
//!
//! Nobody but the client can measure that. It asks the coordinator which regions there are, makes a connection to an agent
//! of each and to the coordinator itself, all at once, and submits with what it found. **A build is hardly held up for it**: it
//! takes one question, two seconds at most, and the longest of the ways, one second at most; what is measured is kept for ten
//! minutes for each team, since the teams of a fleet may build in different regions; nothing is measured where there are not two
//! regions to choose from, and a region that has not answered by the time in which the coordinator answered twice is none to
//! fetch from, since the coordinator has everything too.
//!
//! What a way carries is learned from the artifacts that came over it. Everything here may come to nothing; then the fleet is
//! told nothing and builds as it would for anybody.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use meridian_core::{
    cache::peer_address::PeerAddress,
    id::{AgentId, ProjectId, RegionName, TeamName},
    quantity::ByteCount,
    schedule::{
        delivery::{ClientWay, ClientWays, DELIVERY_ROUNDS, REGIONS_MAX},
        priors,
    },
};
use meridian_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{command::print, fleet::select::Fleet};

/// How long the question which regions there are may take. The connection that it makes is the one that submits.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long measuring may take in all.
const MEASURED_WITHIN: Duration = Duration::from_secs(1);
/// Nobody is given up sooner than this: where all are near it is time enough, and no time for a person.
const MEASURED_WITHIN_MIN: Duration = Duration::from_millis(50);
/// For how long measurements are used, in milliseconds: whoever takes a train is somewhere else then.
const KEPT_MS: u64 = 10 * 60_000;
/// For how long what a way carried is believed.
const CARRIED_KEPT_MS: u64 = 24 * 60 * 60_000;
/// What is longer is no file of ours.
const KEPT_BYTES_MAX: u64 = 1 << 20;
/// What is less than this says more of round trips than of what a way carries.
const CARRIED_BYTES_MIN: u64 = 1 << 20;
/// For how long it counts that no region answered or that there was none to choose, in milliseconds: agents come and go.
const UNREACHED_KEPT_MS: u64 = 60_000;
/// No way carries more in a second.
const CARRIED_BYTES_MAX: u64 = 100_000_000_000;
/// The measurements of more teams than these are not kept.
const TEAMS_MAX: usize = 16;

/// Artifacts that came from an agent of a region, or from the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Which; none for the coordinator.
    pub region: Option<RegionName>,
    /// How large they are, not compressed.
    pub bytes: u64,
    /// How long it took, connection included.
    pub took: Duration,
}

/// What is kept beside the fleet's identity. The coordinator's name is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Kept {
    /// Whose ways these are: under another address it may be elsewhere.
    coordinator: String,
    /// By the team that asked.
    measured: BTreeMap<String, KeptMeasured>,
    carried: BTreeMap<String, KeptCarried>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct KeptMeasured {
    at_ms: u64,
    rtt_us: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct KeptCarried {
    bytes_per_s: u64,
    at_ms: u64,
}

/// The ways to a fleet's regions and its coordinator, measured now or a moment ago; nothing where there is nothing to choose,
/// or they cannot be measured.
pub async fn of(fleet: &Fleet, project: &ProjectId) -> Option<ClientWays> {
    let file = fleet.ways_file()?;
    let (mut kept, now_ms) = (Kept::read(&file, fleet.client.address()), print::now_ms());
    if !kept.is_fresh(&project.team, now_ms) {
        let measured = measure(fleet, project).await?;
        // Another command may have learned something meanwhile.
        kept = Kept::read(&file, fleet.client.address());
        kept.take(&project.team, measured, now_ms);
        kept.write(&file);
    }
    kept.ways(&project.team, now_ms)
}

/// Learns from artifacts that came what the ways carry.
pub fn learn(fleet: &Fleet, carried: &[Carried]) {
    let Some(file) = fleet.ways_file() else { return };
    let mut kept = Kept::read(&file, fleet.client.address());
    let before = kept.clone();
    carried.iter().for_each(|carried| kept.learn(carried, print::now_ms()));
    if kept != before {
        kept.write(&file);
    }
}

/// Measures the round trips in microseconds, by the regions' names, the coordinator's being empty; nothing at all where there are
/// no regions to choose from. None when there is no answer which regions there are: an older coordinator does not know the question.
async fn measure(fleet: &Fleet, project: &ProjectId) -> Option<BTreeMap<String, u64>> {
    let question = v1::RegionsRequest { project: project.to_string() };
    let mut builds = fleet.client.builds();
    let answer = timeout(ANSWER_WITHIN, builds.regions(question)).await.ok()?.ok()?.into_inner();
    if answer.regions.len() < 2 {
        return Some(BTreeMap::new());
    }
    let began = Instant::now();
    let mut measuring = JoinSet::new();
    for agent in answer.regions.iter().take(REGIONS_MAX).flat_map(|region| &region.agents) {
        let (Ok(id), Ok(address)) = (agent.agent.parse::<AgentId>(), agent.address.parse::<PeerAddress>())
        else {
            continue;
        };
        let Ok(round_trip) = fleet.client.round_trip_to(&id, address) else { continue };
        measuring.spawn(async move { Some((id.region.to_string(), round_trip.await.ok()?)) });
    }
    let round_trip = fleet.client.round_trip();
    measuring.spawn(async move { Some((String::new(), round_trip.await.ok()?)) });
    Some(gather(measuring, began).await)
}

/// The shortest round trip of each, of those that come in time.
async fn gather(mut measuring: JoinSet<Option<(String, Duration)>>, began: Instant) -> BTreeMap<String, u64> {
    let mut rtt_us: BTreeMap<String, u64> = BTreeMap::new();
    let mut until = began + MEASURED_WITHIN;
    loop {
        let measured = tokio::select! {
            measured = measuring.join_next() => measured,
            () = sleep_until(until) => return rtt_us,
        };
        let Some(measured) = measured else { return rtt_us };
        let Ok(Some((region, took))) = measured else { continue };
        if region.is_empty() {
            until = until.min(began + (began.elapsed() * 2).max(MEASURED_WITHIN_MIN));
        }
        let us = u64::try_from(took.min(MEASURED_WITHIN).as_micros()).unwrap_or(u64::MAX).max(1);
        rtt_us.entry(region).and_modify(|least| *least = us.min(*least)).or_insert(us);
    }
}

impl Kept {
    /// What is kept of the ways from here to a coordinator; nothing when it is of another one, or damaged.
    fn read(file: &Path, coordinator: &str) -> Self {
        let read = || -> io::Result<Self> {
            // A pipe of that name would be waited for.
            if !fs::metadata(file)?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            let mut bytes = Vec::new();
            fs::File::open(file)?.take(KEPT_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        let kept = read().ok();
        let none = || Self { coordinator: coordinator.to_owned(), ..Self::default() };
        kept.filter(|kept| kept.coordinator == coordinator && kept.is_sound()).unwrap_or_else(none)
    }

    /// Whether all of it can have been measured: nothing else comes from here.
    fn is_sound(&self) -> bool {
        let is_name = |name: &str| name.is_empty() || name.parse::<RegionName>().is_ok();
        let rtt_max_us = u64::try_from(MEASURED_WITHIN.as_micros()).unwrap_or(u64::MAX);
        let mut rtts = self.measured.values().flat_map(|measured| &measured.rtt_us);
        rtts.all(|(name, us)| is_name(name) && (1..=rtt_max_us).contains(us))
            && self.carried.iter().all(|(name, carried)| {
                is_name(name) && (1..=CARRIED_BYTES_MAX).contains(&carried.bytes_per_s)
            })
    }

    /// Keeps it, in one rename and for this user alone. Whoever cannot measures again.
    fn write(&self, file: &Path) {
        let written = || -> io::Result<()> {
            let beside = file.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
            let mut partial = tempfile::NamedTempFile::new_in(beside)?;
            partial.write_all(&serde_json::to_vec(self)?)?;
            partial.persist(file)?;
            Ok(())
        };
        if let Err(error) = written() {
            tracing::debug!(%error, file = %file.display(), "how far the fleet is could not be kept");
        }
    }

    /// Takes a team's measurement in.
    fn take(&mut self, team: &TeamName, rtt_us: BTreeMap<String, u64>, now_ms: u64) {
        self.measured.insert(team.to_string(), KeptMeasured { at_ms: now_ms, rtt_us });
        while self.measured.len() > TEAMS_MAX {
            let oldest = self.measured.iter().min_by_key(|(_, measured)| measured.at_ms);
            let Some(oldest) = oldest.map(|(team, _)| team.clone()) else { return };
            self.measured.remove(&oldest);
        }
    }

    /// Whether it need not be measured again. What leaves nothing to choose says something of that moment alone. A clock that was
    /// set back makes nothing last longer.
    fn is_fresh(&self, team: &TeamName, now_ms: u64) -> bool {
        let Some(measured) = self.measured.get(team.as_str()) else { return false };
        let is_choice = measured.rtt_us.keys().any(|name| !name.is_empty());
        let kept_ms = if is_choice { KEPT_MS } else { UNREACHED_KEPT_MS };
        now_ms.checked_sub(measured.at_ms).is_some_and(|age| age < kept_ms)
    }

    fn ways(&self, team: &TeamName, now_ms: u64) -> Option<ClientWays> {
        let rtt_us = &self.measured.get(team.as_str())?.rtt_us;
        let carried = |name: &str| {
            let carried = self.carried.get(name).filter(|carried| carried.is_believed(now_ms))?;
            Some(ByteCount(carried.bytes_per_s))
        };
        let way = |name: &str, rtt_us: u64| ClientWay { rtt_us, bytes_per_s: carried(name) };
        let regions = rtt_us.iter().filter_map(|(name, us)| Some((name.parse().ok()?, way(name, *us))));
        let regions: BTreeMap<RegionName, ClientWay> = regions.take(REGIONS_MAX).collect();
        if regions.is_empty() {
            return None;
        }
        Some(ClientWays { coordinator: rtt_us.get("").map(|us| way("", *us)), regions })
    }

    /// The round trip to a region or to the coordinator, as last measured for any team.
    fn rtt_us(&self, name: &str) -> Option<u64> {
        let measured = self.measured.values().filter(|measured| measured.rtt_us.contains_key(name));
        measured.max_by_key(|measured| measured.at_ms)?.rtt_us.get(name).copied()
    }

    fn learn(&mut self, carried: &Carried, now_ms: u64) {
        let name = carried.region.as_ref().map_or_else(String::new, ToString::to_string);
        let wire = carried.bytes / 1_000 * priors::WIRE_PERMILLE;
        if wire < CARRIED_BYTES_MIN || self.carried.len() > REGIONS_MAX && !self.carried.contains_key(&name) {
            return;
        }
        let took_us = u64::try_from(carried.took.as_micros()).unwrap_or(u64::MAX).max(1);
        let rounds_us = self.rtt_us(&name).map_or(0, |rtt_us| rtt_us.saturating_mul(DELIVERY_ROUNDS));
        let transfer_us = took_us.saturating_sub(rounds_us).max(took_us / 4).max(1);
        let fresh = u64::try_from(u128::from(wire) * 1_000_000 / u128::from(transfer_us)).unwrap_or(u64::MAX);
        let before = self.carried.get(&name).filter(|before| before.is_believed(now_ms));
        // What one transfer got says little, so a new one weighs a quarter.
        let bytes_per_s = before.map_or(fresh, |before| before.bytes_per_s / 4 * 3 + fresh / 4);
        let bytes_per_s = bytes_per_s.clamp(1, CARRIED_BYTES_MAX);
        self.carried.insert(name, KeptCarried { bytes_per_s, at_ms: now_ms });
    }
}

impl KeptCarried {
    fn is_believed(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.at_ms).is_some_and(|age| age < CARRIED_KEPT_MS)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    const HERE: &str = "build.example:7443";

    fn team() -> TeamName {
        "acme".parse().unwrap()
    }

    fn rtts(rtt_us: &[(&str, u64)]) -> BTreeMap<String, u64> {
        rtt_us.iter().map(|(name, us)| ((*name).to_owned(), *us)).collect()
    }

    fn kept() -> Kept {
        let rtt_us = rtts(&[("", 90_000), ("eu", 4_000), ("us", 150_000)]);
        Kept {
            coordinator: HERE.to_owned(),
            measured: [("acme".to_owned(), KeptMeasured { at_ms: 1_000_000, rtt_us })].into(),
            carried: BTreeMap::new(),
        }
    }

    fn came(region: &str, mib: u64, took_ms: u64) -> Carried {
        let took = Duration::from_millis(took_ms);
        Carried { region: region.parse().ok(), bytes: mib << 20, took }
    }

    #[test]
    fn what_was_measured_is_kept_for_ten_minutes_for_this_coordinator_and_team_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ways.json");
        assert!(!Kept::read(&file, HERE).is_fresh(&team(), 1_000_000), "nothing was measured");
        kept().write(&file);
        let read = Kept::read(&file, HERE);
        assert_eq!(read, kept());
        let is_fresh = |now_ms| read.is_fresh(&team(), now_ms);
        assert!(is_fresh(1_000_000) && is_fresh(1_000_000 + KEPT_MS - 1));
        assert!(!is_fresh(1_000_000 + KEPT_MS), "too old");
        assert!(!is_fresh(999_999), "the clock was set back");
        let other = "other".parse().unwrap();
        assert!(!read.is_fresh(&other, 1_000_000), "another team may build elsewhere");
        assert_eq!((read.ways(&other, 1_000_000), read.ways(&team(), 1_000_000).is_some()), (None, true));
        assert_eq!(Kept::read(&file, "other.example:1").ways(&team(), 1_000_000), None);
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing else is left");
    }

    #[test]
    fn a_damaged_file_is_none_and_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ways.json");
        let measured = |rtt: &str| {
            format!(
                r#"{{"coordinator":"{HERE}","measured":{{"acme":{{"at_ms":1,"rtt_us":{{{rtt}}}}}}},"carried":{{}}}}"#
            )
        };
        let carried = |bytes: &str| {
            format!(
                r#"{{"coordinator":"{HERE}","measured":{{}},"carried":{{"eu":{{"bytes_per_s":{bytes},"at_ms":1}}}}}}"#
            )
        };
        fs::write(&file, measured(r#""eu":1000000"#)).unwrap();
        assert_eq!(Kept::read(&file, HERE).measured.len(), 1, "that is sound");
        fs::write(&file, carried("100000000000")).unwrap();
        assert_eq!(Kept::read(&file, HERE).carried.len(), 1, "that is sound");
        let damaged = ["", "{", "[1]", r#"{"coordinator":"build.example:7443","measured":-1}"#];
        let absurd = [r#""eu":0"#, r#""eu":1000001"#, r#""No Region":5"#, r#""eu":-1"#].map(measured);
        let absurd = absurd.into_iter().chain(["0", "100000000001", "1e9"].map(carried));
        for damaged in damaged.map(str::to_owned).into_iter().chain(absurd) {
            fs::write(&file, &damaged).unwrap();
            let read = Kept::read(&file, HERE);
            assert_eq!(read, Kept { coordinator: HERE.to_owned(), ..Kept::default() }, "{damaged:?}");
            kept().write(&file);
            assert_eq!(Kept::read(&file, HERE), kept());
        }
    }

    #[test]
    fn a_pipe_in_place_of_the_file_is_waited_for_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ways.json");
        mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(Kept::read(&file, HERE).measured, BTreeMap::new());
    }

    #[test]
    fn that_there_is_nothing_to_choose_is_believed_for_a_minute_and_ways_for_ten() {
        let now_ms = 20 * KEPT_MS;
        let taken = |rtt_us: &[(&str, u64)]| {
            let mut kept = kept();
            kept.take(&team(), rtts(rtt_us), now_ms);
            kept
        };
        for brief in [taken(&[("", 90_000)]), taken(&[])] {
            assert!(brief.is_fresh(&team(), now_ms + UNREACHED_KEPT_MS - 1), "{brief:?}");
            assert!(!brief.is_fresh(&team(), now_ms + UNREACHED_KEPT_MS), "{brief:?}");
            assert_eq!(brief.ways(&team(), now_ms), None);
        }
        let lasting = taken(&[("", 90_000), ("eu", 1_000)]);
        assert!(lasting.is_fresh(&team(), now_ms + KEPT_MS - 1), "{lasting:?}");
    }

    #[test]
    fn of_many_teams_those_measured_last_are_kept() {
        let mut kept = Kept::default();
        for number in 0..40 {
            let team = format!("team-{number}").parse().unwrap();
            kept.take(&team, rtts(&[("eu", 1_000 + number)]), KEPT_MS + number);
        }
        assert_eq!(kept.measured.len(), TEAMS_MAX);
        assert!(kept.is_fresh(&"team-39".parse().unwrap(), KEPT_MS + 40));
        assert_eq!(kept.rtt_us("eu"), Some(1_039), "the newest of all teams");
    }

    #[test]
    fn what_came_says_what_a_way_carries_and_little_says_nothing() {
        let mut kept = kept();
        kept.learn(&came("eu", 2, 1_000), 5);
        assert!(kept.carried.is_empty(), "that was not much");
        // 100 MiB are 35 MiB on the wire; the round trips are not the way's width.
        kept.learn(&came("eu", 100, 1_016), 5);
        let learned = kept.carried["eu"].bytes_per_s;
        assert!(learned.abs_diff(35 << 20) < 1 << 19, "{learned}");
        kept.learn(&came("eu", 100, 4_016), 6);
        let slower = kept.carried["eu"].bytes_per_s;
        assert!(slower < learned && slower > learned / 4 * 3, "{slower} after {learned}");
        kept.learn(&came("", 100, 500), 6);
        let ways = kept.ways(&team(), 7).unwrap();
        assert_eq!(ways.regions[&"eu".parse().unwrap()].bytes_per_s, Some(ByteCount(slower)));
        assert_eq!(ways.regions[&"us".parse().unwrap()].bytes_per_s, None);
        assert!(ways.coordinator.unwrap().bytes_per_s.is_some());
        let later = kept.ways(&team(), 6 + CARRIED_KEPT_MS).unwrap();
        assert_eq!(later.regions[&"eu".parse().unwrap()].bytes_per_s, None, "that is long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_too_late_is_left_out_and_a_near_coordinator_makes_late_early() {
        let answer = |name: &'static str, after_ms: u64, took_ms: u64| async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            Some((name.to_owned(), Duration::from_millis(took_ms)))
        };
        let began = Instant::now();
        let mut measuring = JoinSet::new();
        for (name, after_ms, took_ms) in [("eu", 20, 9), ("eu", 30, 7), ("us", 700, 300), ("sa", 1_200, 500)]
        {
            measuring.spawn(answer(name, after_ms, took_ms));
        }
        measuring.spawn(async { None });
        let measured = gather(measuring, began).await;
        let wanted = [("eu".to_owned(), 7_000), ("us".to_owned(), 300_000)];
        assert_eq!(measured, BTreeMap::from(wanted));
        assert_eq!(began.elapsed(), MEASURED_WITHIN);

        let (began, mut measuring) = (Instant::now(), JoinSet::new());
        for (name, after_ms) in [("", 40), ("eu", 60), ("us", 90)] {
            measuring.spawn(answer(name, after_ms, 5));
        }
        let measured = gather(measuring, began).await;
        assert_eq!(measured.keys().map(String::as_str).collect::<Vec<_>>(), ["", "eu"]);
        assert_eq!(began.elapsed(), Duration::from_millis(80), "so long takes all that the coordinator has");
    }
}
