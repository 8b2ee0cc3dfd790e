//! `meridian agent`: an agent as a process of its own.

use std::path::{Path, PathBuf};

use meridian_agent::{AgentConfig, App};
use meridian_core::{id::FleetName, quantity::ByteCount};
use meridian_runtime::{
    clock::Clock,
    config::{ConfigType, HOST_PORT, Key, Kind, Loader, Problem},
    identity::Identity,
    shutdown::Signals,
    state_dir::{StateDir, UserDirs},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{
    args::role::AgentArgs,
    fleet::join::{Token, enroll},
    role::{
        set,
        signer_table::{self, SignerTable},
    },
    trouble::Trouble,
};

/// The layout of an agent's state directory.
const LAYOUT: u32 = 1;

/// The keys of `agent.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct AgentFile {
    /// Empty when nobody has said it.
    coordinator: String,
    state: Option<PathBuf>,
    slots: Option<u32>,
    cache_gib: u64,
    sources_gib: u64,
    free_min_mib: u64,
    signer: SignerTable,
}

impl Default for AgentFile {
    fn default() -> Self {
        Self {
            coordinator: String::new(),
            state: None,
            slots: None,
            cache_gib: 20,
            sources_gib: 5,
            free_min_mib: 1024,
            signer: SignerTable::default(),
        }
    }
}

impl ConfigType for AgentFile {
    const SCHEMA: &'static [Key] = &[
        Key::optional("coordinator", HOST_PORT),
        Key::optional("state", Kind::Text),
        Key::optional("slots", Kind::Integer { min: 1, max: 1_024 }),
        Key::optional("cache_gib", Kind::Integer { min: 1, max: 1_000_000 }),
        Key::optional("sources_gib", Kind::Integer { min: 1, max: 1_000_000 }),
        Key::optional("free_min_mib", Kind::Integer { min: 0, max: 1_000_000_000 }),
        Key::optional("signer", Kind::Table(signer_table::KEYS)),
    ];

    fn check(&self) -> Vec<Problem> {
        let lacks = self.coordinator.is_empty();
        let advice = "where is it? say --coordinator HOST:PORT, or set it in agent.toml";
        let lacks = lacks.then(|| Problem::new(&["coordinator"], advice));
        lacks.into_iter().chain(self.signer.problems()).collect()
    }
}

impl AgentFile {
    /// What the agent is told. Whose it is and where it keeps things was found out meanwhile.
    fn config(self, fleet: FleetName, state: PathBuf, shim: PathBuf) -> AgentConfig {
        let config = AgentConfig::new(fleet, self.coordinator, state, shim);
        AgentConfig {
            slots: self.slots.unwrap_or(config.slots),
            cache_capacity: ByteCount::gib(self.cache_gib),
            source_capacity: ByteCount::gib(self.sources_gib),
            free_min: ByteCount::mib(self.free_min_mib),
            signer: self.signer.settings(),
            ..config
        }
    }
}

/// Runs an agent until it is told to stop: the first signal lets its tasks finish, the second does not.
///
/// # Errors
/// When it has no identity and no token, or its configuration or state is not as it should be.
pub async fn run(args: &AgentArgs) -> Result<(), Trouble> {
    let file = load(args)?;
    let state = match &file.state {
        Some(state) => state.clone(),
        None => UserDirs::from_env().map_err(Trouble::usage)?.state.join("agent"),
    };
    let _owned = StateDir::open(&state, LAYOUT).map_err(Trouble::broken)?;
    let kept = state.join("identity");
    let identity = identity(&kept, args.token.as_deref(), &file.coordinator).await?;
    let fleet = FleetName::new(identity.id().fleet()).map_err(Trouble::broken)?;
    let shim = std::env::current_exe().map_err(Trouble::broken)?;
    let config = file.config(fleet, state, shim);
    let mut signals = Signals::listen().map_err(Trouble::broken)?;
    let id = identity.id().clone();
    let app = App::build(config, identity, Some(kept), Clock::system()).await.map_err(Trouble::broken)?;
    tracing::info!(%id, "the agent starts");
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let running = app.run(drain.clone(), stop.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => return Ok(()),
        name = signals.next() => tracing::info!(signal = name, "draining: tasks under way may finish"),
    }
    drain.cancel();
    tokio::select! {
        () = &mut running => return Ok(()),
        name = signals.next() => tracing::info!(signal = name, "stopping at once"),
    }
    stop.cancel();
    running.await;
    Ok(())
}

/// The identity that was kept, or a new one for the token.
async fn identity(kept: &Path, token: Option<&str>, coordinator: &str) -> Result<Identity, Trouble> {
    let now = std::time::SystemTime::now();
    let found = Identity::load(kept).map_err(Trouble::broken)?;
    if let Some(identity) = found.filter(|identity| identity.not_after() > now) {
        return Ok(identity);
    }
    let token = token.ok_or_else(|| {
        Trouble::refused(
            "this agent has not joined a fleet, or was away for so long that its identity expired",
        )
        .hint("make a token with `meridian token create --agent REGION/NAME` and give it with --token")
    })?;
    let identity = enroll(&Token::parse(token)?, coordinator).await?;
    if identity.id().segments().next() != Some("agent") {
        let id = identity.id();
        return Err(Trouble::usage(format_args!(
            "this token was for {id}, which is no agent; it is used up now"
        ))
        .hint("make one with `meridian token create --agent REGION/NAME`"));
    }
    std::fs::create_dir_all(kept)
        .map_err(|error| Trouble::broken(format_args!("{}: {error}", kept.display())))?;
    identity.save(kept).map_err(Trouble::broken)?;
    Ok(identity)
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
}
