//! Sites, the router between them, and what does not pass there.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use super::{
    inside::Inside,
    ip::{ip, ip_in},
    leftovers::{self, DIRECTORY, fresh_name},
};

/// Where it is set, a machine that makes no namespaces fails what needs them.
const REQUIRED: &str = "MERIDIAN_REQUIRE_NAMESPACES";
/// The router's part of a name.
const ROUTER: &str = "router";
/// Rules of this preference say what does not pass.
const RULE: &str = "100";

/// Which way something goes, seen from a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// What the site sends.
    Out,
    /// What is sent to it.
    In,
}

/// Sites that reach each other through a router. Removed when dropped, with all that runs there.
#[derive(Debug)]
pub struct Network {
    name: String,
    sites: Vec<String>,
    cuts: BTreeSet<(usize, Flow)>,
}

impl Network {
    /// A network of sites with these names. `None` where this system makes none; the reason is printed.
    ///
    /// # Panics
    /// When it must be had, and cannot.
    #[must_use]
    #[track_caller]
    pub fn of(sites: &[&str]) -> Option<Self> {
        match Self::make(sites) {
            Ok(network) => Some(network),
            Err(why) => {
                assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and there are none: {why}");
                eprintln!("skipped: no network namespaces here: {why}");
                None
            }
        }
    }

    /// The same, with the reason in the error.
    ///
    /// # Errors
    /// Why this system makes none.
    pub fn make(sites: &[&str]) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make them".to_owned());
        }
        leftovers::remove();
        let sites = sites.iter().map(|site| (*site).to_owned()).collect();
        // Dropped when something fails, which removes what has been made by then.
        let network = Self { name: fresh_name(), sites, cuts: BTreeSet::new() };
        let router = network.namespace(ROUTER);
        for namespace in network.namespaces() {
            ip(&["netns", "add", &namespace])?;
        }
        let mut lines = vec!["link set lo up".to_owned()];
        for (number, site) in network.sites.iter().enumerate() {
            let namespace = network.namespace(site);
            lines.push(format!("link add to-{number} type veth peer name uplink netns {namespace}"));
            lines.push(format!("addr add {}/24 dev to-{number}", address(number, 1)));
            lines.push(format!("link set to-{number} up"));
        }
        ip_in(&router, &lines)?;
        for (number, site) in network.sites.iter().enumerate() {
            let lines = [
                "link set lo up".to_owned(),
                format!("addr add {}/24 dev uplink", address(number, 2)),
                "link set uplink up".to_owned(),
                format!("route add default via {}", address(number, 1)),
            ];
            ip_in(&network.namespace(site), &lines)?;
        }
        let _routing = Inside::of(&file_of(&router)).map_err(|error| error.to_string())?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .map_err(|error| format!("nothing is routed: {error}"))?;
        Ok(network)
    }

    /// The address of a site.
    ///
    /// # Panics
    /// When there is no such site, here and below.
    #[must_use]
    #[track_caller]
    pub fn address(&self, site: &str) -> Ipv4Addr {
        address(self.number(site), 2)
    }

    /// The words that start a program in a site.
    #[must_use]
    #[track_caller]
    pub fn starter(&self, site: &str) -> [String; 2] {
        let file = file_of(&self.namespace(&self.sites[self.number(site)]));
        ["nsenter".to_owned(), format!("--net={}", file.display())]
    }

    /// Takes this thread into a site, until what is returned is dropped.
    ///
    /// # Panics
    /// When the system does not let us.
    #[must_use]
    #[track_caller]
    pub fn enter(&self, site: &str) -> Inside {
        let file = file_of(&self.namespace(&self.sites[self.number(site)]));
        Inside::of(&file).expect("a namespace that was made can be entered")
    }

    /// Lets nothing pass from and to a site from now on, and tells nobody.
    #[track_caller]
    pub fn cut(&mut self, site: &str) {
        self.cut_flow(site, Flow::Out);
        self.cut_flow(site, Flow::In);
    }

    /// The same in one direction only.
    ///
    /// # Panics
    /// When the system does not let us.
    #[track_caller]
    pub fn cut_flow(&mut self, site: &str, flow: Flow) {
        let number = self.number(site);
        if self.cuts.insert((number, flow)) {
            self.rule("add", number, flow).expect("a rule can be added to the router");
        }
    }

    /// Lets everything pass again.
    ///
    /// # Panics
    /// When the system does not let us.
    #[track_caller]
    pub fn heal(&mut self, site: &str) {
        let number = self.number(site);
        for flow in [Flow::Out, Flow::In] {
            if self.cuts.remove(&(number, flow)) {
                self.rule("del", number, flow).expect("a rule can be taken from the router");
            }
        }
    }

    fn rule(&self, action: &str, number: usize, flow: Flow) -> Result<(), String> {
        let which = match flow {
            Flow::Out => format!("iif to-{number}"),
            Flow::In => format!("to {}/24", address(number, 0)),
        };
        ip_in(&self.namespace(ROUTER), &[format!("rule {action} pref {RULE} {which} blackhole")])
    }

    #[track_caller]
    fn number(&self, site: &str) -> usize {
        let number = self.sites.iter().position(|name| name == site);
        number.unwrap_or_else(|| panic!("there is no site {site} in {:?}", self.sites))
    }

    fn namespaces(&self) -> impl Iterator<Item = String> {
        let all = self.sites.iter().map(String::as_str).chain([ROUTER]);
        all.map(|site| self.namespace(site))
    }

    fn namespace(&self, site: &str) -> String {
        format!("{}-{site}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.namespaces().filter(|namespace| file_of(namespace).exists()) {
            if let Err(why) = leftovers::remove_namespace(&namespace) {
                eprintln!("{namespace} stays behind: {why}");
            }
        }
    }
}

fn file_of(namespace: &str) -> PathBuf {
    Path::new(DIRECTORY).join(namespace)
}

/// Private addresses: a network of its own for each site, in which 1 is the router and 2 the site.
fn address(site: usize, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(site).expect("fewer sites than that"), end)
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, process::Command, time::Duration};

    use super::*;
    use crate::wait::wait_for;

    const SHORT: Duration = Duration::from_millis(50);

    fn socket(network: &Network, site: &str) -> UdpSocket {
        let _inside = network.enter(site);
        let socket = UdpSocket::bind((network.address(site), 7_000)).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        socket
    }

    /// Which of `eu` to `us` and `us` to `eu` get through.
    fn passes(eu: &UdpSocket, us: &UdpSocket) -> [bool; 2] {
        [(eu, us), (us, eu)].map(|(from, to)| {
            from.send_to(b"a word", to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 16]).is_ok()
        })
    }

    #[test]
    fn what_was_cut_vanishes_in_silence_in_that_direction_alone_and_passes_again_when_healed() {
        let Some(mut network) = Network::of(&["eu", "us", "ap"]) else { return };
        let [eu, us, ap] = ["eu", "us", "ap"].map(|site| socket(&network, site));
        assert_eq!(passes(&eu, &us), [true, true]);
        network.cut_flow("eu", Flow::Out);
        assert_eq!(passes(&eu, &us), [false, true]);
        assert_eq!(passes(&us, &ap), [true, true], "others have nothing to do with it");
        network.cut("eu");
        assert_eq!(passes(&eu, &us), [false, false]);
        network.heal("eu");
        assert_eq!(passes(&eu, &us), [true, true]);
        network.cut_flow("eu", Flow::In);
        assert_eq!(passes(&eu, &us), [true, false]);
    }

    #[test]
    fn networks_stand_side_by_side_and_are_gone_with_what_runs_there() {
        let Some(network) = Network::of(&["eu"]) else { return };
        let other = Network::of(&["eu"]).unwrap();
        assert_eq!(network.address("eu"), other.address("eu"));
        let sockets = [&network, &other].map(|network| socket(network, "eu"));
        assert!(!passes(&sockets[0], &sockets[1])[0], "they do not reach each other");
        let [program, namespace] = network.starter("eu");
        let mut child = Command::new(program).arg(namespace).args(["sleep", "1000"]).spawn().unwrap();
        let listed = || ip(&["netns", "pids", &network.namespace("eu")]).unwrap();
        wait_for("the program to be there", Duration::from_secs(10), || {
            listed().contains(&child.id().to_string()).then_some(())
        });
        let files: Vec<PathBuf> = network.namespaces().map(|name| file_of(&name)).collect();
        assert!(files.iter().all(|file| file.exists()));
        drop(network);
        assert!(!child.wait().unwrap().success(), "it was ended");
        assert!(files.iter().all(|file| !file.exists()));
        assert!(other.namespaces().all(|name| file_of(&name).exists()));
    }
}
