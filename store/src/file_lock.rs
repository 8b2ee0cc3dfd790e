//! The lock that keeps a second process out of a directory.
//!
//! A lock belongs to the open file, and every child has that file open between its fork and its exec. So a
//! directory whose owner is gone can look owned for a moment, which is not worth a refusal.

use std::{
    fs::{File, TryLockError},
    thread,
    time::{Duration, Instant},
};

/// How long an owner that is about to let go is waited for.
const WAIT_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Locks `file`, and waits up to two seconds for another owner to let go. Blocks.
///
/// # Errors
/// [`TryLockError::WouldBlock`] when the other owner stays; otherwise the system's own trouble.
pub fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if started.elapsed() < WAIT_MAX => thread::sleep(PAUSE),
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_lets_go_is_waited_for_and_one_that_stays_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let owner = File::create(&path).unwrap();
        owner.lock().unwrap();
        let other = File::open(&path).unwrap();
        assert!(matches!(lock_soon(&other), Err(TryLockError::WouldBlock)));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| lock_soon(&other));
            owner.unlock().unwrap();
            assert!(waiting.join().unwrap().is_ok());
        });
    }
}
