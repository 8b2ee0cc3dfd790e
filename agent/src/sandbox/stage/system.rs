//! The system calls that have no safe form elsewhere. Each function does one.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    os::unix::process::CommandExt as _,
    process::Command,
};

use rustix::{mount::MountAttrFlags, process::Pid, thread::UnshareFlags};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes on a mount, and with `recursive` on every mount below it.
pub(super) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: MountAttrFlags,
    recursive: bool,
) -> io::Result<()> {
    mount_setattr(mount, u64::from(attributes.bits()), 0, recursive)
}

/// Cuts a mount and every one below it off from what happens in other mount namespaces.
pub(super) fn make_private(mount: BorrowedFd<'_>) -> io::Result<()> {
    mount_setattr(mount, 0, libc::MS_PRIVATE, true)
}

#[expect(unsafe_code, reason = "a system call that neither libc nor rustix wraps")]
fn mount_setattr(mount: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr { set, clear: 0, propagation, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, and the kernel only reads a structure of the given size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forks. `None` in the child.
#[expect(unsafe_code, reason = "fork is unsafe where threads are, and this process has one")]
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has a single thread, so no lock is held by another one.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Leaves namespaces for new ones.
#[expect(unsafe_code, reason = "file descriptors could be unshared between threads, and are not")]
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only namespaces are unshared, never the table of file descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Takes over a file descriptor that was inherited under a known number.
#[expect(unsafe_code, reason = "ownership of a number that came on the command line")]
pub(super) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is only looked at; a closed one is answered with an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    // SAFETY: the same.
    if flags < 0 || unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nothing else in this process knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes every file descriptor from `first` on close when a program is executed.
#[expect(unsafe_code, reason = "a system call that rustix does not wrap")]
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: nothing is closed now; descriptors only get a flag.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Holds back these signals and gives a descriptor that can be read when one waits.
#[expect(unsafe_code, reason = "signal masks and signalfd have no safe form")]
pub(in super::super) fn hold_back(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before it is used, and the new descriptor belongs to nobody else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal that was held back, if one waits.
pub(in super::super) fn next_signal(signals: &OwnedFd) -> Option<u8> {
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    // The kernel gives whole records, and the number is the first field.
    let count = rustix::io::read(signals, &mut record).ok()?;
    let number = record.first_chunk().filter(|_| count == record.len())?;
    u8::try_from(u32::from_ne_bytes(*number)).ok()
}

/// Ends this process by a signal, as if it had never been handled or held back.
#[expect(unsafe_code, reason = "signal actions and masks have no safe form")]
pub(in super::super) fn end_by(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no handler is installed, and the set is initialised before it is used.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        if libc::raise(signal) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Removes one capability, by its number, from what this process could ever gain. `false` when the kernel
/// knows no such number.
#[expect(unsafe_code, reason = "rustix knows only the capabilities of its own day")]
pub(super) fn drop_bounding(capability: u32) -> io::Result<bool> {
    // SAFETY: prctl with these arguments touches no memory.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        error => Err(error),
    }
}

/// Brings the loopback interface of this network namespace up.
#[expect(unsafe_code, reason = "an ioctl that rustix does not wrap")]
pub(super) fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid one, and the kernel only reads it.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = byte.cast_signed();
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many signals there are, those for real time left out: nobody ignores these.
const SIGNALS: libc::c_int = 31;

/// Starts a program in a session of its own, in which signals do what they do by themselves: an agent that was started by
/// `nohup`, or in the background of a script, ignores some, and what it starts would go on ignoring them.
#[expect(unsafe_code, reason = "code between fork and exec is unsafe by nature; it makes system calls alone")]
pub(super) fn spawn_in_session(command: &mut Command) -> io::Result<Pid> {
    // SAFETY: only async-signal-safe system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            for signal in 1..=SIGNALS {
                // The two that cannot be ignored cannot be set either.
                libc::signal(signal, libc::SIG_DFL);
            }
            rustix::process::setsid()?;
            Ok(())
        });
    }
    let child = command.spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
