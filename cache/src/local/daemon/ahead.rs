//! What a connection is told ahead of its questions: what follows in the manifest that the task was placed with.
//!
//! A build asks mostly what the last one of its lineage asked, in nearly that order. So after an answer the daemon says what
//! the next questions will be answered with, as far as the bodies are here, and the shim answers those by itself. Each is
//! looked up, checked and shown to the task as if it had been asked for. Nothing is ever waited for: an answer goes out
//! before what is told ahead, and whoever asks meanwhile is answered first.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    os::unix::net::UnixStream,
    sync::atomic::Ordering,
};

use rustix::net::{RecvFlags, recv};

use super::{TaskCache, TaskState};
use crate::{
    entry::{ActionId, Entry},
    local::{
        foretold::TOLD_MAX,
        wire::{Found, Said},
    },
};

/// How far beyond the last question is told. Builds go on with several packages at once, so their questions are not quite
/// in the order of the manifest; and the shim says only now and then what it used.
const WINDOW: usize = 64;
/// So many are told at once. Each takes some ten microseconds, mostly the link, and a question that comes meanwhile waits.
const STEP: usize = 8;

/// What one connection was told ahead.
#[derive(Default)]
pub(in crate::local) struct Ahead {
    /// Where the last question stands that the manifest lists.
    place: Option<usize>,
    /// The places that were told or asked for.
    told: HashSet<usize>,
    /// What was told and not used.
    unused: HashMap<ActionId, Entry>,
    /// Nobody reads what is told any more.
    is_over: bool,
}

impl Ahead {
    /// The caller asks for `action`.
    pub(in crate::local) fn asked(&mut self, task: &TaskState, action: &ActionId) {
        let Some(place) = task.supply.as_ref().and_then(|supply| supply.place_of(&task.namespaces, action))
        else {
            return;
        };
        self.told.insert(place);
        self.place = Some(place);
    }

    /// A question for `action` was answered with what had been told: it counts as any other.
    pub(in crate::local) fn used(&mut self, task: &TaskState, action: &ActionId) {
        // Nobody is believed to have used what was not told.
        let Some(entry) = self.unused.remove(action) else { return };
        self.asked(task, action);
        task.recorder().foretold(*action, entry);
        task.count_get(Some(entry.size));
        task.foretold.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells what comes next, until the window is told or a call comes in.
    pub(in crate::local) fn tell(&mut self, task: &TaskState, mut stream: &UnixStream, frame: &mut Vec<u8>) {
        let (Some(supply), Some(place)) = (&task.supply, self.place) else { return };
        while !self.is_over && self.unused.len() + STEP <= TOLD_MAX {
            let places = (place + 1..=place + WINDOW).filter(|place| !self.told.contains(place));
            let next = supply.here_among(places, STEP);
            if next.is_empty() {
                return;
            }
            frame.clear();
            for (place, action) in next {
                self.told.insert(place);
                // Between two looks a body may have gone, or turned out to be damaged.
                let Some((entry, path)) = task.find_here(&action) else { continue };
                self.unused.insert(action, entry);
                Said::Ahead { action, found: Found::new(&entry, path) }.encode(frame);
            }
            // Who hangs up may have said before what it used.
            self.is_over = stream.write_all(frame).is_err();
            if is_calling(stream) {
                return;
            }
        }
    }
}

impl TaskCache {
    /// How many of the questions so far the shim answered by itself, with what it had been told ahead of them.
    #[must_use]
    pub fn foretold(&self) -> u64 {
        self.state.foretold.load(Ordering::Relaxed)
    }
}

/// Whether there is something to read, without waiting for it.
fn is_calling(stream: &UnixStream) -> bool {
    recv(stream, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok()
}
