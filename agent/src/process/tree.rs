//! Finds and ends every process of a run.

use std::{collections::BTreeSet, path::Path, time::Duration};

/// The variable that marks every process of a run. Its value is unique to the run.
pub(super) const MARK: &str = "MERIDIAN_RUN";

/// Words of every failure that says that processes of a run are still there.
pub const UNENDED: &str = "did not end when they were killed";

/// How often the tree is looked for again before giving up: a process may fork while it is being ended.
const ROUNDS_MAX: u32 = 200;

/// Ends the process `root`, its group, and every process that descends from it or bears its mark, and looks
/// again until none is left (at most two seconds). Says which are, when that was in vain.
pub(super) async fn end_tree(root: u32, mark: &str) -> Result<(), String> {
    end_group(root);
    for _ in 0..ROUNDS_MAX {
        let members = members_of_run(root, mark);
        if members.is_empty() {
            return Ok(());
        }
        for pid in &members {
            end_process(*pid);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left: Vec<String> = members_of_run(root, mark).into_iter().filter_map(described).collect();
    if left.is_empty() {
        return Ok(());
    }
    tracing::warn!(root, left = left.join(", "), "processes of a run could not be ended");
    Err(format!("processes {UNENDED}: {}", left.join(", ")))
}

/// A process as its number and name, and what it waits for when nobody can end it.
fn described(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let state = match rest.trim_start().chars().next() {
        Some('D') => ", in uninterruptible sleep",
        Some('t') => ", stopped by a debugger",
        _ => "",
    };
    Some(format!("{pid} ({name}{state})"))
}

/// Ends the processes that an earlier agent with the state directory `dir` left behind when it was killed.
/// Looks for marks that begin with `dir`; does nothing where there is no `/proc`.
pub fn end_leftovers(dir: &Path) {
    let prefix = format!("{MARK}={}/", dir.display());
    let own = std::process::id();
    for process in processes() {
        if process.pid != own && process.has_variable(prefix.as_bytes()) {
            tracing::info!(pid = process.pid, "ending a process that an earlier agent left behind");
            end_process(process.pid);
        }
    }
}

fn end_group(pid: u32) {
    if let Some(pid) = raw_pid(pid) {
        // The group is gone already when the child was the last of it: nothing to do then.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

fn end_process(pid: u32) {
    if let Some(pid) = raw_pid(pid) {
        // It may have ended by itself meanwhile, which is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn raw_pid(pid: u32) -> Option<rustix::process::Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(rustix::process::Pid::from_raw)
}

/// One line of the process table.
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
    zombie: bool,
}

impl Process {
    fn has_variable(&self, prefix: &[u8]) -> bool {
        std::fs::read(format!("/proc/{}/environ", self.pid))
            .is_ok_and(|environ| environ.split(|b| *b == 0).any(|variable| variable.starts_with(prefix)))
    }
}

fn members_of_run(root: u32, mark: &str) -> BTreeSet<u32> {
    let table = processes();
    let marked = format!("{MARK}={mark}");
    let mut members = BTreeSet::new();
    for process in &table {
        if process.pid == root || process.session == root || process.has_variable(marked.as_bytes()) {
            members.insert(process.pid);
        }
    }
    // Children are listed after their parents only by habit, so look until nothing new is found.
    loop {
        let before = members.len();
        members
            .extend(table.iter().filter(|p| members.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if members.len() == before {
            break;
        }
    }
    members.retain(|pid| table.iter().any(|p| p.pid == *pid && !p.zombie));
    members.remove(&std::process::id());
    members
}

fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            parse_stat(pid, &stat)
        })
        .collect()
}

/// Reads `PID (NAME) STATE PPID PGRP SESSION …`. The name may hold spaces and parentheses.
fn parse_stat(pid: u32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session, zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let process = parse_stat(7, "7 (a) b (c) S 3 5 6 0 -1").unwrap();
        assert_eq!((process.parent, process.session, process.zombie), (3, 6, false));
        assert!(parse_stat(7, "garbage").is_none());
    }
}
