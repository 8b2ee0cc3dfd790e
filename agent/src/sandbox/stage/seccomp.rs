//! The filter on system calls: what no build and no test needs and what has let programs out of sandboxes.
//!
//! A list of what is refused, not of what is allowed: user code may use any library, and namespaces and mounts
//! already hold what matters. Three programs are loaded, because one has a single answer: "no such call" where
//! a library then falls back to another, "not permitted" for the rest, and "no such address family" for sockets.

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::super::plan::Network;

/// Refused whatever the arguments are.
const NEVER: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes' insides.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Files by handle pass by every directory above them.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // The kernel's own insides.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_vhangup,
    // Keys are kept by user, not by namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine's clock and name.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Other processes' memory on other nodes.
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Refused as well, on the architecture that has them.
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[libc::c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_lookup_dcookie,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[libc::c_long] = &[];

/// Answered as if the kernel were older: the caller has another way.
const UNKNOWN: &[libc::c_long] = &[
    // Its flags lie in memory, where no filter can read them. C libraries fall back to clone.
    libc::SYS_clone3,
    // Opens files and sockets past every filter on system calls.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The namespaces that clone could make.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Type into the terminal of whoever started the agent (`TIOCSTI`), or paste into a console (`TIOCLINUX`).
const TERMINAL_TRICKS: [u64; 2] = [0x5412, 0x541c];

/// What personality may ask for: the ordinary one, what is set now, and no address randomisation, which race
/// detectors want.
const PERSONALITIES: [u64; 3] = [0, 0xffff_ffff, 0x0004_0000];

/// Loads the filters. They hold for every process that is started from now on.
pub(super) fn install(network: Network) -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    apply_filter(&foreign_numbers()).map_err(io::Error::other)?;
    for program in [unknown()?, never()?, sockets(network)?] {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, errno: libc::c_int) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn always(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn unknown() -> io::Result<BpfProgram> {
    compile(always(UNKNOWN), libc::ENOSYS)
}

fn never() -> io::Result<BpfProgram> {
    let mut rules = always(NEVER);
    rules.extend(always(NEVER_HERE));
    let mut namespaces = Vec::new();
    for flag in NAMESPACES {
        let flag = u64::from(flag.unsigned_abs());
        namespaces.push(rule(vec![argument(0, SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, namespaces);
    let mut tricks = Vec::new();
    for request in TERMINAL_TRICKS {
        tricks.push(rule(vec![argument(1, SeccompCmpOp::Eq, request)?])?);
    }
    rules.insert(libc::SYS_ioctl, tricks);
    let others = PERSONALITIES.map(|personality| argument(0, SeccompCmpOp::Ne, personality));
    rules.insert(libc::SYS_personality, vec![rule(others.into_iter().collect::<io::Result<_>>()?)?]);
    compile(rules, libc::EPERM)
}

/// Only Unix sockets, and for a program with a loopback interface also those that reach it.
fn sockets(network: Network) -> io::Result<BpfProgram> {
    let families: &[libc::c_int] = match network {
        Network::None => &[libc::AF_UNIX],
        Network::Loopback => &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
    };
    let others =
        families.iter().map(|family| argument(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())));
    let others: Vec<_> = others.collect::<io::Result<_>>()?;
    let unix = argument(0, SeccompCmpOp::Ne, u64::from(libc::AF_UNIX.unsigned_abs()))?;
    let rules = Rules::from([
        (libc::SYS_socket, vec![rule(others)?]),
        (libc::SYS_socketpair, vec![rule(vec![unix])?]),
    ]);
    compile(rules, libc::EAFNOSUPPORT)
}

/// All conditions together.
fn rule(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

/// The kernel reads each of these arguments as 32 bits, so the filter must not look at more.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).map_err(io::Error::other)
}

/// The x32 calling convention shares its architecture with x86-64 and numbers its calls apart: without this it
/// would be a way around every other filter. Calls of 32-bit programs never get here, since each filter ends a
/// process of a foreign architecture.
#[cfg(target_arch = "x86_64")]
fn foreign_numbers() -> BpfProgram {
    use seccompiler::sock_filter;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const NO_SUCH_CALL: u32 = 0x0005_0000 | libc::ENOSYS.unsigned_abs();
    vec![
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: NO_SUCH_CALL },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_fits_the_kernels_limit() {
        const INSTRUCTIONS_MAX: usize = 4096;
        for network in [Network::None, Network::Loopback] {
            for program in [unknown().unwrap(), never().unwrap(), sockets(network).unwrap()] {
                assert!(program.len() < INSTRUCTIONS_MAX, "{}", program.len());
            }
        }
    }
}
