//! A tree of plain files in place of the kernel's. It takes whatever is written and counts what the test says.

use super::*;

struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        Self { dir }
    }

    fn hierarchy(&self, version: Version, memory: bool, pids: bool) -> Hierarchy {
        Hierarchy { version, dir: self.dir.path().to_owned(), memory, pids }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

fn limits() -> Limits {
    Limits { memory_bytes_max: Some(1 << 30), processes_max: 77, ..Limits::default() }
}

fn name() -> String {
    format!("{}-0", std::process::id())
}

#[test]
fn version_two_bounds_memory_swap_and_processes_in_one_group() {
    let fake = Fake::new();
    let groups = Groups::open(&[fake.hierarchy(Version::Two, true, true)], "meridian-x");
    assert!(groups.bounds_memory() && groups.bounds_processes());
    assert_eq!(fake.read("cgroup.subtree_control"), "+memory +pids");
    assert_eq!(fake.read("meridian-x/cgroup.subtree_control"), "+memory +pids");
    let group = groups.make(&limits()).unwrap();
    let at = format!("meridian-x/{}", name());
    assert_eq!(fake.read(&format!("{at}/memory.max")), (1_u64 << 30).to_string());
    assert_eq!(fake.read(&format!("{at}/memory.swap.max")), "0");
    assert_eq!(fake.read(&format!("{at}/memory.oom.group")), "1");
    assert_eq!(fake.read(&format!("{at}/pids.max")), "77");
    assert_eq!(group.entrances(), [fake.dir.path().join(&at).join("cgroup.procs")]);

    let count = |file: &str, text: &str| fs::write(fake.dir.path().join(&at).join(file), text).unwrap();
    assert_eq!((group.memory_kills(), group.memory_peak(), group.forks_refused()), (0, None, None));
    count("memory.events", "low 0\nhigh 3\nmax 9\noom 2\noom_kill 1\noom_group_kill 1\n");
    count("memory.peak", "123456\n");
    count("pids.events", "max 5\n");
    assert_eq!(
        (group.memory_kills(), group.memory_peak(), group.forks_refused()),
        (1, Some(123_456), Some(5))
    );
    forget(group);
}

#[test]
fn version_one_bounds_in_two_trees_and_swap_only_where_it_is_counted() {
    let (memory, pids) = (Fake::new(), Fake::new());
    let trees = [memory.hierarchy(Version::One, true, false), pids.hierarchy(Version::One, false, true)];
    let groups = Groups::open(&trees, "meridian-x");
    let group = groups.make(&limits()).unwrap();
    let at = format!("meridian-x/{}", name());
    assert_eq!(memory.read(&format!("{at}/memory.limit_in_bytes")), (1_u64 << 30).to_string());
    assert!(!memory.dir.path().join(&at).join("memory.memsw.limit_in_bytes").exists());
    assert_eq!(pids.read(&format!("{at}/pids.max")), "77");
    let oom = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n";
    fs::write(memory.dir.path().join(&at).join("memory.oom_control"), oom).unwrap();
    assert_eq!(group.memory_kills(), 4);
    assert_eq!(group.entrances().len(), 2);
    forget(group);
}

#[test]
fn a_tree_that_cannot_be_written_is_left_out() {
    let hierarchy =
        Hierarchy { version: Version::One, dir: "/nonexistent/cgroup".into(), memory: true, pids: true };
    let groups = Groups::open(&[hierarchy], "meridian-x");
    assert!(!groups.bounds_memory() && !groups.bounds_processes());
    assert_eq!(groups.make(&limits()).unwrap().entrances(), Vec::<PathBuf>::new());
}

#[test]
fn an_agent_that_is_not_alone_in_its_group_does_not_move_the_others() {
    let fake = Fake::new();
    fs::write(fake.dir.path().join("cgroup.procs"), format!("{}\n1\n", std::process::id())).unwrap();
    // A directory cannot be written like a file, as the kernel refuses a group with processes.
    fs::create_dir(fake.dir.path().join("cgroup.subtree_control")).unwrap();
    let groups = Groups::open(&[fake.hierarchy(Version::Two, true, true)], "meridian-x");
    assert!(!groups.bounds_memory());
    assert!(!fake.dir.path().join(AGENT_GROUP).exists());
}

#[test]
fn what_a_killed_agent_left_is_removed_at_the_next_start() {
    let fake = Fake::new();
    let left = fake.dir.path().join("meridian-x/999-7");
    fs::create_dir_all(&left).unwrap();
    Groups::open(&[fake.hierarchy(Version::One, true, true)], "meridian-x");
    assert!(!left.exists());
}

/// The kernel removes a group with its files in it; a plain directory must be emptied first.
fn forget(group: Group) {
    for place in &group.places {
        fs::remove_dir_all(&place.dir).unwrap();
    }
    group.remove();
}
