//! Gives every right away: user, capabilities, the right to gain any, and what the limits allow.

use std::io;

use rustix::{
    process::{DumpableBehavior, Gid, Resource, Rlimit, Uid},
    thread::{CapabilitySet, CapabilitySets},
};

use super::{
    super::control::Order,
    error::{During as _, StageError},
    namespaces::{MachineProc, enter_user_namespace},
    system,
};

/// Linux numbers its capabilities from 0 and has room for so many.
const CAPABILITIES_MAX: u32 = 64;

/// How much sooner than others a process is ended for want of memory; 1000 is the most.
const FIRST_TO_GO: &str = "500";

/// Becomes the build user, when there is one, in a user namespace of its own where that is allowed. Says whether there
/// is such a namespace.
pub(super) fn become_builder(order: &Order, proc: &MachineProc) -> Result<bool, StageError> {
    const STEP: &str = "become the build user";
    // Everybody else entered one first of all.
    let Some(user) = order.build_user else { return Ok(true) };
    drop_bounding_set().during(STEP)?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    rustix::thread::set_thread_groups(&[]).during(STEP)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).during(STEP)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during(STEP)?;
    // A process that changed its user may not write its own maps until it says that it has nothing to hide.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).during(STEP)?;
    match enter_user_namespace(proc) {
        // Some machines let only root make user namespaces. Nothing is lost here but the familiar user id.
        Err(error) if error.errno() == Some(libc::EPERM) || error.errno() == Some(libc::ENOSPC) => Ok(false),
        entered => entered.map(|()| true),
    }
}

/// Sets the limits and drops what is left of rights. Nothing can be mounted or mapped afterwards.
pub(super) fn give_up(order: &Order, proc: &MachineProc) -> Result<(), StageError> {
    // The filter on system calls forbids the same; where /proc/sys is read-only only that one does.
    let _ = proc.write("sys/user/max_user_namespaces", "0");
    // When the whole machine is short of memory a build goes before the agent does.
    let _ = proc.write("self/oom_score_adj", FIRST_TO_GO);
    limit(order).during("set its limits")?;
    drop_bounding_set().during("drop capabilities")?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).during("drop capabilities")?;
    rustix::thread::set_no_new_privs(true).during("renounce new rights")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hide process 1")
}

fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..CAPABILITIES_MAX {
        match system::drop_bounding(capability) {
            Ok(true) => {}
            Ok(false) => break,
            // Without capabilities there is nothing to bound.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn limit(order: &Order) -> io::Result<()> {
    let limits = &order.plan.limits;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, limits.file_bytes_max)?;
    set(Resource::Nofile, u64::from(limits.open_files_max))?;
    // Counted in the sandbox's own user namespace, so what else runs on the machine takes no part of it.
    set(Resource::Nproc, u64::from(limits.processes_max))?;
    match limits.memory_bytes_max {
        // The address space of a Go program says nothing about its memory; what it may write to does.
        Some(bytes) if !order.group_bounds_memory => set(Resource::Data, bytes),
        _ => Ok(()),
    }
}

/// Lowers a limit. One that is lower already stays: raising it takes a right that is gone.
fn set(resource: Resource, wanted: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let limit = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    Ok(())
}
