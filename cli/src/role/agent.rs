//! `meridian agent`: an agent as a process of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_agent::{
    AgentConfig, App, AppError, Mistake, Prepared, ShardSettings, StockSettings, Unsettled,
    sandbox::{Limits, SandboxPolicy},
    secrets::DeclaredSecrets,
};
use meridian_cache::reapi::StockTls;
use meridian_core::{
    id::{FleetName, Label},
    quantity::ByteCount,
};
use meridian_runtime::{
    clock::Clock,
    config::{ConfigType, HOST_PORT, IP_PORT, Key, Kind, LISTEN, Loader, Problem},
    shutdown::Signals,
    state_dir::UserDirs,
    telemetry::Masking,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{
    args::role::AgentArgs,
    role::{
        enrolment::Credential,
        remote_cache_table::{self, RemoteCacheTable},
        set,
        sidecar_table::{self, SidecarTable},
        signer_table::{self, SignerTable},
    },
    state_directory::{self, NamedBy},
    trouble::Trouble,
};

pub(crate) use sidecar_table::SOCKET as SIDECAR_SOCKET;

/// The layout of an agent's state directory.
const LAYOUT: u32 = 1;

/// The keys of `agent.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct AgentFile {
    /// Empty when nobody has said it.
    coordinator: String,
    state: Option<PathBuf>,
    slots: Option<u32>,
    labels: Vec<String>,
    cache_gib: u64,
    cache_days: u64,
    sources_gib: u64,
    free_min_mib: u64,
    redaction: RedactionFile,
    signer: SignerTable,
    sandbox: SandboxPolicy,
    shard: Option<ShardTable>,
    reapi: Option<ReapiTable>,
    sidecar: Option<SidecarTable>,
    remote_cache: Option<RemoteCacheTable>,
    limits: LimitsTable,
}

/// The `[reapi]` table: a cache for clients of the remote execution API that are not Meridian's.
#[derive(Debug, Clone, Deserialize)]
struct ReapiTable {
    listen: SocketAddr,
    tokens: PathBuf,
    certificates: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default = "reapi_gib")]
    gib: u64,
}

const fn reapi_gib() -> u64 {
    20
}

impl ReapiTable {
    fn problem(&self) -> Option<Problem> {
        const CERTIFICATES: &str = "reapi.certificates";
        const KEY: &str = "reapi.key";
        let (lacks, has) =
            if self.certificates.is_some() { (KEY, CERTIFICATES) } else { (CERTIFICATES, KEY) };
        let half = self.certificates.is_some() != self.key.is_some();
        half.then(|| Problem::new(&[lacks, has], "certificates and key are said together, or neither"))
    }

    fn settings(self) -> StockSettings {
        let tls = self.certificates.zip(self.key).map(|(certificates, key)| StockTls { certificates, key });
        StockSettings { listen: self.listen, tokens: self.tokens, tls, capacity: ByteCount::gib(self.gib) }
    }
}

/// The `[shard]` table: how other agents reach this one's build cache.
#[derive(Debug, Clone, Deserialize)]
struct ShardTable {
    listen: String,
    address: Option<String>,
    reapi_gib: Option<u64>,
}

/// The `[limits]` table: what one build may use. What is not said is [`Limits::of_machine`]'s.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LimitsTable {
    memory_mib: Option<u64>,
    processes: Option<u32>,
    file_mib: Option<u64>,
    disk_mib: Option<u64>,
    wall_seconds: Option<u64>,
}

/// What is secret on this agent's machine, by name: values never stand in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RedactionFile {
    variables: Vec<String>,
    files: Vec<PathBuf>,
}

impl RedactionFile {
    fn declared(self) -> DeclaredSecrets {
        DeclaredSecrets { variables: self.variables, files: self.files }
    }
}

/// The keys of `[redaction]`.
const REDACTION: &[Key] =
    &[Key::optional("variables", Kind::List(&Kind::Text)), Key::optional("files", Kind::List(&Kind::Text))];

const LABEL: Kind = Kind::Parsed {
    expected: "a label",
    check: |text| Label::new(text).map(|_| ()).map_err(|error| error.to_string()),
};

impl Default for AgentFile {
    fn default() -> Self {
        Self {
            coordinator: String::new(),
            state: None,
            slots: None,
            labels: Vec::new(),
            cache_gib: 20,
            cache_days: 30,
            sources_gib: 5,
            free_min_mib: 1024,
            redaction: RedactionFile::default(),
            signer: SignerTable::default(),
            sandbox: SandboxPolicy::Required,
            shard: None,
            reapi: None,
            sidecar: None,
            remote_cache: None,
            limits: LimitsTable::default(),
        }
    }
}

impl ConfigType for AgentFile {
    const SCHEMA: &'static [Key] = &[
        Key::optional("coordinator", HOST_PORT),
        Key::optional("state", Kind::Text),
        Key::optional("slots", Kind::Integer { min: 1, max: 1_024 }),
        Key::optional("labels", Kind::List(&LABEL)),
        Key::optional("cache_gib", Kind::Integer { min: 1, max: 1_000_000 }),
        Key::optional("cache_days", Kind::Integer { min: 0, max: 100_000 }),
        Key::optional("sources_gib", Kind::Integer { min: 1, max: 1_000_000 }),
        Key::optional("free_min_mib", Kind::Integer { min: 0, max: 1_000_000_000 }),
        Key::optional("redaction", Kind::Table(REDACTION)),
        Key::optional("signer", Kind::Table(signer_table::KEYS)),
        Key::optional("sandbox", Kind::OneOf(&["required", "when-possible", "off"])),
        Key::optional(
            "shard",
            Kind::Table(&[
                Key::required("listen", LISTEN),
                Key::optional("address", HOST_PORT),
                Key::optional("reapi_gib", Kind::Integer { min: 1, max: 1_000_000 }),
            ]),
        ),
        Key::optional(
            "reapi",
            Kind::Table(&[
                Key::required("listen", IP_PORT),
                Key::required("tokens", Kind::Text),
                Key::optional("certificates", Kind::Text),
                Key::optional("key", Kind::Text),
                Key::optional("gib", Kind::Integer { min: 1, max: 1_000_000 }),
            ]),
        ),
        Key::optional("sidecar", Kind::Table(sidecar_table::KEYS)),
        Key::optional("remote_cache", Kind::Table(remote_cache_table::KEYS)),
        Key::optional(
            "limits",
            Kind::Table(&[
                Key::optional("memory_mib", Kind::Integer { min: 64, max: 1_000_000_000 }),
                Key::optional("processes", Kind::Integer { min: 32, max: 1_000_000 }),
                Key::optional("file_mib", Kind::Integer { min: 1, max: 1_000_000_000 }),
                Key::optional("disk_mib", Kind::Integer { min: 1, max: 1_000_000_000 }),
                Key::optional("wall_seconds", Kind::Integer { min: 1, max: 10_000_000 }),
            ]),
        ),
    ];

    fn check(&self) -> Vec<Problem> {
        let lacks = self.coordinator.is_empty();
        let advice = "where is it? say --coordinator HOST:PORT, or set it in agent.toml";
        let lacks = lacks.then(|| Problem::new(&["coordinator"], advice));
        let reapi = self.reapi.as_ref().and_then(ReapiTable::problem);
        let sidecar = self.sidecar.as_ref().and_then(SidecarTable::problem);
        let remote = self.remote_cache.as_ref().and_then(RemoteCacheTable::problem);
        lacks.into_iter().chain(reapi).chain(sidecar).chain(remote).chain(self.signer.problems()).collect()
    }
}

impl LimitsTable {
    fn limits(&self) -> Limits {
        let bytes = |mib: u64| ByteCount::mib(mib).0;
        let of_machine = Limits::of_machine();
        Limits {
            memory_bytes_max: self.memory_mib.map(bytes).or(of_machine.memory_bytes_max),
            processes_max: self.processes.unwrap_or(of_machine.processes_max),
            file_bytes_max: self.file_mib.map_or(of_machine.file_bytes_max, bytes),
            disk_bytes_max: self.disk_mib.map(bytes).or(of_machine.disk_bytes_max),
            wall: self.wall_seconds.map_or(of_machine.wall, Duration::from_secs),
            ..of_machine
        }
    }
}

impl AgentFile {
    /// What the agent is told. Whose it is and where it keeps things was found out meanwhile.
    fn config(self, fleet: FleetName, state: PathBuf, shim: PathBuf) -> AgentConfig {
        let sidecar = self.sidecar.map(|table| table.settings(&state));
        let config = AgentConfig::new(fleet, self.coordinator, state, shim);
        AgentConfig {
            slots: self.slots.unwrap_or(config.slots),
            // Each was checked by its form before.
            labels: self.labels.iter().filter_map(|label| Label::new(label).ok()).collect(),
            cache_capacity: ByteCount::gib(self.cache_gib),
            // None at all, for whoever wants only the size bounded.
            cache_max_age: (self.cache_days > 0).then(|| Duration::from_secs(self.cache_days * 24 * 3600)),
            source_capacity: ByteCount::gib(self.sources_gib),
            free_min: ByteCount::mib(self.free_min_mib),
            secrets: self.redaction.declared(),
            signer: self.signer.settings(),
            sandbox: self.sandbox,
            stock: self.reapi.map(ReapiTable::settings),
            sidecar,
            outside: self.remote_cache.and_then(RemoteCacheTable::settings),
            shard: self.shard.map(|shard| ShardSettings {
                listen: shard.listen,
                address: shard.address.and_then(|address| address.parse().ok()),
                reapi_capacity: shard.reapi_gib.map(ByteCount::gib),
            }),
            build_limits: self.limits.limits(),
            ..config
        }
    }
}

/// What an agent asks of its machine, for whoever only looks at that.
pub(crate) struct Asked {
    /// Whether builds must be sandboxed.
    pub(crate) sandbox: SandboxPolicy,
    /// What one build may use.
    pub(crate) limits: Limits,
    config: AgentConfig,
}

impl Asked {
    /// The mistakes for which an agent would not start here.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        meridian_agent::check(&self.config).err().map_or_else(Vec::new, |mistakes| mistakes.0)
    }

    /// The cache outside the fleet, where one is named: where it is, and why it is of no use. What is wrong with the
    /// configuration itself is among the mistakes.
    pub(crate) async fn remote_cache(&self) -> Option<(String, Option<String>)> {
        meridian_agent::look_outside(self.config.outside.as_ref()?).await.ok()
    }
}

/// What an agent with this configuration would ask of its machine. Where the coordinator is does not matter to that.
///
/// # Errors
/// When the file or a setting has mistakes.
pub(crate) fn asked(config: Option<&Path>, settings: &[String]) -> Result<Asked, Trouble> {
    let mut loader = Loader::new().env(std::env::vars());
    if let Some(path) = config {
        loader = loader.file(path);
    }
    let loader = set::apply(loader, settings)?.set("coordinator", "not.asked.invalid:1", "doctor");
    let file: AgentFile = loader.load().map_err(Trouble::usage)?;
    let state = state_of(&file)?;
    let fleet = FleetName::new("not-asked").map_err(Trouble::broken)?;
    let (sandbox, limits) = (file.sandbox, file.limits.limits());
    Ok(Asked { sandbox, limits, config: file.config(fleet, state, PathBuf::new()) })
}

/// The state directory, from the root on: processes that the agent starts work elsewhere.
fn state_of(file: &AgentFile) -> Result<PathBuf, Trouble> {
    match &file.state {
        Some(state) => std::path::absolute(state)
            .map_err(|error| Trouble::usage(format!("state {}: {error}", state.display()))),
        None => Ok(UserDirs::from_env().map_err(Trouble::usage)?.state.join("agent")),
    }
}

/// Runs an agent until it is told to stop: the first signal lets its tasks finish, the second does not.
///
/// # Errors
/// When it has no identity and no token, its configuration or state is not as it should be, or it ended with results
/// that no coordinator has taken.
pub async fn run(args: &AgentArgs, masking: Masking) -> Result<(), Trouble> {
    let file = load(args)?;
    let state = state_of(&file)?;
    let _owned = state_directory::open(&state, LAYOUT, NamedBy::Flag)?;
    let kept = state.join("identity");
    let credential = Credential::find(&kept, args.token.as_deref())?;
    let fleet = credential.fleet()?;
    let shim = std::env::current_exe().map_err(Trouble::broken)?;
    let coordinator = file.coordinator.clone();
    let prepared = Prepared::of(AgentConfig { masking, ..file.config(fleet, state, shim) }).await;
    let prepared = prepared.map_err(not_started)?;
    // Whatever is wrong on this side was found by now: from here on a token is spent.
    let identity = credential.redeem(&kept, &coordinator).await?;
    open_to_builds();
    let mut signals = Signals::listen().map_err(Trouble::broken)?;
    let id = identity.id().clone();
    let app = App::build(prepared, identity, Some(kept), Clock::system()).await.map_err(not_started)?;
    tracing::info!(%id, "the agent starts");
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let running = app.run(drain.clone(), stop.clone());
    tokio::pin!(running);
    let dropped = |error: Unsettled| {
        Trouble::broken(error).hint("the fleet builds it again once the lease is over; nothing else is lost")
    };
    tokio::select! {
        ended = &mut running => return ended.map_err(dropped),
        name = signals.next() => tracing::info!(signal = name, "draining: tasks under way may finish"),
    }
    drain.cancel();
    tokio::select! {
        ended = &mut running => return ended.map_err(dropped),
        name = signals.next() => tracing::info!(signal = name, "stopping at once"),
    }
    stop.cancel();
    running.await.map_err(dropped)
}

fn not_started(error: AppError) -> Trouble {
    match error {
        AppError::Mistakes(mistakes) => Trouble::usage(mistakes),
        AppError::State(what) => state_directory::not_opened(&what, NamedBy::Flag),
        error => Trouble::broken(error),
    }
}

/// Lets the user that builds read what the agent fetches, whatever the umask of whoever started it. The state directory is
/// closed to everybody else, and what is secret in it has modes of its own.
pub(crate) fn open_to_builds() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

fn load(args: &AgentArgs) -> Result<AgentFile, Trouble> {
    let mut loader = Loader::new().env(std::env::vars());
    if let Some(path) = &args.config {
        loader = loader.file(path);
    }
    if let Some(state) = &args.state {
        loader = loader.set("state", state.display().to_string(), "--state");
    }
    if let Some(coordinator) = &args.coordinator {
        loader = loader.set("coordinator", coordinator.as_str(), "--coordinator");
    }
    if let Some(slots) = args.slots {
        loader = loader.set("slots", i64::from(slots), "--slots");
    }
    set::apply(loader, &args.set)?.load().map_err(Trouble::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the file says, or all that is wrong with it, without the directory.
    fn load(text: &str) -> Result<AgentFile, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}/", dir.path().display());
        let loaded = Loader::new().file(&path).load();
        loaded.map_err(|errors| errors.lines().map(|line| line.replace(&prefix, "")).collect())
    }

    #[test]
    fn a_state_directory_is_told_from_the_root_on_to_processes_that_work_elsewhere() {
        let file = load("coordinator = \"build.example:7443\"\nstate = \"below/here\"\n").unwrap();
        let expected = std::env::current_dir().unwrap().join("below/here");
        assert_eq!(state_of(&file).unwrap(), expected);
    }

    #[test]
    fn every_mistake_of_a_file_is_told_at_once_whatever_its_kind() {
        assert_eq!(
            load("coordinator = \"build.example\"\nslot = 2\ncache_gib = 0\n").unwrap_err(),
            [
                "agent.toml:1:15: `coordinator`: expected HOST:PORT, found \"build.example\": it has no port",
                "agent.toml:2:1: unknown key `slot`, did you mean `slots`?",
                "agent.toml:3:13: `cache_gib`: expected a whole number from 1 to 1000000, found the number 0",
            ]
        );
        assert_eq!(
            load("slot = 2\n").unwrap_err(),
            [
                "agent.toml:1:1: `coordinator`: where is it? say --coordinator HOST:PORT, or set it in agent.toml",
                "agent.toml:1:1: unknown key `slot`, did you mean `slots`?",
            ]
        );
    }

    #[test]
    fn what_does_not_go_together_is_told_at_its_own_place() {
        let told = |table: &str| load(&format!("coordinator = \"a.example:1\"\n{table}")).unwrap_err();
        for (table, place) in [
            ("[sidecar]\nprojects = []\n", "3:12: `sidecar.projects`: "),
            ("[sidecar]\nprojects = [\"a/b\"]\nusers = [\"x\"]\ngroup = \"y\"\n", "5:9: `sidecar.group`: "),
            ("[remote_cache]\nurl = \"grpc://c.example:1\"\ntoken = \"/t\"\n", "3:7: `remote_cache.url`: "),
            ("[remote_cache]\nurl = \"grpcs://c.example:1\"\n", "2:2: `remote_cache.ca`: "),
            (
                "[reapi]\nlisten = \"127.0.0.1:9\"\ntokens = \"/t\"\nkey = \"/k\"\n",
                "2:2: `reapi.certificates`: ",
            ),
        ] {
            let told = told(table);
            assert!(told.len() == 1 && told[0].starts_with(&format!("agent.toml:{place}")), "{told:?}");
        }
    }

    #[test]
    fn a_build_may_use_what_the_file_says_and_what_the_machine_has_where_it_says_nothing() {
        let file = |text: &str| load(&format!("coordinator = \"a.example:1\"\n{text}")).unwrap();
        let plain = file("");
        assert_eq!((plain.sandbox, plain.limits.limits()), (SandboxPolicy::Required, Limits::of_machine()));
        let said = file(
            "sandbox = \"when-possible\"\n[limits]\nmemory_mib = 512\nprocesses = 64\nfile_mib = 8\n\
             disk_mib = 16\nwall_seconds = 180\n",
        );
        let expected = Limits {
            memory_bytes_max: Some(512 << 20),
            processes_max: 64,
            file_bytes_max: 8 << 20,
            disk_bytes_max: Some(16 << 20),
            wall: Duration::from_secs(180),
            ..Limits::of_machine()
        };
        assert_eq!((said.sandbox, said.limits.limits()), (SandboxPolicy::WhenPossible, expected));
        let told = load("coordinator = \"a.example:1\"\nsandbox = \"maybe\"\n[limits]\nmemory_mib = 1\n");
        assert_eq!(
            told.unwrap_err(),
            [
                "agent.toml:2:11: `sandbox`: expected one of required, when-possible, off, found \"maybe\"",
                "agent.toml:4:14: `limits.memory_mib`: expected a whole number from 64 to 1000000000, found the number 1",
            ]
        );
    }

    #[test]
    fn secrets_are_declared_by_the_names_of_variables_and_files() {
        let file = load(
            "coordinator = \"a.example:1\"\n[redaction]\nvariables = [\"TOKEN\"]\nfiles = [\"npm\", \"/x\"]\n",
        );
        let config = file.unwrap().config(FleetName::new("acme").unwrap(), PathBuf::new(), PathBuf::new());
        assert_eq!(config.secrets.variables, ["TOKEN"]);
        assert_eq!(config.secrets.files, [PathBuf::from("npm"), PathBuf::from("/x")]);
        let wrong = load("coordinator = \"a.example:1\"\n[redaction]\nvariable = [\"TOKEN\"]\n").unwrap_err();
        assert!(wrong[0].contains("unknown key `redaction.variable`, did you mean"), "{wrong:?}");
    }

    #[test]
    fn the_agent_leaves_as_much_of_its_disk_free_as_the_file_says_and_a_gib_when_it_says_nothing() {
        let free_min = |text: &str| {
            let file = load(&format!("coordinator = \"a.example:1\"\n{text}")).unwrap();
            let fleet = FleetName::new("acme").unwrap();
            let defaults = AgentConfig::new(fleet.clone(), String::new(), PathBuf::new(), PathBuf::new());
            (file.config(fleet, PathBuf::new(), PathBuf::new()).free_min, defaults.free_min)
        };
        assert_eq!(free_min(""), (ByteCount::gib(1), ByteCount::gib(1)));
        assert_eq!(free_min("free_min_mib = 0\n").0, ByteCount(0));
        assert_eq!(free_min("free_min_mib = 512\n").0, ByteCount::mib(512));
    }

    #[test]
    fn what_nobody_uses_is_kept_for_as_many_days_as_the_file_says_and_for_ever_with_none() {
        let max_age = |text: &str| {
            let file = load(&format!("coordinator = \"a.example:1\"\n{text}")).unwrap();
            let config = file.config(FleetName::new("acme").unwrap(), PathBuf::new(), PathBuf::new());
            config.cache_max_age.map(|age| age.as_secs() / 3_600)
        };
        assert_eq!(
            [max_age(""), max_age("cache_days = 2\n"), max_age("cache_days = 0\n")],
            [Some(720), Some(48), None]
        );
    }
}
