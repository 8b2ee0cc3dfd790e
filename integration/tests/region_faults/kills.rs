//! kill -9 of whatever there is, in the midst of a storm.

use std::fs;

use meridian_integration::{
    fixture::program::Program,
    process::{Process, descendants},
    regions::{HOME, Held, Plan, REGIONS, WITHIN, World},
    wait::wait_for,
};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
    // It may have ended by itself.
    let _gone = kill_process(pid, signal);
}

/// kill -9 of one process.
fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// kill -9 of a process that is found and has not ended by itself before: it is stopped first, and
/// what is stopped ends by nothing else. Most compilers live for a few milliseconds.
fn kill_in_midst(what: &str, find: impl Fn() -> Option<Process>) {
    wait_for(what, WITHIN, || {
        let found = find()?;
        signal(found.pid, Signal::STOP);
        let now = wait_for("it to stop or to end", WITHIN, || match Process::of(found.pid) {
            Some(now) if !"TZ".contains(now.state) => None,
            now => Some(now),
        });
        let stopped = now.filter(|now| now.state == 'T')?;
        if stopped.name != found.name {
            // Somebody else's, who got its number meanwhile.
            signal(stopped.pid, Signal::CONT);
            return None;
        }
        kill(stopped.pid);
        Some(())
    });
}

/// What a process was started with.
fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

#[test]
fn the_builds_of_an_agent_that_is_killed_in_a_storm_end_elsewhere() {
    let Some(mut held) = Held::begin() else { return };
    let agent = held.world.agent(HOME);
    let storm = held.world.storm(&REGIONS, 3, &[]);
    storm.wait_until_acknowledged(&held.world);
    held.world.fleet.kill_agent(agent);
    held.wait_until_taken_over();
    storm.expect_success(&held.world);
    held.world.fleet.restart_agent(agent);
    held.world.fleet.wait_until_attached(agent);
    held.expect_success().expect_whole();
}

#[test]
fn a_coordinator_that_is_killed_in_a_storm_loses_nothing_and_repeats_nothing() {
    // Leases live longer than any agent waits between two tries to reach a coordinator.
    let Some(mut held) = Held::begin_with(Plan::default()) else { return };
    let storm = held.world.storm(&REGIONS, 4, &[]);
    storm.wait_until_acknowledged(&held.world);
    for _ in 0..2 {
        held.world.fleet.kill_coordinator();
        held.world.fleet.start_coordinator();
    }
    storm.expect_success(&held.world);
    assert_eq!(held.requests(), 2, "what was under way went on");
    held.expect_success().expect_whole();
}

#[test]
fn everything_killed_at_once_in_a_storm_goes_on_where_it_was() {
    let Some(mut held) = Held::begin() else { return };
    let storm = held.world.storm(&REGIONS, 4, &[]);
    storm.wait_until_acknowledged(&held.world);
    let agents = held.world.all_agents();
    held.world.fleet.kill_coordinator();
    for agent in &agents {
        held.world.fleet.kill_agent(*agent);
    }
    for agent in &agents {
        held.world.fleet.restart_agent(*agent);
    }
    held.world.fleet.start_coordinator();
    held.proxy.release();
    storm.expect_success(&held.world);
    held.expect_success().expect_whole();
}

#[test]
fn a_signer_that_is_killed_in_a_storm_costs_no_build() {
    let Some(mut world) = World::start() else { return };
    let storm = world.storm(&REGIONS, 4, &[]);
    storm.wait_until_acknowledged(&world);
    for agent in world.all_agents() {
        let of = world.fleet.agent(agent).id();
        let signers =
            || descendants(of).into_iter().filter(|process| command_line(process.pid).contains(" signer "));
        let killed = wait_for("a signer", WITHIN, || signers().next());
        kill(killed.pid);
        wait_for("its end", WITHIN, || (!command_line(killed.pid).contains("signer")).then_some(()));
    }
    storm.expect_success(&world);
    // Each of them signs again.
    for region in REGIONS {
        world.storm(&[region], 1, &["--region", region]).expect_success(&world);
    }
    world.expect_whole();
}

#[test]
fn a_compiler_or_go_command_that_is_killed_is_the_fleets_trouble_and_not_the_users() {
    let Some(mut world) = World::start() else { return };
    let agent = world.agent(HOME);
    let of = world.fleet.agent(agent).id();
    for name in ["compile", "go"] {
        let client = &world.clients[HOME];
        let source = client.home.path().join(format!("heavy-{name}"));
        Program::heavy("example.test/heavy", 60)
            .file("name.go", &format!("package main\n\n// {name}\n"))
            .write(&source)
            .expect("a directory can be written");
        let (source, project) = (source.display().to_string(), format!("acme/heavy-{name}"));
        let arguments = [&source, "--version", "1", "--project", &project, "--region", HOME];
        let build = client.start_build(&format!("dist-{name}"), &arguments);
        kill_in_midst(&format!("a process {name}"), || {
            let all = descendants(of);
            let compiler = all.iter().find(|process| process.name == "compile")?;
            // The go command that compiles; one that lists packages or fetches ends by itself.
            let above = all.iter().find(|process| process.pid == compiler.parent)?;
            [compiler, above].into_iter().find(|process| process.name == name).cloned()
        });
        build.finish().expect_success();
        world.explain(&format!("{project}/1")).expect_code(0).expect_words(&["failed"]);
    }
    world.expect_whole();
}
