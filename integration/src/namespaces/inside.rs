//! A thread that is in another namespace for a while.

use std::{fs::File, io, marker::PhantomData, os::fd::AsFd as _, path::Path};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// That this thread is in a namespace. What it opens and starts meanwhile, threads too, is there for good; the thread
/// itself is back where it was when this is dropped.
#[derive(Debug)]
pub struct Inside {
    before: File,
    /// It is this thread that goes back, and no other.
    of_this_thread: PhantomData<*const ()>,
}

impl Inside {
    /// Goes into the namespace whose file this is.
    pub(super) fn of(namespace: &Path) -> io::Result<Self> {
        let before = File::open("/proc/thread-self/ns/net")?;
        enter(&File::open(namespace)?)?;
        Ok(Self { before, of_this_thread: PhantomData })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.before) {
            eprintln!("this thread cannot leave its network namespace: {error}");
        }
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}
