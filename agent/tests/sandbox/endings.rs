//! That a program ends in the sandbox as it would outside, and that all of it ends.

use std::time::{Duration, Instant};

use crate::machine::{Place, Who, has_sandbox, processes_with, wait_until};

#[test]
fn codes_and_signals_are_told_as_they_are() {
    for who in Who::all() {
        let place = Place::new(who);
        for code in [0, 1, 2, 77, 125, 126, 127, 255] {
            let done = place.attack(&["exit", &code.to_string()]).run();
            assert_eq!(done.outcome, format!("Exited({code})"));
        }
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
            let done = place.attack(&["kill", &signal.to_string()]).run();
            assert_eq!(done.outcome, format!("Signal({signal})"), "{who:?}");
        }
    }
}

#[test]
fn every_byte_of_the_output_arrives_unchanged() {
    for who in Who::all() {
        let done = Place::new(who).attack(&["bytes"]).run();
        let out: Vec<u8> = (0..64).flat_map(|_| (0..=255_u8).flat_map(|byte| [byte; 7])).collect();
        let err: Vec<u8> = (0..64).flat_map(|_| 0..=255_u8).collect();
        assert!(done.stdout == out && done.stderr == err);
        assert_eq!(done.outcome, "Exited(0)");
    }
}

#[test]
fn a_daemon_that_was_left_behind_ends_with_the_program() {
    for who in Who::all() {
        let place = Place::new(who);
        let mark = format!("daemon-of-{}-{who:?}", std::process::id());
        assert_eq!(place.attack(&["daemon", &mark]).says(), "ok: started\n");
        assert_eq!(processes_with(&mark), Vec::<u32>::new());
    }
}

#[test]
fn a_ten_hour_sleep_ends_at_the_wall_limit() {
    for who in Who::all() {
        let place = Place::new(who);
        let mark = format!("sleep-of-{}-{who:?}", std::process::id());
        let wall = Duration::from_millis(700);
        let done = place.attack(&["sleep", "36000", &mark]).limited(|limits| limits.wall = wall).run();
        assert_eq!(done.outcome, "TimedOut(700ms)");
        assert_eq!(processes_with(&mark), Vec::<u32>::new());
    }
}

#[test]
fn a_cancelled_program_is_gone_when_that_is_told() {
    for who in Who::all() {
        let place = Place::new(who);
        let mark = format!("cancelled-of-{}-{who:?}", std::process::id());
        let mut job = place.attack(&["sleep", "36000", &mark]);
        job.cancel_after = Some(Duration::from_millis(500));
        assert_eq!(job.run().outcome, "Killed");
        assert_eq!(processes_with(&mark), Vec::<u32>::new());
    }
}

#[test]
fn a_tree_that_heeds_no_signal_is_gone_within_five_seconds_of_its_cancel() {
    for who in Who::all() {
        let place = Place::new(who);
        let mark = format!("stubborn-of-{}-{who:?}", std::process::id());
        let mut job = place.attack(&["stubborn", "3", &mark]);
        // By then all four run, which the cancel below does not wait for.
        let grown = Duration::from_millis(1_500);
        job.cancel_after = Some(grown);
        let began = Instant::now();
        let mut most = 0;
        std::thread::scope(|scope| {
            let running = scope.spawn(|| job.run());
            while !running.is_finished() {
                most = most.max(processes_with(&mark).len());
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(running.join().unwrap().outcome, "Killed");
        });
        assert_eq!(processes_with(&mark), Vec::<u32>::new());
        assert!(most >= 4, "{who:?}: only {most} were seen");
        assert!(began.elapsed() < grown + Duration::from_secs(5), "{who:?}: {:?}", began.elapsed());
    }
}

#[test]
fn nothing_outlives_an_agent_that_is_killed() {
    for who in Who::all() {
        let place = Place::new(who);
        let mark = format!("orphan-of-{}-{who:?}", std::process::id());
        let mut agent = place.attack(&["sleep", "36000", &mark]).start();
        wait_until("the program runs", || !processes_with(&mark).is_empty());
        agent.kill().unwrap();
        agent.wait().unwrap();
        wait_until("the program is gone", || processes_with(&mark).is_empty());
    }
}

#[test]
fn a_program_that_is_not_there_or_is_none_is_named() {
    for who in Who::all() {
        let place = Place::new(who);
        let mut job = place.attack(&[]);
        job.plan.program = "/nonexistent/go".into();
        let done = job.run();
        assert!(done.outcome.contains("cannot start /nonexistent/go in the sandbox"), "{}", done.outcome);
        job.plan.program = "/etc/passwd".into();
        assert!(job.run().outcome.contains("ermission denied"), "{}", job.run().outcome);
    }
}

#[test]
fn a_source_that_is_not_there_is_named() {
    if !has_sandbox() {
        return;
    }
    use meridian_agent::sandbox::{Access, Mount};
    let place = Place::new(Who::Own);
    let missing = place.path("missing");
    let done = place.attack(&["exit", "0"]).with(Mount::same(&missing, Access::Read)).run();
    let expected = format!("the sandbox cannot find {}: No such file", missing.display());
    assert!(done.outcome.starts_with(&expected), "{}", done.outcome);
}
