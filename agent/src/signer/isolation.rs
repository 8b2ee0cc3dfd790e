//! What the kernel lets the signer do no more once its key is in a file: reach a network, start a program, look into
//! another process.
//!
//! It never does any of that. The filter is for the day on which something that it reads makes it do what it should not.
//! A PKCS#11 module is another matter: it may have to speak to a daemon or to a machine that holds the keys, so a signer
//! whose key is on a token does without.

use std::io;

/// Forbids it, for good. A kernel without filters forbids nothing; what else keeps the signer apart does not need them.
#[cfg(target_os = "linux")]
pub(super) fn cut_off() -> io::Result<()> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

    const REFUSED: &[libc::c_long] = &[
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept4,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        // It could do all of the above on another's behalf.
        libc::SYS_io_uring_setup,
    ];
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    let rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    match apply_filter(&program) {
        Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(())
        }
        applied => applied.map_err(io::Error::other),
    }
}

/// There are no such filters elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn cut_off() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{net::TcpListener, process::Command};

    use super::*;

    #[test]
    fn a_signer_reaches_no_network_and_starts_no_program() {
        // A filter holds for its thread alone.
        std::thread::spawn(|| {
            let bind = || TcpListener::bind("127.0.0.1:0").map(drop);
            let run = || Command::new("/bin/true").status().map(drop);
            bind().unwrap();
            run().unwrap();
            cut_off().unwrap();
            let refused = [bind().unwrap_err(), run().unwrap_err()];
            assert!(
                refused.iter().all(|error| error.kind() == io::ErrorKind::PermissionDenied),
                "{refused:?}"
            );
            // What it does all day still goes.
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, b"artifact").and_then(|()| file.sync_all()).unwrap();
        })
        .join()
        .unwrap();
    }
}
