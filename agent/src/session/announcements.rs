//! Which manifests the coordinator is told of: those of results that it has accepted.
//!
//! A manifest is made beside the report, and either may be done first.

use std::collections::VecDeque;

use meridian_core::{
    cache::manifest_ref::ManifestRef,
    id::{Fence, TaskId},
    schedule::sketch::Sample,
};

/// How many of each are remembered; older ones are given up, and the next build of the lineage makes another.
const REMEMBERED_MAX: usize = 64;

/// What a task used of the cache, ready for others.
#[derive(Debug, Clone)]
pub(crate) struct MadeManifest {
    pub(crate) task: TaskId,
    pub(crate) fence: Fence,
    pub(crate) manifest: ManifestRef,
    pub(crate) sample: Sample,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    made: VecDeque<MadeManifest>,
    accepted: VecDeque<(TaskId, Fence)>,
}

impl Announcements {
    /// A manifest was made; gives it back when it can be told now.
    pub(super) fn made(&mut self, made: MadeManifest) -> Option<MadeManifest> {
        let place = self.accepted.iter().position(|(task, fence)| *task == made.task && *fence == made.fence);
        if let Some(place) = place {
            self.accepted.remove(place);
            return Some(made);
        }
        remember(&mut self.made, made);
        None
    }

    /// A result was accepted or not; gives its manifest when it can be told now.
    pub(super) fn settled(&mut self, task: &TaskId, fence: Fence, accepted: bool) -> Option<MadeManifest> {
        let place = self.made.iter().position(|made| made.task == *task && made.fence == fence);
        let made = place.and_then(|place| self.made.remove(place));
        if accepted && made.is_none() {
            remember(&mut self.accepted, (task.clone(), fence));
        }
        made.filter(|_| accepted)
    }
}

fn remember<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() >= REMEMBERED_MAX {
        list.pop_front();
    }
    list.push_back(one);
}

#[cfg(test)]
mod tests {
    use meridian_core::{cache::manifest_ref::ManifestRef, digest::Digest, quantity::ByteCount};

    use super::*;

    fn made(task: &str) -> MadeManifest {
        let manifest =
            ManifestRef { digest: Digest::of(b"m"), size: ByteCount(9), entries: 1, bytes: ByteCount(1) };
        MadeManifest { task: task.parse().unwrap(), fence: Fence(3), manifest, sample: Sample::default() }
    }

    #[test]
    fn a_manifest_is_told_once_its_result_is_accepted_whichever_comes_first() {
        let (first, second) = ("acme/web/1/0", "acme/web/2/0");
        let mut told = Announcements::default();
        assert!(told.made(made(first)).is_none());
        assert!(told.settled(&first.parse().unwrap(), Fence(3), true).is_some());
        assert!(told.settled(&second.parse().unwrap(), Fence(3), true).is_none());
        assert!(told.made(made(second)).is_some());
        assert!(told.made(made(second)).is_none(), "it is told once");
    }

    #[test]
    fn a_manifest_of_a_result_that_was_refused_is_never_told() {
        let mut told = Announcements::default();
        assert!(told.made(made("acme/web/1/0")).is_none());
        let task = "acme/web/1/0".parse().unwrap();
        assert!(told.settled(&task, Fence(3), false).is_none());
        assert!(told.settled(&task, Fence(3), true).is_none());
    }
}
