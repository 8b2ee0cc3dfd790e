//! Which namespaces there are, and who one is in them.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    thread::UnshareFlags,
};

use super::{
    super::control::Order,
    error::{During as _, StageError},
    root::open_dir,
    system,
};

/// The user and group that a sandboxed program believes to be. The same everywhere, so that no build can depend
/// on who ran the agent.
pub(super) const BUILDER_ID: u32 = 1000;

/// Every namespace but the user's. The new process namespace holds the children, not this process.
const REST: UnshareFlags = UnshareFlags::NEWNS
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWCGROUP);

/// The machine's own `/proc`, held open while the sandbox is built: the one inside shows neither the maps of
/// users in a form that can be written nor any setting.
pub(super) struct MachineProc(OwnedFd);

impl MachineProc {
    pub(super) fn open() -> Result<Self, StageError> {
        let path = Path::new("/proc");
        open_dir(path).during_at("open", path).map(Self)
    }

    /// Writes a file in one piece, which is the only way the kernel takes most of these.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
    }
}

/// Makes the namespaces. With root's rights the user namespace comes last (see
/// [`super::privileges::become_builder`]): then the mounts belong to the machine's root, and nobody in the
/// sandbox can ever be their master.
pub(super) fn enter(order: &Order, proc: &MachineProc) -> Result<(), StageError> {
    if order.build_user.is_none() {
        enter_user_namespace(proc)?;
    }
    system::unshare(REST).during("make its namespaces")
}

/// Enters a user namespace in which this process's user is [`BUILDER_ID`] and nobody else exists.
pub(super) fn enter_user_namespace(proc: &MachineProc) -> Result<(), StageError> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    system::unshare(UnshareFlags::NEWUSER).during("make a user namespace")?;
    let write = |name: &str, text: &str| proc.write(name, text).during_at("write in /proc", Path::new(name));
    // Without this an unprivileged process may not map its group: it could drop one that is held against it.
    write("self/setgroups", "deny")?;
    write("self/uid_map", &format!("{BUILDER_ID} {user} 1"))?;
    write("self/gid_map", &format!("{BUILDER_ID} {group} 1"))
}
