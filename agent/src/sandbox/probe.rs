//! Finds out what of a sandbox this machine allows, for `meridian doctor` and for the policy.
//!
//! What can only be known by trying is tried, each in a process of its own, and at the end a whole sandbox.

use std::{fs, io, path::Path, process::Stdio, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Launcher,
    host::loader_mounts,
    outcome::{Around, Outcome},
    plan::{Limits, Network, Plan},
    policy::{Finding, State},
    stage::Trial,
};

/// How long one trial may take.
const TRIAL_WITHIN: Duration = Duration::from_secs(10);

/// Memory for a program that only says that it is there.
const TRIAL_MEMORY: u64 = 1 << 30;

/// The first kernel whose mounts can be closed as a tree (`mount_setattr`).
const KERNEL_MIN: (u32, u32) = (5, 12);

const CONTAINER_REMEDY: &str = "in a container: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined, or a privileged one; in Kubernetes: procMount: Unmasked and hostUsers: false";

impl Launcher {
    /// Tries every capability that the sandbox uses, and then a whole sandbox.
    pub async fn probe(&self) -> Vec<Finding> {
        let mut findings = vec![kernel(), container()];
        findings.extend(settings());
        for trial in Trial::ALL {
            findings.push(self.attempt(trial).await);
        }
        findings.extend([landlock(), seccomp(), self.groups()]);
        findings.push(self.whole().await.0);
        findings
    }

    /// What an agent must know when it starts: what stands around a program, or what keeps it from that. A sandbox
    /// that was entered proves all that it is made of, so only where that fails is everything tried by itself.
    pub async fn assess(&self) -> (Vec<Finding>, Around) {
        let (whole, around) = self.whole().await;
        if whole.state == State::Missing {
            return (self.probe().await, around);
        }
        let mut findings = vec![landlock(), self.groups(), whole];
        if !around.user {
            findings.push(self.attempt(Trial::UserNamespace).await);
        }
        (findings, around)
    }

    async fn attempt(&self, trial: Trial) -> Finding {
        let output = tokio::process::Command::new(self.program())
            .args(["sandbox-enter", "--try", trial.name()])
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let why = match tokio::time::timeout(TRIAL_WITHIN, output).await {
            Ok(Ok(output)) if output.status.success() => None,
            Ok(Ok(output)) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Ok(Err(error)) => Some(format!("{} does not start: {error}", self.program().display())),
            Err(_) => Some("no answer".to_owned()),
        };
        judge(trial, why, rustix::process::geteuid().is_root())
    }

    fn groups(&self) -> Finding {
        let (memory, processes) = (self.bounds_memory(), self.bounds_processes());
        let state = if memory && processes { State::Ok } else { State::Weaker };
        let text = |bounded| if bounded { "bounded" } else { "not bounded" };
        let meaning =
            format!("memory of a whole build is {}, its processes are {}", text(memory), text(processes));
        let remedy = match state {
            State::Ok => "",
            _ => {
                "let the agent make control groups: Delegate=yes in its systemd unit, or a writable /sys/fs/cgroup; until then each process is bounded alone"
            }
        };
        Finding { name: "control groups", state, meaning, remedy: remedy.into() }
    }

    /// The proof: a sandbox in which this very program only says that it is there.
    async fn whole(&self) -> (Finding, Around) {
        let finding = |state, meaning: String, remedy: &str| {
            let finding = Finding { name: "sandbox", state, meaning, remedy: remedy.into() };
            (finding, Around::default())
        };
        let mounts = match loader_mounts(self.program()) {
            Ok(mounts) => mounts,
            Err(error) => {
                let meaning = format!("{} cannot be read: {error}", self.program().display());
                return finding(State::Missing, meaning, "reinstall meridian");
            }
        };
        let plan = Plan {
            mounts,
            program: self.program().to_owned(),
            args: vec!["--version".into()],
            env: Vec::new(),
            dir: "/".into(),
            network: Network::None,
            limits: Limits { wall: TRIAL_WITHIN, memory_bytes_max: Some(TRIAL_MEMORY), ..Limits::default() },
        };
        match self.run(&plan, &CancellationToken::new(), &mut |_, _| {}).await {
            // The code is the program's own business; it was run.
            Ok(ended) if matches!(ended.outcome, Outcome::Exited(_)) => {
                let meaning = format!("a program was run in one: {}", ended.around.described());
                (finding(State::Ok, meaning, "").0, ended.around)
            }
            Ok(ended) => finding(
                State::Missing,
                format!("a program did not end well in one: {:?}", ended.outcome),
                CONTAINER_REMEDY,
            ),
            // Whoever reads this has the doctor at hand.
            Err(error) => {
                let meaning = error.to_string();
                let meaning = meaning.trim_end_matches("; run `meridian doctor`").to_owned();
                finding(State::Missing, meaning, CONTAINER_REMEDY)
            }
        }
    }
}

fn judge(trial: Trial, why: Option<String>, root: bool) -> Finding {
    let name = match trial {
        Trial::UserNamespace => "user namespaces",
        Trial::Mounts => "mount namespaces",
        Trial::Processes => "process namespaces",
        Trial::Network => "network namespaces",
    };
    let Some(why) = why else {
        return Finding { name, state: State::Ok, meaning: "allowed".into(), remedy: String::new() };
    };
    // Root makes the others without it, and builds then run under the build user's real id.
    let state = if trial == Trial::UserNamespace && root { State::Weaker } else { State::Missing };
    let remedy = if app_armor_restricts() && !root {
        "install packaging/apparmor/meridian to /etc/apparmor.d and run `apparmor_parser -r /etc/apparmor.d/meridian`, or: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if read_number("/proc/sys/user/max_user_namespaces") == Some(0) {
        "sysctl -w user.max_user_namespaces=15000"
    } else if read_number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) && !root {
        "sysctl -w kernel.unprivileged_userns_clone=1"
    } else {
        CONTAINER_REMEDY
    };
    Finding { name, state, meaning: format!("refused: {why}"), remedy: remedy.into() }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let known = version_of(&release);
    let state = if known.is_some_and(|version| version < KERNEL_MIN) { State::Missing } else { State::Ok };
    let remedy = if state == State::Ok { "" } else { "the sandbox needs Linux 5.12 or newer" };
    Finding { name: "kernel", state, meaning: format!("Linux {release}"), remedy: remedy.into() }
}

/// The first two numbers of a release such as `6.8.0-45-generic`.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn container() -> Finding {
    let marks = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    let groups = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let named = ["docker", "kubepods", "containerd", "lxc"].iter().any(|name| groups.contains(name));
    let meaning = if marks || named {
        "this is a container: its runtime may refuse namespaces and hide parts of /proc"
    } else {
        "this does not look like a container"
    };
    Finding { name: "container", state: State::Note, meaning: meaning.into(), remedy: String::new() }
}

/// Settings of the kernel that keep unprivileged users from namespaces.
fn settings() -> Vec<Finding> {
    let mut found = Vec::new();
    let mut note = |name, meaning: String| {
        found.push(Finding { name, state: State::Note, meaning, remedy: String::new() });
    };
    if let Some(count) = read_number("/proc/sys/user/max_user_namespaces") {
        note("user limit", format!("user.max_user_namespaces = {count}"));
    }
    if let Some(value) = read_number("/proc/sys/kernel/unprivileged_userns_clone") {
        note("unprivileged", format!("kernel.unprivileged_userns_clone = {value}"));
    }
    if let Some(value) = read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
        note("AppArmor", format!("kernel.apparmor_restrict_unprivileged_userns = {value}"));
    }
    found
}

fn app_armor_restricts() -> bool {
    read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1)
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn landlock() -> Finding {
    match landlock_version() {
        Ok(version) => Finding {
            name: "Landlock",
            state: State::Ok,
            meaning: format!("version {version}"),
            remedy: String::new(),
        },
        Err(error) => Finding {
            name: "Landlock",
            state: State::Weaker,
            meaning: format!(
                "not there ({error}): the sandbox stands on its mounts alone, and the build cache's files can be listed"
            ),
            remedy: "Linux 5.13 or newer with `landlock` in the boot parameter lsm=".into(),
        },
    }
}

#[expect(unsafe_code, reason = "a system call that neither libc nor rustix wraps")]
fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel takes no structure and only answers a number.
    match unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) } {
        version if version > 0 => Ok(version),
        _ => Err(io::Error::last_os_error()),
    }
}

fn seccomp() -> Finding {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let known = seccompiler::TargetArch::try_from(std::env::consts::ARCH).is_ok();
    let (state, meaning, remedy) = match (actions.contains("errno"), known) {
        (true, true) => (State::Ok, "filters are there".to_owned(), ""),
        (_, false) => (
            State::Missing,
            format!("there is no filter for {}", std::env::consts::ARCH),
            "use x86-64 or arm64",
        ),
        // Where /proc/sys is hidden, the whole sandbox tells.
        (false, true) => (State::Note, "the kernel does not say".to_owned(), ""),
    };
    Finding { name: "seccomp", state, meaning, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_judged_by_its_first_two_numbers() {
        assert_eq!(version_of("6.8.0-45-generic"), Some((6, 8)));
        assert_eq!(version_of("5.10.0"), Some((5, 10)));
        assert!(version_of("5.10.0").unwrap() < KERNEL_MIN);
        assert_eq!(version_of("unknown"), None);
    }

    #[test]
    fn root_can_do_without_user_namespaces_and_nobody_else_can() {
        let why = || Some("EPERM".to_owned());
        assert_eq!(judge(Trial::UserNamespace, why(), true).state, State::Weaker);
        assert_eq!(judge(Trial::UserNamespace, why(), false).state, State::Missing);
        assert_eq!(judge(Trial::Mounts, why(), true).state, State::Missing);
        assert!(!judge(Trial::Mounts, why(), true).remedy.is_empty());
        assert_eq!(judge(Trial::Mounts, None, true).state, State::Ok);
    }
}
