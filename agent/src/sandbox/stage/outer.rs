//! The outer stage: from the agent's child to the parent of process 1.

use std::{
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd, RawFd},
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, WaitOptions},
};

use super::{
    super::control::{Line, Order},
    error::{During as _, StageError},
    init::{self, Parts},
    namespaces::{self, MachineProc},
    system,
};

/// The exit code of a stage that could not do its work. The report says why.
const FAILED: u8 = 125;

/// An order is a plan with its environment.
const ORDER_LEN_MAX: u64 = 8 << 20;

/// What `meridian sandbox-enter` does: reads the order from one inherited descriptor and reports on another.
/// Call it before any thread is started.
#[must_use]
pub fn enter(order_fd: RawFd, line_fd: RawFd) -> ExitCode {
    let adopted = system::adopt(order_fd).and_then(|order| Ok((order, system::adopt(line_fd)?)));
    let Ok((order, line)) = adopted else {
        eprintln!("meridian sandbox-enter is started by the agent, not by people");
        return ExitCode::from(FAILED);
    };
    let line = Line::of(line);
    match supervise(order, &line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            line.report(&error.report());
            ExitCode::from(FAILED)
        }
    }
}

fn supervise(order: OwnedFd, line: &Line) -> Result<(), StageError> {
    let order = read_order(order).during("read the plan")?;
    system::close_on_exec_from(3).during("keep file descriptors to itself")?;
    let files: Result<Vec<OwnedFd>, _> = order.files.iter().map(|number| system::adopt(*number)).collect();
    let files = files.during("take its files over")?;
    for group in &order.groups {
        // "0" is the process that writes.
        std::fs::write(group, "0").during_at("enter the control group", group)?;
    }
    let proc = MachineProc::open()?;
    namespaces::enter(&order, &proc)?;
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .during("name its own process")?;
    match system::fork().during("start process 1")? {
        None => init::run(&Parts { order: &order, files: &files, outer: &own, proc: &proc }, line),
        Some(child) => {
            drop((files, own, proc));
            wait(child, line).during("wait for process 1")
        }
    }
}

fn read_order(file: OwnedFd) -> io::Result<Order> {
    let mut text = Vec::new();
    std::fs::File::from(file).take(ORDER_LEN_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// Waits until process 1 is gone, and with it everything in its process namespace: the kernel reaps it only
/// after the last of them. Ends it when the launcher says so or is gone.
fn wait(child: Pid, line: &Line) -> io::Result<()> {
    let process = rustix::process::pidfd_open(child, PidfdFlags::empty())?;
    let mut told_to_stop = false;
    loop {
        let mut events = vec![PollFd::new(&process, PollFlags::IN)];
        if !told_to_stop {
            events.push(PollFd::from_borrowed_fd(line.as_fd(), PollFlags::RDHUP));
        }
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let hung_up = events.get(1).is_some_and(|event| !event.revents().is_empty());
        if events[0].revents().contains(PollFlags::IN) {
            rustix::process::waitpid(Some(child), WaitOptions::empty())?;
            return Ok(());
        }
        if hung_up {
            told_to_stop = true;
            // It may have ended meanwhile, which is what was wanted.
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
    }
}
