//! What a program may use, and how it is told when it wants more.

use crate::machine::{Place, Who};

#[test]
fn a_fork_bomb_is_bounded() {
    for who in Who::all() {
        let place = Place::new(who);
        let done = place.attack(&["forks"]).limited(|limits| limits.processes_max = 60).run();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("resource temporarily unavailable") || done.outcome == "Exited(2)", "{done:?}");
        if who.is_root() {
            assert!(done.told["forks_refused"].as_u64().is_some_and(|count| count > 0), "{}", done.told);
        }
    }
}

#[test]
fn a_file_of_100_gigabytes_cannot_be_made() {
    for who in Who::all() {
        let place = Place::new(who);
        let path = place.path("task/big");
        let size = 100_u64 << 30;
        let job = place.attack(&["big", path.to_str().unwrap(), &size.to_string()]);
        let done = job.limited(|limits| limits.file_bytes_max = 1 << 30).run();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.outcome, "Exited(4)", "{said}");
        assert_eq!(said.matches("file too large").count(), 2, "{said}");
        assert!(path.metadata().unwrap().len() <= 1 << 30);
    }
}

#[test]
fn a_full_scratch_directory_is_told_as_a_full_disk() {
    for who in Who::all() {
        let done = Place::new(who).attack(&["fill", "/tmp/file", "1000"]).run();
        assert!(String::from_utf8_lossy(&done.stdout).contains("no space left on device"));
        assert_eq!(done.outcome, "DiskFull(Scratch)");
    }
}

#[test]
fn a_task_that_writes_more_than_it_may_is_ended() {
    for who in Who::all() {
        let place = Place::new(who);
        let path = place.path("task/file");
        let job = place.attack(&["fill", path.to_str().unwrap(), "64", "and-wait"]);
        let done = job.limited(|limits| limits.disk_bytes_max = Some(16 << 20)).run();
        assert_eq!(done.outcome, "DiskFull(Task)");
    }
}

#[test]
fn a_program_that_takes_too_much_memory_is_told_so() {
    for who in Who::all() {
        let place = Place::new(who);
        let job = place.attack(&["memory"]).limited(|limits| limits.memory_bytes_max = Some(256 << 20));
        let done = job.run();
        let groups = done.told["memory_peak_bytes"].as_u64();
        match groups {
            Some(peak) => {
                assert_eq!(done.outcome, "OutOfMemory");
                let said = String::from_utf8_lossy(&done.stdout).into_owned();
                assert!((8..16).contains(&said.matches("held").count()), "{said}");
                // The kernel charges a process that it is ending beyond the bound, so that it can end: a few pages.
                assert!((128 << 20..272 << 20).contains(&peak), "{peak}");
            }
            // Without control groups the process is refused its memory, and says so itself.
            None => {
                assert_eq!(done.outcome, "Exited(2)");
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                assert!(said.contains("out of memory") || said.contains("cannot allocate memory"), "{said}");
            }
        }
        assert_eq!(groups.is_some(), who.is_root(), "{}", done.told);
    }
}
