//! What a sandbox leaves on the machine: nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;

use crate::machine::{Place, Who, has_sandbox, processes_with, sandbox_program, wait_until};

/// The control groups of the agent whose state is in `state`.
fn groups_of(state: &Path) -> Vec<PathBuf> {
    let name = format!(
        "meridian-{}",
        &Digest::of(state.canonicalize().unwrap().as_os_str().as_encoded_bytes()).to_hex()[..16]
    );
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str() == Some(&name) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn an_agent_that_was_killed_leaves_no_mounts_and_the_next_one_removes_its_groups() {
    for who in Who::all() {
        let place = Place::new(who);
        let before = fs::read_to_string("/proc/self/mounts").unwrap();
        let mark = format!("left-of-{}-{who:?}", std::process::id());
        let mut agent = place.attack(&["sleep", "36000", &mark]).start();
        wait_until("the program runs", || !processes_with(&mark).is_empty());
        let groups = groups_of(&place.path("state"));
        assert_eq!(groups.is_empty(), !who.is_root(), "{groups:?}");
        agent.kill().unwrap();
        agent.wait().unwrap();
        wait_until("the program is gone", || processes_with(&mark).is_empty());
        assert_eq!(groups_of(&place.path("state")), groups);
        assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), before);
        place.attack(&["exit", "0"]).says();
        assert_eq!(groups_of(&place.path("state")), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_was_written_belongs_to_the_build_and_not_to_root() {
    use std::os::unix::fs::MetadataExt as _;
    for who in Who::all() {
        let place = Place::new(who);
        let path = place.path("task/file");
        place.attack(&["write", path.to_str().unwrap()]).says();
        assert_eq!(fs::read_to_string(&path).unwrap(), "changed");
        let owner = fs::metadata(&path).unwrap().uid();
        if who.is_root() {
            assert_eq!(owner, 65_533);
        }
        assert_ne!(owner, 0);
    }
}

#[test]
fn the_doctor_finds_what_the_tests_found() {
    if !has_sandbox() {
        return;
    }
    let place = Place::new(Who::Own);
    let doctor = std::process::Command::new(sandbox_program())
        .arg("doctor")
        .arg(place.path("state"))
        .output()
        .unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    for name in ["user namespaces", "mount namespaces", "process namespaces", "network namespaces", "sandbox"]
    {
        let line = text.lines().find(|line| line[9..].starts_with(name));
        assert!(line.is_some_and(|line| line.starts_with("ok ")), "{name}:\n{text}");
    }
}
