//! Which refusals of the operating system say something of this process, and nothing of what lies on the disk.
//!
//! What cannot be read for one of these reasons is good again later, and stays. After any other the disk does not give
//! it back any more, which is damage: a copy that another agent brings, or a compiler makes, takes its place.

use std::io;

use rustix::io::Errno;

/// Whether something cannot be read only now: for want of descriptors, memory or rights, or because a call was cut short.
pub(crate) fn is_not_now(error: &io::Error) -> bool {
    let of_the_process = |errno| {
        matches!(
            errno,
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::ACCESS
                | Errno::PERM
                | Errno::INTR
                | Errno::AGAIN
        )
    };
    // A buffer that cannot grow comes without a number.
    Errno::from_io_error(error).is_some_and(of_the_process) || error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_lacks_something_says_nothing_of_the_disk_and_a_disk_that_fails_does() {
        let is_not_now = |errno: Errno| is_not_now(&io::Error::from(errno));
        for errno in
            [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::PERM, Errno::INTR, Errno::AGAIN]
        {
            assert!(is_not_now(errno), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOENT, Errno::LOOP, Errno::ISDIR, Errno::BADMSG, Errno::STALE] {
            assert!(!is_not_now(errno), "{errno}");
        }
        assert!(super::is_not_now(&io::ErrorKind::OutOfMemory.into()));
        assert!(!super::is_not_now(&io::ErrorKind::InvalidData.into()));
    }
}
