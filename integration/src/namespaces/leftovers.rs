//! The names of namespaces, and what runs left behind that were killed.
//!
//! A name says which process made it and when that one started, since the number of a process is given again.

use std::{
    fs,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process};

use super::ip::ip;

/// What all names begin with.
const PREFIX: &str = "mrdn";
/// Where `ip` keeps namespaces that have names.
pub(super) const DIRECTORY: &str = "/run/netns";

/// A name that no other network of this machine has.
pub(super) fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{pid}-{}-{number}", started_at(pid).unwrap_or_default())
}

/// Removes, once a process, the namespaces of processes that are gone.
pub(super) fn remove() {
    static REMOVED: Once = Once::new();
    REMOVED.call_once(|| {
        for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_orphan(&name) {
                // Another run may be at it as well.
                let _removed_by_another = remove_namespace(&name);
            }
        }
    });
}

/// Ends whatever runs in a namespace, and removes it.
pub(super) fn remove_namespace(name: &str) -> Result<(), String> {
    for process in processes(name)? {
        let _gone = kill_process(process, Signal::KILL);
    }
    ip(&["netns", "delete", name]).map(drop)
}

/// What runs in a namespace, except for ourselves.
fn processes(name: &str) -> Result<Vec<Pid>, String> {
    let listed = ip(&["netns", "pids", name])?;
    let numbers = listed.lines().filter_map(|line| line.trim().parse().ok());
    Ok(numbers.filter_map(Pid::from_raw).filter(|pid| *pid != rustix::process::getpid()).collect())
}

/// Whether a name is one of ours, and its maker is gone.
fn is_orphan(name: &str) -> bool {
    let mut parts = name.split('-');
    if parts.next() != Some(PREFIX) {
        return false;
    }
    let [pid, started] = [parts.next(), parts.next()].map(|part| part.and_then(|part| part.parse().ok()));
    let (Some(pid), Some(started)) = (pid, started) else { return false };
    u32::try_from(pid).ok().and_then(started_at) != Some(started)
}

/// When a process started, in ticks since the machine did; `None` when there is none.
fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `PID (NAME) STATE …`, and a name may hold anything, also brackets. It is the 22nd field of all.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_process_made_that_is_gone_is_left_over() {
        let ours = format!("{}-eu", fresh_name());
        assert!(!is_orphan(&ours), "{ours}");
        let (pid, started) = (std::process::id(), started_at(std::process::id()).unwrap());
        assert!(is_orphan(&format!("{PREFIX}-{pid}-{}-0-eu", started + 1)), "a number that was given again");
        assert!(is_orphan(&format!("{PREFIX}-4194999-{started}-0-eu")), "a process that is gone");
        for other in ["blue", "mrdn", "mrdn-x-y-0-eu", "mrdnx-1-1-0-eu"] {
            assert!(!is_orphan(other), "{other}");
        }
    }
}
