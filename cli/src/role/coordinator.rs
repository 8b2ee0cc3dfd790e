//! `meridian coordinator`: a coordinator as a process of its own.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use meridian_coordinator::{App, AppError, CoordinatorConfig};
use meridian_core::{
    cache::{
        scope::{MemberPattern, TrustedMembers},
        shards::REPLICAS_MAX,
        sidecar::{SidecarPattern, SidecarPolicy},
    },
    id::{FleetName, ParseIdError, RegionName},
    machine::{CachePolicy, Limits},
    quantity::{ByteCount, Millis},
    sandbox::SandboxDemand,
};
use meridian_runtime::{
    clock::Clock,
    config::{ConfigType, HOST, IP_PORT, Key, Kind, LISTEN, Loader, Problem},
    shutdown::Signals,
    state_dir::UserDirs,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{
    args::role::CoordinatorArgs,
    role::{
        schedule_table::{self, ScheduleTable},
        set,
    },
    state_directory::{self, NamedBy},
    trouble::Trouble,
};

/// The layout of a coordinator's state directory.
const LAYOUT: u32 = 1;

/// The keys of `coordinator.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct CoordinatorFile {
    fleet: String,
    state: Option<PathBuf>,
    listen: String,
    http: Option<String>,
    names: Vec<String>,
    blobs_gib: u64,
    free_min_mib: u64,
    sandbox: Demand,
    limits: LimitsTable,
    cache: CacheTable,
    schedule: ScheduleTable,
}

/// What must stand around the compilers of an agent that gets work.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Demand {
    #[default]
    Any,
    Required,
}

/// The `[cache]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct CacheTable {
    /// Whose builds write what their whole team reads: `NAME` or `TEAM/NAME`. Not said: every member's.
    trusted: Option<Vec<String>>,
    /// Beside which agents other builds may use the cache: `TEAM/REGION/NAME`. Not said: all.
    sidecars: Option<Vec<String>>,
    /// Which of them may write what their whole team reads. Not said: none.
    trusted_sidecars: Vec<String>,
    /// How many agents of a region keep each key.
    replicas: u32,
    /// The same for single regions.
    region_replicas: BTreeMap<String, u32>,
}

impl Default for CacheTable {
    fn default() -> Self {
        let CachePolicy { replicas, .. } = CachePolicy::default();
        Self {
            trusted: None,
            sidecars: None,
            trusted_sidecars: Vec::new(),
            replicas,
            region_replicas: BTreeMap::new(),
        }
    }
}

impl CacheTable {
    /// The policy. Each text was checked by its form before.
    fn policy(self) -> Result<CachePolicy, Trouble> {
        let trusted = match self.trusted {
            None => TrustedMembers::Everybody,
            Some(members) => {
                let patterns = members.iter().map(|member| member.parse::<MemberPattern>());
                TrustedMembers::Listed(patterns.collect::<Result<_, _>>().map_err(Trouble::usage)?)
            }
        };
        let region = |(region, replicas): (String, u32)| Ok((RegionName::new(&region)?, replicas));
        let regions = self.region_replicas.into_iter().map(region);
        let region_replicas: Result<_, ParseIdError> = regions.collect();
        let patterns = |agents: &[String]| -> Result<Vec<SidecarPattern>, Trouble> {
            agents.iter().map(|agent| agent.parse().map_err(Trouble::usage)).collect()
        };
        let mut sidecars = SidecarPolicy::default();
        if let Some(agents) = &self.sidecars {
            sidecars.allowed = patterns(agents)?;
        }
        sidecars.trusted = patterns(&self.trusted_sidecars)?;
        Ok(CachePolicy {
            trusted,
            sidecars,
            replicas: self.replicas,
            region_replicas: region_replicas.map_err(Trouble::usage)?,
            ..CachePolicy::default()
        })
    }
}

/// The `[limits]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct LimitsTable {
    queued_tasks: u64,
    builds_kept: usize,
    attempts: u32,
    lease_ms: u64,
    connection_age_ms: u64,
}

impl Default for LimitsTable {
    fn default() -> Self {
        let Limits { queued_tasks_max, builds_kept, attempts_max, lease, .. } = Limits::default();
        Self {
            queued_tasks: queued_tasks_max,
            builds_kept,
            attempts: attempts_max,
            lease_ms: lease.0,
            connection_age_ms: 24 * 3_600_000,
        }
    }
}

impl Default for CoordinatorFile {
    fn default() -> Self {
        Self {
            fleet: "fleet".to_owned(),
            state: None,
            listen: "0.0.0.0:7443".to_owned(),
            http: None,
            names: Vec::new(),
            blobs_gib: 20,
            free_min_mib: 1024,
            sandbox: Demand::Any,
            limits: LimitsTable::default(),
            cache: CacheTable::default(),
            schedule: ScheduleTable::default(),
        }
    }
}

const FLEET: Kind = Kind::Parsed {
    expected: "a fleet's name",
    check: |text| FleetName::new(text).map(|_| ()).map_err(|error| error.to_string()),
};

const MEMBER: Kind = Kind::Parsed {
    expected: "a member, as NAME or TEAM/NAME",
    check: |text| text.parse::<MemberPattern>().map(|_| ()).map_err(|error| error.to_string()),
};
const SIDECAR: Kind = Kind::Parsed {
    expected: "an agent, as TEAM/REGION/NAME",
    check: |text| text.parse::<SidecarPattern>().map(|_| ()).map_err(|error| error.to_string()),
};
pub(super) const REGION: Kind = Kind::Parsed {
    expected: "a region's name",
    check: |text| RegionName::new(text).map(|_| ()).map_err(|error| error.to_string()),
};
const REPLICAS: Kind = Kind::Integer { min: 1, max: REPLICAS_MAX as i64 };

impl ConfigType for CoordinatorFile {
    const SCHEMA: &'static [Key] = &[
        Key::optional("fleet", FLEET),
        Key::optional("state", Kind::Text),
        Key::optional("listen", LISTEN),
        Key::optional("http", IP_PORT),
        Key::optional("names", Kind::List(&HOST)),
        Key::optional("blobs_gib", Kind::Integer { min: 1, max: 1_000_000 }),
        Key::optional("free_min_mib", Kind::Integer { min: 0, max: 1_000_000_000 }),
        Key::optional("sandbox", Kind::OneOf(&["any", "required"])),
        Key::optional(
            "limits",
            Kind::Table(&[
                Key::optional("queued_tasks", Kind::Integer { min: 1, max: 10_000_000 }),
                Key::optional("builds_kept", Kind::Integer { min: 1, max: 10_000_000 }),
                Key::optional("attempts", Kind::Integer { min: 1, max: 100 }),
                Key::optional("lease_ms", Kind::Integer { min: 1_000, max: 3_600_000 }),
                Key::optional("connection_age_ms", Kind::Integer { min: 1_000, max: 24 * 3_600_000 }),
            ]),
        ),
        Key::optional(
            "cache",
            Kind::Table(&[
                Key::optional("trusted", Kind::List(&MEMBER)),
                Key::optional("sidecars", Kind::List(&SIDECAR)),
                Key::optional("trusted_sidecars", Kind::List(&SIDECAR)),
                Key::optional("replicas", REPLICAS),
                Key::optional("region_replicas", Kind::Map { keys: &REGION, values: &REPLICAS }),
            ]),
        ),
        Key::optional("schedule", Kind::Table(schedule_table::KEYS)),
    ];

    fn check(&self) -> Vec<Problem> {
        self.schedule.problems()
    }
}

/// Runs a coordinator until it is told to stop.
///
/// # Errors
/// When its configuration, its state or its ports are not as they should be, or its journal fails.
pub async fn run(args: &CoordinatorArgs) -> Result<(), Trouble> {
    let file = load(args)?;
    let state = match file.state {
        Some(state) => state,
        None => UserDirs::from_env().map_err(Trouble::usage)?.state.join("coordinator"),
    };
    let _owned = state_directory::open(&state, LAYOUT, NamedBy::Flag)?;
    let fleet = FleetName::new(&file.fleet).map_err(Trouble::usage)?;
    let mut config = CoordinatorConfig::new(fleet, state);
    config.listen = file.listen;
    config.names = file.names;
    config.http_listen = file.http.as_deref().map(str::parse).transpose().map_err(Trouble::usage)?;
    config.connection_age_max = Duration::from_millis(file.limits.connection_age_ms);
    config.blob_capacity = ByteCount::gib(file.blobs_gib);
    config.free_min = ByteCount::mib(file.free_min_mib);
    config.limits = Limits {
        queued_tasks_max: file.limits.queued_tasks,
        builds_kept: file.limits.builds_kept,
        attempts_max: file.limits.attempts,
        lease: Millis(file.limits.lease_ms),
        // A lease has to survive two renewals that are lost.
        renew_every: Millis((file.limits.lease_ms / 3).max(1)),
        sandbox: match file.sandbox {
            Demand::Any => SandboxDemand::Any,
            Demand::Required => SandboxDemand::Required,
        },
        cache: file.cache.policy()?,
        schedule: file.schedule.policy()?,
        ..Limits::default()
    };
    let stop = CancellationToken::new();
    let mut signals = Signals::listen().map_err(Trouble::broken)?;
    let running = App::start(config, Clock::system(), stop.clone()).await.map_err(not_started)?;
    tracing::info!(address = %running.address, "the coordinator serves");
    let ended = running.ended();
    tokio::pin!(ended);
    let result = tokio::select! {
        result = &mut ended => result,
        name = signals.next() => {
            tracing::info!(signal = name, "stopping");
            stop.cancel();
            ended.await
        }
    };
    result.map_err(Trouble::broken)
}

fn not_started(error: AppError) -> Trouble {
    match error {
        AppError::State(what) => state_directory::not_opened(&what, NamedBy::Flag),
        error => Trouble::broken(error),
    }
}

fn load(args: &CoordinatorArgs) -> Result<CoordinatorFile, Trouble> {
    let mut loader = Loader::new().env(std::env::vars());
    if let Some(path) = &args.config {
        loader = loader.file(path);
    }
    if let Some(state) = &args.state {
        loader = loader.set("state", state.display().to_string(), "--state");
    }
    for (key, value) in [("fleet", &args.fleet), ("listen", &args.listen), ("http", &args.http)] {
        if let Some(value) = value {
            loader = loader.set(key, value.as_str(), &format!("--{key}"));
        }
    }
    set::apply(loader, &args.set)?.load().map_err(Trouble::usage)
}

#[cfg(test)]
mod tests {
    use meridian_core::machine::limits::{PlacementRule, SchedulePolicy};

    use super::*;

    fn load(text: &str) -> Result<CoordinatorFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        std::fs::write(&path, text).unwrap();
        Loader::new().file(&path).load::<CoordinatorFile>().map_err(|error| error.to_string())
    }

    #[test]
    fn where_tasks_go_is_said_or_left_to_the_defaults() {
        let policy = |text: &str| load(text).unwrap().schedule.policy().unwrap();
        assert_eq!(policy(""), SchedulePolicy::default());
        let said = policy(
            "[schedule]\npolicy = \"near-and-warm\"\nfallback = \"eu\"\n[schedule.weights]\nacme = 300\n\
             [schedule.regions]\nacme = [\"eu\", \"sa\"]\n[schedule.egress_gib]\neu = 50\n",
        );
        assert_eq!(said.rule, PlacementRule::NearAndWarm { fallback: "eu".parse().ok() });
        let acme = said.team(&"acme".parse().unwrap());
        assert_eq!((acme.weight, acme.regions.len()), (300, 2));
        assert_eq!(said.egress.values().next(), Some(&ByteCount::gib(50)));
        for (text, told) in [
            ("[schedule]\nfallback = \"eu\"\n", "near-and-warm"),
            ("[schedule]\npolicy = \"round-robin\"\nheld_back_ms = 5\n", "least-finish"),
            ("[schedule]\npolicy = \"fastest\"\n", "round-robin"),
            ("[schedule.weights]\nacme = 0\n", "weights"),
            ("[schedule.regions]\nacme = [\"E U\"]\n", "region"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_with_the_policy_is_told_at_its_own_place_and_not_where_the_policy_is_a_slip() {
        let told = load("fleet = \"a\"\n[schedule]\nfallback = \"eu\"\n").unwrap_err();
        assert!(told.contains(":3:12: `schedule.fallback`: only the policy"), "{told}");
        let told = load("[schedule]\npolicy = \"round-robin\"\nheld_back_ms = 5\n").unwrap_err();
        assert!(told.contains(":3:16: `schedule.held_back_ms`: only the policy"), "{told}");
        let told = load("[schedule]\npolicy = \"near-and-warn\"\nfallback = \"eu\"\n").unwrap_err();
        assert!(told.contains("did you mean `near-and-warm`?") && told.lines().count() == 1, "{told}");
    }

    #[test]
    fn who_shares_the_cache_is_said_or_left_to_the_defaults() {
        let policy = |text: &str| load(text).unwrap().cache.policy().unwrap();
        assert_eq!(policy(""), CachePolicy::default());
        let said = policy(
            "[cache]\ntrusted = [\"acme/ci\", \"release-*\"]\nreplicas = 3\n[cache.region_replicas]\neu = 1\n",
        );
        let patterns = ["acme/ci", "release-*"].map(|pattern| pattern.parse().unwrap());
        assert_eq!(said.trusted, TrustedMembers::Listed(patterns.to_vec()));
        assert_eq!((said.replicas, said.region_replicas), (3, [("eu".parse().unwrap(), 1)].into()));
        let nobody = policy("[cache]\ntrusted = []\n");
        assert_eq!(nobody.trusted, TrustedMembers::Listed(Vec::new()), "an empty list trusts nobody");
        let beside = policy("[cache]\nsidecars = []\ntrusted_sidecars = [\"acme/eu/ci-*\"]\n").sidecars;
        let trusted = vec!["acme/eu/ci-*".parse().unwrap()];
        assert_eq!(beside, SidecarPolicy { allowed: Vec::new(), trusted });
        let wrong = load("[cache]\nsidecars = [\"eu/ci\"]\n").unwrap_err();
        assert!(wrong.contains("`cache.sidecars[0]`: expected an agent, as TEAM/REGION/NAME"), "{wrong}");
    }

    #[test]
    fn mistakes_about_the_cache_are_told_with_their_places() {
        let told = load(
            "[cache]\ntrusted = [\"ci\", \"Acme/CI\"]\nreplicas = 0\nregion_replicas = { eu = 9, EU = 1 }\n",
        );
        let told = told.unwrap_err();
        for words in [
            ":2:18: `cache.trusted[1]`: expected a member, as NAME or TEAM/NAME, found \"Acme/CI\"",
            ":3:12: `cache.replicas`: expected a whole number from 1 to 8, found the number 0",
            "`cache.region_replicas.eu`: expected a whole number from 1 to 8, found the number 9",
            "EU",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert_eq!(told.lines().count(), 4, "{told}");
    }

    #[test]
    fn every_mistake_of_a_file_is_told_at_once_whatever_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        let text = "fleet = \"Acme Inc\"\nlisten = \"7443\"\nhttp = \"localhost:80\"\nblob_gib = 1\n\
                    names = [\"a.example\", \"a.example:7443\"]\n[limits]\nlease_ms = 1\nattempts = \"x\"\n";
        std::fs::write(&path, text).unwrap();
        let told = Loader::new().file(&path).load::<CoordinatorFile>().unwrap_err().to_string();
        let words = [
            ":1:9: `fleet`: expected a fleet's name, found \"Acme Inc\"",
            ":2:10: `listen`: expected HOST:PORT, found \"7443\"",
            ":3:8: `http`: expected IP:PORT, found \"localhost:80\"",
            ":4:1: unknown key `blob_gib`, did you mean `blobs_gib`?",
            ":5:23: `names[1]`: expected a host name or an address",
            ":7:12: `limits.lease_ms`: expected a whole number from 1000 to 3600000, found the number 1",
            ":8:12: `limits.attempts`: expected a whole number from 1 to 100, found text \"x\"",
        ];
        assert_eq!(told.lines().count(), words.len(), "{told}");
        for (line, words) in told.lines().zip(words) {
            assert!(line.contains(words), "{words}: {told}");
        }
    }
}
