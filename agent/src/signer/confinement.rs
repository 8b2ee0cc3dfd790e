//! What the signer's process gives up: being looked into, being written to disk, rights, and the agent's user.
//!
//! In this order: it hides before it reads anything, reads the secrets that only the agent's user may read, and becomes
//! its own user before it opens a key or loads a module. It has no thread but this one, and all of it is one-way.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::user::RunAs;

/// Why the signer does not go on.
#[derive(Debug, thiserror::Error)]
#[error("the signer cannot {step}: {source}")]
pub(super) struct ConfinementError {
    step: &'static str,
    source: io::Error,
}

trait During<T> {
    fn during(self, step: &'static str) -> Result<T, ConfinementError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: &'static str) -> Result<T, ConfinementError> {
        self.map_err(|source| ConfinementError { step, source: source.into() })
    }
}

/// Leaves no core file, can gain no rights by a program that it runs, and is closed to every process but root's: a
/// process that is not dumpable cannot be traced, and its memory, environment and descriptors below `/proc` are root's.
/// Closes whatever descriptor but the three standard ones came with it.
pub(super) fn hide() -> Result<(), ConfinementError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).during("forbid core files")?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hide its memory")?;
        rustix::thread::set_no_new_privs(true).during("renounce new rights")?;
        close_inherited().during("close what it inherited")?;
    }
    Ok(())
}

/// Keeps all of its memory out of swap, where it may: as root, or where the limit on locked memory is off. Elsewhere a
/// lock on what is there now would make it fail when it needs more.
pub(super) fn stay_in_memory() {
    use rustix::mm::{MlockAllFlags, mlockall};
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // Its next user must be held to no limit that it does not know of.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    }
    if rustix::process::getrlimit(Resource::Memlock).current.is_none() {
        #[cfg(target_os = "linux")]
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        #[cfg(not(target_os = "linux"))]
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE;
        let _ = mlockall(flags);
    }
}

/// Whether this process, or one that it starts, may become another user and give files to it.
pub(super) fn may_change_user() -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CapabilitySet, capabilities};
        let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
        capabilities(None).is_ok_and(|held| held.effective.contains(wanted))
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Becomes `user` for good: no other group, no capability, no way back.
#[cfg(target_os = "linux")]
pub(super) fn become_user(user: RunAs) -> Result<(), ConfinementError> {
    use rustix::{
        process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior},
        thread::{
            CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups, set_thread_res_gid,
            set_thread_res_uid,
        },
    };
    const STEP: &str = "become its own user (does the agent have CAP_SETUID and CAP_SETGID?)";
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&[]).during(STEP)?;
    set_thread_res_gid(gid, gid, gid).during(STEP)?;
    set_thread_res_uid(uid, uid, uid).during(STEP)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).during("drop its capabilities")?;
    if set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
        return Err(io::Error::other("root could be had back")).during(STEP);
    }
    // Changing the user may have set it anew.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hide its memory")
}

/// Becoming another user needs calls that only Linux has here.
#[cfg(not(target_os = "linux"))]
pub(super) fn become_user(_user: RunAs) -> Result<(), ConfinementError> {
    Err(io::Error::from(io::ErrorKind::Unsupported)).during("become another user on this system")
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "closing descriptors by number has no safe form")]
fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above the standard ones yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
