//! Makes, reads and removes the control groups of sandboxes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::layout::{Hierarchy, Version};
use crate::sandbox::plan::Limits;

/// How often the removal of a group is tried: its processes may need a moment to be gone.
const REMOVE_TRIES: u32 = 200;
/// How long to wait between tries.
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// The group for the agent itself, with version 2: a group with processes of its own bounds no others.
const AGENT_GROUP: &str = "meridian-agent";

/// Where an agent makes the groups of its sandboxes.
#[derive(Debug)]
pub(in super::super) struct Groups {
    trees: Vec<Tree>,
    made: AtomicU64,
}

/// One tree, and the directory in it that is this agent's.
#[derive(Debug, Clone)]
struct Tree {
    version: Version,
    memory: bool,
    pids: bool,
    dir: PathBuf,
}

/// The group of one sandbox, in each tree. Dropped without [`Group::remove`], it is removed in the background.
#[derive(Debug)]
pub(in super::super) struct Group {
    places: Vec<Tree>,
}

impl Groups {
    /// Makes the agent's own directory, called `name`, in each tree that bounds something not yet bounded, and
    /// removes what an earlier process left there. Trees that cannot be written are left out.
    pub(in super::super) fn open(hierarchies: &[Hierarchy], name: &str) -> Self {
        let mut trees: Vec<Tree> = Vec::new();
        for hierarchy in hierarchies {
            let memory = hierarchy.memory && !trees.iter().any(|tree| tree.memory);
            let pids = hierarchy.pids && !trees.iter().any(|tree| tree.pids);
            if !memory && !pids {
                continue;
            }
            let tree = Tree { version: hierarchy.version, memory, pids, dir: hierarchy.dir.join(name) };
            match prepare(hierarchy, &tree) {
                Ok(()) => trees.push(tree),
                Err(error) => tracing::debug!(dir = %tree.dir.display(), %error, "no control groups here"),
            }
        }
        Self { trees, made: AtomicU64::new(0) }
    }

    /// Whether the memory of a whole sandbox is bounded.
    pub(in super::super) fn bounds_memory(&self) -> bool {
        self.trees.iter().any(|tree| tree.memory)
    }

    /// Whether the number of a sandbox's processes is bounded.
    pub(in super::super) fn bounds_processes(&self) -> bool {
        self.trees.iter().any(|tree| tree.pids)
    }

    /// Makes the group of one sandbox.
    ///
    /// # Errors
    /// When the kernel refuses; nothing is left behind then.
    pub(in super::super) fn make(&self, limits: &Limits) -> io::Result<Group> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let mut group = Group { places: Vec::new() };
        for tree in &self.trees {
            let place = Tree { dir: tree.dir.join(&name), ..tree.clone() };
            fs::create_dir(&place.dir)?;
            group.places.push(place);
        }
        for place in &group.places {
            place.bound(limits)?;
        }
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for tree in &self.trees {
            // Not empty while a sandbox is still being removed: the next agent does it then.
            let _ = fs::remove_dir(&tree.dir);
        }
    }
}

impl Group {
    /// The files that take a process into the group.
    pub(in super::super) fn entrances(&self) -> Vec<PathBuf> {
        self.places.iter().map(|place| place.dir.join("cgroup.procs")).collect()
    }

    /// How often the kernel ended a process here for want of memory.
    pub(in super::super) fn memory_kills(&self) -> u64 {
        let read = |place: &Tree| match place.version {
            Version::One => place.counter("memory.oom_control", "oom_kill"),
            Version::Two => place.counter("memory.events", "oom_kill"),
        };
        self.places.iter().filter(|place| place.memory).find_map(read).unwrap_or(0)
    }

    /// The most memory that was used at once, in bytes.
    pub(in super::super) fn memory_peak(&self) -> Option<u64> {
        self.places.iter().filter(|place| place.memory).find_map(|place| {
            let name = match place.version {
                Version::One => "memory.max_usage_in_bytes",
                Version::Two => "memory.peak",
            };
            fs::read_to_string(place.dir.join(name)).ok()?.trim().parse().ok()
        })
    }

    /// How often another process was refused.
    pub(in super::super) fn forks_refused(&self) -> Option<u64> {
        self.places.iter().filter(|place| place.pids).find_map(|place| place.counter("pids.events", "max"))
    }

    /// Ends every process in the group, and removes it. Waits for at most two seconds.
    pub(in super::super) fn remove(mut self) {
        remove_all(&std::mem::take(&mut self.places));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let places = std::mem::take(&mut self.places);
        if !places.is_empty() {
            // Whoever drops it half-way may be a task that must not wait.
            std::thread::spawn(move || remove_all(&places));
        }
    }
}

fn remove_all(places: &[Tree]) {
    for place in places {
        if let Err(error) = remove(&place.dir) {
            tracing::warn!(dir = %place.dir.display(), %error, "a control group could not be removed");
        }
    }
}

impl Tree {
    fn bound(&self, limits: &Limits) -> io::Result<()> {
        if self.pids {
            self.write("pids.max", limits.processes_max.to_string())?;
        }
        let Some(bytes) = limits.memory_bytes_max.filter(|_| self.memory) else { return Ok(()) };
        match self.version {
            Version::One => {
                self.write("memory.limit_in_bytes", bytes.to_string())?;
                // Only there when the kernel accounts for swap. Together with swap it is the same bound.
                if self.dir.join("memory.memsw.limit_in_bytes").exists() {
                    self.write("memory.memsw.limit_in_bytes", bytes.to_string())?;
                }
            }
            Version::Two => {
                self.write("memory.max", bytes.to_string())?;
                // Absent where the kernel has no swap.
                let _ = self.write("memory.swap.max", "0".into());
                // A build without one of its compilers is of no use, so the whole of it ends.
                let _ = self.write("memory.oom.group", "1".into());
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, text: String) -> io::Result<()> {
        fs::write(self.dir.join(name), text)
    }

    /// Reads the line `NAME VALUE`.
    fn counter(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.trim().parse().ok())?
        })
    }
}

/// Makes the agent's directory and clears it.
fn prepare(hierarchy: &Hierarchy, tree: &Tree) -> io::Result<()> {
    if hierarchy.version == Version::Two {
        delegate(&hierarchy.dir)?;
    }
    match fs::create_dir(&tree.dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if hierarchy.version == Version::Two {
        fs::write(tree.dir.join("cgroup.subtree_control"), "+memory +pids")?;
    }
    for entry in fs::read_dir(&tree.dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tracing::info!(group = %entry.path().display(), "ending what an earlier agent left behind");
            remove(&entry.path())?;
        }
    }
    // A directory may be there and not be ours to use.
    let trial = tree.dir.join(format!("{}-trial", std::process::id()));
    fs::create_dir(&trial)?;
    fs::remove_dir(&trial)
}

/// Hands the controllers of this process's own group on to the groups below it. The kernel allows it only for
/// a group without processes, so this process moves into one of its own first, provided that it is alone.
fn delegate(own: &Path) -> io::Result<()> {
    let control = own.join("cgroup.subtree_control");
    let handed_on = fs::read_to_string(&control).unwrap_or_default();
    let has = |name| handed_on.split_ascii_whitespace().any(|handed_on| handed_on == name);
    if has("memory") && has("pids") {
        return Ok(());
    }
    if fs::write(&control, "+memory +pids").is_ok() {
        return Ok(());
    }
    let members = fs::read_to_string(own.join("cgroup.procs"))?;
    if members.split_ascii_whitespace().any(|pid| pid != std::process::id().to_string()) {
        return Err(io::Error::other("the agent shares its control group with other processes"));
    }
    let place = own.join(AGENT_GROUP);
    match fs::create_dir(&place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(place.join("cgroup.procs"), std::process::id().to_string())?;
    fs::write(&control, "+memory +pids")
}

/// Ends what is in a group and removes its directory.
fn remove(dir: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..REMOVE_TRIES {
        end_members(dir);
        last = fs::remove_dir(dir);
        match &last {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => std::thread::sleep(REMOVE_PAUSE),
        }
    }
    last
}

fn end_members(dir: &Path) {
    // Version 2 ends all of them at once, with those that are being forked.
    if fs::OpenOptions::new()
        .write(true)
        .open(dir.join("cgroup.kill"))
        .is_ok_and(|mut kill| io::Write::write_all(&mut kill, b"1").is_ok())
    {
        return;
    }
    let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in members.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
        // 0 stands for a process of another namespace, which is never one of ours.
        let pid = rustix::process::Pid::from_raw(pid).filter(|pid| *pid != rustix::process::getpid());
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
