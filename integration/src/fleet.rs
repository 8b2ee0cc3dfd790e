//! A fleet of real processes on loopback: a coordinator, agents that joined with one-time tokens, members.

use std::{
    cell::OnceCell,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use crate::{
    client::Client,
    home::Home,
    process::{Daemon, Run, Running},
    wait::{try_wait_for, wait_for},
};

/// How long a role may take until it serves.
const READY_MAX: Duration = Duration::from_secs(30);
/// How often a coordinator is started on other ports when another process has got one.
const START_TRIES: u32 = 5;
/// The name of a test's fleet.
pub const FLEET: &str = "proving";
/// The team that members of a test's fleet belong to.
pub const TEAM: &str = "acme";

/// A coordinator with its state, and all that joined it.
#[derive(Debug)]
pub struct Fleet {
    // Processes end before the homes that hold their logs go.
    coordinator: Option<Daemon>,
    agents: Vec<Agent>,
    address: SocketAddr,
    http: SocketAddr,
    settings: Vec<String>,
    /// Where agents that join find the coordinator, when not at its own address.
    way: Option<SocketAddr>,
    warden: OnceCell<Client>,
    home: Home,
}

/// An agent of the fleet.
#[derive(Debug)]
pub struct Agent {
    /// `REGION/NAME`.
    pub name: String,
    slots: u32,
    settings: Vec<String>,
    /// Where it finds the coordinator; at its own address when not said.
    way: Option<String>,
    // Ends before the home that holds its log goes.
    process: Option<Daemon>,
    home: Home,
}

impl Fleet {
    /// Starts a coordinator on an empty state directory.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings, each `KEY=VALUE` of `coordinator.toml`.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[must_use]
    #[track_caller]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_in(Home::with_proxy("off"), settings)
    }

    /// The same in a home that the test has prepared.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[must_use]
    #[track_caller]
    pub fn start_in(home: Home, settings: &[&str]) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), home, settings)
    }

    /// The same at another address of this machine.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[must_use]
    #[track_caller]
    pub fn start_at(ip: IpAddr, home: Home, settings: &[&str]) -> Self {
        let [address, http] = free_addresses(ip);
        let mut fleet = Self {
            home,
            address,
            http,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            coordinator: None,
            agents: Vec::new(),
            way: None,
            warden: OnceCell::new(),
        };
        for _ in 1..START_TRIES {
            match fleet.try_start_coordinator() {
                // Another process has got one of them since.
                Err(log) if log.contains("already in use") => {
                    [fleet.address, fleet.http] = free_addresses(ip);
                }
                started => {
                    started.unwrap_or_else(|log| panic!("the coordinator does not serve:\n{log}"));
                    return fleet;
                }
            }
        }
        fleet.start_coordinator();
        fleet
    }

    /// The coordinator's address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it serves metrics and health.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// The coordinator's state directory.
    #[must_use]
    pub fn coordinator_state(&self) -> PathBuf {
        self.home.path().join("coordinator")
    }

    /// Starts the coordinator (again) on its state and its address.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[track_caller]
    pub fn start_coordinator(&mut self) {
        if let Err(log) = self.try_start_coordinator() {
            panic!("the coordinator does not serve on {}:\n{log}", self.address);
        }
    }

    fn try_start_coordinator(&mut self) -> Result<(), String> {
        let mut daemon = self.spawn_coordinator();
        let ready = try_wait_for(READY_MAX, || {
            // The port is open before the state is read; it is the answer that says that it leads.
            if self.ask("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Some(true);
            }
            daemon.ended().map(|_| false)
        });
        if ready != Some(true) {
            return Err(daemon.log());
        }
        self.coordinator = Some(daemon);
        Ok(())
    }

    /// Starts the coordinator without waiting until it serves.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    #[track_caller]
    pub fn spawn_coordinator(&self) -> Daemon {
        let state = self.coordinator_state();
        let mut command = self.home.meridian(["coordinator", "--fleet", FLEET, "--state"]);
        command.arg(state);
        command.args(["--listen", &self.address.to_string(), "--http", &self.http.to_string()]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        Daemon::start("coordinator", command, &self.home.path().join("coordinator.log"))
            .expect("the coordinator starts")
    }

    /// The coordinator's process.
    ///
    /// # Panics
    /// When it was killed and not started again.
    pub fn coordinator(&mut self) -> &mut Daemon {
        self.coordinator.as_mut().expect("the coordinator runs")
    }

    /// kill -9 of the coordinator.
    pub fn kill_coordinator(&mut self) {
        self.coordinator().kill();
        self.coordinator = None;
    }

    /// Makes a one-time token with the coordinator's own administrator identity.
    ///
    /// # Panics
    /// When none is made.
    #[must_use]
    #[track_caller]
    pub fn token(&self, kind: &str, name: &str) -> String {
        let run = self.create_token(kind, name, "1h").expect_code(0);
        run.stdout
            .split(|letter: char| letter.is_whitespace() || letter == '"')
            .find(|word| word.starts_with("mrd1."))
            .unwrap_or_else(|| panic!("no token was printed: {run}"))
            .to_owned()
    }

    /// The command that makes a token; `kind` is `--agent` or `--member`.
    #[track_caller]
    pub fn create_token(&self, kind: &str, name: &str, lifetime: &str) -> Run {
        let mut command = self.home.meridian(["token", "create", kind, name, "--lifetime", lifetime]);
        command.arg("--state").arg(self.coordinator_state());
        command.args(["--coordinator", &self.address()]);
        Running::start(command).finish(Duration::from_secs(30))
    }

    /// Takes an identity back, with the coordinator's own administrator identity; `kind` is `--agent` or `--member`.
    #[track_caller]
    pub fn revoke(&self, kind: &str, name: &str) -> Run {
        let mut command = self.home.meridian(["revoke", kind, name]);
        command.arg("--state").arg(self.coordinator_state());
        command.args(["--coordinator", &self.address()]);
        Running::start(command).finish(Duration::from_secs(30))
    }

    /// Runs a command with the coordinator's own administrator identity.
    #[track_caller]
    pub fn administer(&self, arguments: &[&str]) -> Run {
        let mut command = self.home.meridian(arguments.iter().copied());
        command.arg("--state").arg(self.coordinator_state());
        command.args(["--coordinator", &self.address()]);
        Running::start(command).finish(Duration::from_secs(120))
    }

    /// Takes a signing key back, with the coordinator's own administrator identity.
    ///
    /// # Panics
    /// When it is not revoked.
    #[track_caller]
    pub fn revoke_key(&self, key: &str) {
        let mut command = self.home.meridian(["keyring", "revoke", key]);
        command.arg("--state").arg(self.coordinator_state());
        command.args(["--coordinator", &self.address()]);
        Running::start(command).finish(Duration::from_secs(30)).expect_code(0).expect_words(&["revoked"]);
    }

    /// Joins an agent with `slots` slots, in a home of its own. A file `agent.toml` in there is its configuration.
    ///
    /// # Panics
    /// When it has not attached in time.
    #[track_caller]
    pub fn join_agent(&mut self, name: &str, slots: u32, home: Home) -> usize {
        self.join_agent_with(name, slots, home, &[])
    }

    /// The same with settings, each `KEY=VALUE` of `agent.toml`. What is said of the sandbox there counts; otherwise it
    /// builds bare where this machine has none.
    ///
    /// # Panics
    /// When it has not attached in time.
    #[track_caller]
    pub fn join_agent_with(&mut self, name: &str, slots: u32, home: Home, settings: &[&str]) -> usize {
        let token = self.token("--agent", name);
        let settings =
            ["sandbox=when-possible"].iter().chain(settings).map(|text| (*text).to_owned()).collect();
        let name = name.to_owned();
        let way = self.way.map(|way| way.to_string());
        self.join(&token, Agent { name, home, slots, settings, way, process: None })
    }

    /// Joins an agent that finds the coordinator at another address, such as a relay's.
    ///
    /// # Panics
    /// When it has not attached in time.
    #[track_caller]
    pub fn join_agent_through(&mut self, way: &str, name: &str, slots: u32, home: Home) -> usize {
        let token = self.token("--agent", name);
        let (name, way) = (name.to_owned(), Some(way.to_owned()));
        let settings = vec!["sandbox=when-possible".to_owned()];
        self.join(&token, Agent { name, home, slots, settings, way, process: None })
    }

    #[track_caller]
    fn join(&mut self, token: &str, agent: Agent) -> usize {
        self.agents.push(agent);
        let index = self.agents.len() - 1;
        self.spawn_agent(index, Some(token));
        self.wait_until_attached(index);
        index
    }

    /// Where agents that join from here on find the coordinator, such as a relay's address; `None` is its own.
    pub const fn lead_agents_by(&mut self, way: Option<SocketAddr>) {
        self.way = way;
    }

    /// Starts an agent that joined before and was killed since.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn restart_agent(&mut self, index: usize) {
        self.spawn_agent(index, None);
    }

    #[track_caller]
    fn spawn_agent(&mut self, index: usize, token: Option<&str>) {
        let agent = &mut self.agents[index];
        let address = agent.way.clone().unwrap_or_else(|| self.address.to_string());
        let mut command = agent.home.meridian(["agent", "--coordinator", &address, "--state"]);
        command.arg(agent.home.path().join("agent"));
        command.args(["--slots", &agent.slots.to_string()]);
        let config = agent.home.path().join("agent.toml");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        for setting in &agent.settings {
            command.args(["--set", setting]);
        }
        if let Some(token) = token {
            command.env("MERIDIAN_TOKEN", token);
        }
        let log = agent.home.path().join("agent.log");
        agent.process =
            Some(Daemon::start(&format!("agent {}", agent.name), command, &log).expect("the agent starts"));
    }

    /// An agent's process.
    ///
    /// # Panics
    /// When it was killed and not started again.
    pub fn agent(&mut self, index: usize) -> &mut Daemon {
        self.agents[index].process.as_mut().expect("the agent runs")
    }

    /// An agent's home.
    #[must_use]
    pub fn agent_home(&self, index: usize) -> &Home {
        &self.agents[index].home
    }

    /// kill -9 of an agent.
    pub fn kill_agent(&mut self, index: usize) {
        self.agent(index).kill();
        self.agents[index].process = None;
    }

    /// Waits until the coordinator says that it has this agent's stream.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_until_attached(&mut self, index: usize) {
        let name = self.agents[index].name.clone();
        wait_for(&format!("agent {name} to attach"), READY_MAX, || {
            if let Some(status) = self.agent(index).ended() {
                panic!("agent {name} ended with {status}:\n{}", self.agent(index).log());
            }
            self.warden().run(&["agents", "--json"]).stdout.contains(&name).then_some(())
        });
    }

    /// A member of the team [`TEAM`], in a fresh home.
    ///
    /// # Panics
    /// When joining fails.
    #[must_use]
    #[track_caller]
    pub fn member(&self, name: &str) -> Client {
        self.member_of(TEAM, name)
    }

    /// A member of a team, in a fresh home.
    ///
    /// # Panics
    /// When joining fails.
    #[must_use]
    #[track_caller]
    pub fn member_of(&self, team: &str, name: &str) -> Client {
        self.member_in(Home::with_proxy("off"), team, name)
    }

    /// A member of a team, in a home that the test has prepared.
    ///
    /// # Panics
    /// When joining fails.
    #[must_use]
    #[track_caller]
    pub fn member_in(&self, home: Home, team: &str, name: &str) -> Client {
        let client = Client { home, coordinator: Some(self.address()) };
        let token = self.token("--member", &format!("{team}/{name}"));
        client.run(&["join", &token, "--coordinator", &self.address()]).expect_code(0);
        client
    }

    /// The member through whose eyes the fixture itself looks.
    ///
    /// # Panics
    /// When joining fails.
    #[track_caller]
    pub fn warden(&self) -> &Client {
        self.warden.get_or_init(|| self.member("warden"))
    }

    /// The whole answer of an HTTP endpoint of the coordinator, with its status line.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        self.ask(path).unwrap_or_else(|error| panic!("{path} of the coordinator: {error}"))
    }

    fn ask(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: meridian\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// An address on loopback that nobody uses now.
///
/// # Panics
/// When the machine has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    let [address] = free_addresses(Ipv4Addr::LOCALHOST.into());
    address
}

/// Different addresses that nobody uses now. The ports stay the same over restarts of a role, so they cannot
/// be 0 and read back; another process may get one in between.
fn free_addresses<const COUNT: usize>(ip: IpAddr) -> [SocketAddr; COUNT] {
    // All are held until all are known, or the kernel could give one twice.
    let held = [(); COUNT].map(|()| TcpListener::bind((ip, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address"))
}
