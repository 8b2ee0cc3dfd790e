//! Process 1 of the sandbox: lays it out, locks it, starts the program and reaps.
//!
//! It holds the line to the launcher, so the program must not be able to reach into it: it cannot be traced,
//! is not shown in `/proc`, and is under the same filters.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    process::Command,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Mode,
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

use super::{
    super::{
        control::{Heard, Line, Order, Report, START_STEP},
        outcome::Around,
        plan::{Mount, Network},
    },
    error::{During as _, StageError},
    landlock,
    namespaces::MachineProc,
    privileges,
    root::Root,
    seccomp, system,
};

/// The name of the machine inside.
const HOST_NAME: &[u8] = b"meridian";

/// What the outer stage leaves to process 1.
pub(super) struct Parts<'a> {
    /// What to do.
    pub(super) order: &'a Order,
    /// The files for copies.
    pub(super) files: &'a [OwnedFd],
    /// The outer stage itself.
    pub(super) outer: &'a OwnedFd,
    /// The machine's `/proc`.
    pub(super) proc: &'a MachineProc,
}

/// Runs process 1 to its end. Never returns to the caller, who is the outer stage's copy.
pub(super) fn run(parts: &Parts<'_>, line: &Line) -> ! {
    let code = match set_up(parts) {
        Ok((program, signals, around)) => {
            let report = reap(program, &signals, line, parts.order, around);
            report.inspect(|report| line.report(report)).map_or(1, |_| 0)
        }
        Err(error) => {
            line.report(&error.report());
            1
        }
    };
    std::process::exit(code)
}

/// Builds and locks the sandbox and starts the program.
fn set_up(parts: &Parts<'_>) -> Result<(Pid, OwnedFd, Around), StageError> {
    let &Parts { order, files, outer, proc } = parts;
    let plan = &order.plan;
    end_with(outer)?;
    // For the files made here, and for the program: its files must not depend on who ran the agent.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::system::sethostname(HOST_NAME).during("name the machine")?;
    if plan.network == Network::Loopback {
        system::bring_loopback_up().during("bring the loopback interface up")?;
    }
    Root::lay_out(order, files)?.move_in()?;
    let user = privileges::become_builder(order, proc)?;
    // A change of user takes the wish back.
    end_with(outer)?;
    privileges::give_up(order, proc)?;
    let landlock = landlock::restrict(plan).during("restrict itself by Landlock")?;
    let signals = system::hold_back(&[libc::SIGCHLD]).during("hear of its children")?;
    seccomp::install(plan.network).during("filter system calls")?;
    let mut command = Command::new(&plan.program);
    command
        .args(&plan.args)
        .env_clear()
        .envs(plan.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&plan.dir);
    let program = system::spawn_in_session(&mut command).during_at(START_STEP, &plan.program)?;
    Ok((program, signals, Around { user, landlock, ..Around::default() }))
}

/// Makes sure that this process ends with the outer stage, and that one with the agent.
fn end_with(outer: &OwnedFd) -> Result<(), StageError> {
    const STEP: &str = "tie itself to its parent";
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).during(STEP)?;
    // The parent may have ended before the line above. It is outside this process namespace, so its id says
    // nothing here; its descriptor does.
    let mut events = [PollFd::new(outer, PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    if poll(&mut events, Some(&now)).during(STEP)? > 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH)).during(STEP);
    }
    Ok(())
}

/// Reaps whatever ends, passes signals on, and returns when the program has ended.
fn reap(program: Pid, signals: &OwnedFd, line: &Line, order: &Order, around: Around) -> io::Result<Report> {
    loop {
        let mut events =
            [PollFd::from_borrowed_fd(line.as_fd(), PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !events[0].revents().is_empty() {
            match line.hear() {
                Heard::Message(message) => pass_on(&message, program),
                Heard::Nothing => {}
                // Ending here ends everything.
                Heard::End => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        // One signal stands for any number of ended children.
        while system::next_signal(signals).is_some() {}
        while let Some((pid, status)) = rustix::process::wait(WaitOptions::NOHANG).ok().flatten() {
            if pid == program {
                return Ok(ended(status, order, around));
            }
        }
    }
}

fn pass_on(message: &[u8], program: Pid) {
    let signal = message.first().and_then(|number| Signal::from_named_raw(i32::from(*number)));
    if let Some(signal) = signal {
        // It may have ended meanwhile; then there is nobody to tell.
        let _ = rustix::process::kill_process(program, signal);
    }
}

fn ended(status: WaitStatus, order: &Order, around: Around) -> Report {
    let code = status.exit_status();
    let failed = code != Some(0);
    Report::Ended {
        code,
        signal: status.terminating_signal(),
        scratch_full: failed && order.plan.mounts.iter().any(is_full),
        user: around.user,
        landlock: around.landlock,
    }
}

/// Whether a mount is a scratch directory in which less than one buffered write fits.
fn is_full(mount: &Mount) -> bool {
    const WRITE_LEN: u64 = 32 << 10;
    let Mount::Scratch { target, bytes_max, .. } = mount else { return false };
    // A small one counts as full only when it is nearly so.
    let wanted = WRITE_LEN.min(bytes_max / 2);
    rustix::fs::statvfs(target).is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) < wanted)
}
