//! Reads from `/proc` where this process may make control groups.

use std::path::{Path, PathBuf};

/// Which of the kernel's two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Version {
    /// A tree for each controller.
    One,
    /// One tree for all.
    Two,
}

/// A tree of control groups, and the place in it that belongs to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Hierarchy {
    /// Which interface it speaks.
    pub(in super::super) version: Version,
    /// The group of this process.
    pub(in super::super) dir: PathBuf,
    /// Whether it bounds memory.
    pub(in super::super) memory: bool,
    /// Whether it bounds the number of processes.
    pub(in super::super) pids: bool,
}

/// Finds the trees that bound memory or processes, from the texts of `/proc/self/mountinfo` and
/// `/proc/self/cgroup`. What version 2 bounds stands in a file of its own: `controllers` reads that.
pub(in super::super) fn find(
    mounts: &str,
    own: &str,
    controllers: impl Fn(&Path) -> String,
) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for mount in mounts.lines().filter_map(parse_mount) {
        let hierarchy = match mount.kind {
            "cgroup" => {
                let (memory, pids) = (mount.has("memory"), mount.has("pids"));
                let controller = if memory { "memory" } else { "pids" };
                let path = own_path(own, |names| names.split(',').any(|name| name == controller));
                Hierarchy { version: Version::One, dir: mount.place_of(path), memory, pids }
            }
            _ => {
                let dir = mount.place_of(own_path(own, str::is_empty));
                let offered = controllers(&dir);
                let has = |name| offered.split_ascii_whitespace().any(|offered| offered == name);
                Hierarchy { version: Version::Two, memory: has("memory"), pids: has("pids"), dir }
            }
        };
        if hierarchy.memory || hierarchy.pids {
            found.push(hierarchy);
        }
    }
    found
}

struct Mount<'a> {
    /// Which part of the tree is mounted.
    root: &'a str,
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// Where a group is that the kernel calls `path`.
    fn place_of(&self, path: &str) -> PathBuf {
        // In a container the mounted part is the container's own group, whatever the kernel calls it.
        let below = Path::new(path).strip_prefix(self.root).unwrap_or(Path::new(""));
        if below.as_os_str().is_empty() { self.at.clone() } else { self.at.join(below) }
    }
}

/// Reads `ID PARENT DEV ROOT AT OPTIONS [TAGS…] - KIND SOURCE OPTIONS`.
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, at) = (place.next()?, place.next()?);
    let mut system = system.split(' ');
    let kind = system.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    let options = system.nth(1).unwrap_or_default();
    Some(Mount { root, at: PathBuf::from(at), kind, options })
}

/// Reads the path from `NUMBER:CONTROLLERS:PATH`.
fn own_path(own: &str, wanted: impl Fn(&str) -> bool) -> &str {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        wanted(names).then_some(path)
    });
    path.unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_one_has_a_tree_for_each_controller() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs cgroup rw,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            33 30 0:29 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n\
            34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let own = "8:pids:/\n4:memory:/api/e2fb\n1:cpu:/\n0::/\n";
        let found = find(mounts, own, |_| String::new());
        let place =
            |dir: &str, memory| Hierarchy { version: Version::One, dir: dir.into(), memory, pids: !memory };
        let expected = [place("/sys/fs/cgroup/memory/api/e2fb", true), place("/sys/fs/cgroup/pids", false)];
        assert_eq!(found, expected);
    }

    #[test]
    fn version_two_offers_what_its_own_file_says() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/system.slice/meridian-agent.service\n";
        let found = find(mounts, own, |dir| {
            assert!(dir.ends_with("system.slice/meridian-agent.service"));
            "cpu memory pids\n".into()
        });
        let dir = "/sys/fs/cgroup/system.slice/meridian-agent.service".into();
        assert_eq!(found, [Hierarchy { version: Version::Two, dir, memory: true, pids: true }]);
        assert_eq!(find(mounts, own, |_| "cpu".into()), []);
    }

    #[test]
    fn a_container_that_sees_only_its_own_group_makes_groups_there() {
        let mounts = "30 24 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = find(mounts, "4:memory:/docker/abc\n", |_| String::new());
        assert_eq!(found[0].dir, Path::new("/sys/fs/cgroup/memory"));
    }
}
