//! What go commands beside this agent left for the next ones: which manifest belongs to which lineage, in a small file.
//!
//! The manifests themselves are in the cache's library. A file that is gone or damaged costs the next go command of each
//! lineage its head start and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use meridian_core::{
    cache::{
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
        scope::Scope,
        sidecar::{SIDECAR_MANIFESTS_MAX, SidecarManifest},
    },
    id::ProjectId,
    quantity::ByteCount,
    time::Wall,
};
use serde::{Deserialize, Serialize};

/// A manifest as the file has it.
#[derive(Serialize, Deserialize)]
struct Line {
    project: String,
    scope: String,
    lineage: [String; 3],
    manifest: String,
    size: u64,
    entries: u64,
    bytes: u64,
    written_ms: u64,
}

/// What was left, the newest first.
pub(crate) struct Left {
    path: PathBuf,
    list: Mutex<Vec<SidecarManifest>>,
    /// Held while it is written down: many go commands may end at once.
    writing: Mutex<()>,
}

impl Left {
    /// What the file says; nothing where there is none.
    pub(crate) fn open(path: &Path) -> Self {
        let lines: Vec<Line> =
            fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let mut list: Vec<_> = lines.into_iter().filter_map(Line::read).collect();
        list.truncate(SIDECAR_MANIFESTS_MAX);
        Self { path: path.to_owned(), list: Mutex::new(list), writing: Mutex::default() }
    }

    /// Everything, the newest first.
    pub(crate) fn list(&self) -> Vec<SidecarManifest> {
        self.lock().clone()
    }

    /// What the last go command of just this lineage left in a scope.
    pub(super) fn last(
        &self,
        project: &ProjectId,
        scope: &Scope,
        lineage: &Lineage,
    ) -> Option<SidecarManifest> {
        let list = self.lock();
        list.iter().find(|left| is_of(left, project, scope, lineage)).cloned()
    }

    /// Puts one in the place of the last of its lineage. `is_full` says whether there is no room to write it down, and has
    /// that told once for all that does not fit. Blocks.
    pub(super) fn note(&self, made: SidecarManifest, is_full: impl FnOnce(&io::Error) -> bool) {
        // From before it is read, so that nothing older takes the place of something newer.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = {
            let mut list = self.lock();
            list.retain(|left| !is_of(left, &made.project, &made.scope, &made.lineage));
            list.insert(0, made);
            list.truncate(SIDECAR_MANIFESTS_MAX);
            serde_json::to_vec(&list.iter().map(Line::of).collect::<Vec<_>>())
        };
        let kept = text.map_err(io::Error::other).and_then(|text| {
            let fresh = self.path.with_extension("new");
            fs::write(&fresh, text)?;
            fs::rename(&fresh, &self.path)
        });
        if let Err(error) = kept
            && !is_full(&error)
        {
            tracing::warn!(%error, "what a go command left for the next one is forgotten with this process");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SidecarManifest>> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(left: &SidecarManifest, project: &ProjectId, scope: &Scope, lineage: &Lineage) -> bool {
    left.project == *project && left.scope == *scope && left.lineage.exact == lineage.exact
}

impl Line {
    fn of(left: &SidecarManifest) -> Self {
        let Lineage { exact, any_flags, any_build } = left.lineage;
        Self {
            project: left.project.to_string(),
            scope: left.scope.to_string(),
            lineage: [exact, any_flags, any_build].map(|key| key.0.to_hex()),
            manifest: left.manifest.digest.to_hex(),
            size: left.manifest.size.0,
            entries: left.manifest.entries,
            bytes: left.manifest.bytes.0,
            written_ms: left.written.0,
        }
    }

    fn read(self) -> Option<SidecarManifest> {
        let [exact, any_flags, any_build] = self.lineage.map(|key| key.parse().ok().map(LineageKey));
        Some(SidecarManifest {
            project: self.project.parse().ok()?,
            scope: self.scope.parse().ok()?,
            lineage: Lineage { exact: exact?, any_flags: any_flags?, any_build: any_build? },
            manifest: ManifestRef {
                digest: self.manifest.parse().ok()?,
                size: ByteCount(self.size),
                entries: self.entries,
                bytes: ByteCount(self.bytes),
            },
            written: Wall(self.written_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::digest::Digest;

    use super::*;

    fn made(exact: u32, written: u64) -> SidecarManifest {
        let key = |number: u32| LineageKey(Digest::of(&number.to_be_bytes()));
        SidecarManifest {
            project: "acme/web".parse().unwrap(),
            scope: "acme/sidecar/eu/a1".parse().unwrap(),
            lineage: Lineage { exact: key(exact), any_flags: key(1_000), any_build: key(1_001) },
            manifest: ManifestRef {
                digest: Digest::of(&written.to_be_bytes()),
                size: ByteCount(1),
                entries: 2,
                bytes: ByteCount(3),
            },
            written: Wall(written),
        }
    }

    #[test]
    fn the_last_of_each_lineage_is_remembered_over_a_restart_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beside.json");
        let left = Left::open(&path);
        let note = |left: &Left, made| left.note(made, |error| panic!("{error}"));
        note(&left, made(1, 1));
        note(&left, made(2, 2));
        note(&left, made(1, 3));
        assert_eq!(left.list(), [made(1, 3), made(2, 2)]);
        let left = Left::open(&path);
        let asked = made(1, 0);
        let last = |scope: &str| left.last(&asked.project, &scope.parse().unwrap(), &asked.lineage);
        assert_eq!(last("acme/sidecar/eu/a1"), Some(made(1, 3)));
        assert_eq!(last("acme/trusted"), None);
        for number in 10..200 {
            note(&left, made(number, u64::from(number)));
        }
        assert_eq!(left.list().len(), SIDECAR_MANIFESTS_MAX);
        fs::write(&path, "damaged").unwrap();
        assert_eq!(Left::open(&path).list(), []);
    }

    #[test]
    fn many_that_end_at_once_leave_a_whole_file_with_what_all_of_them_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beside.json");
        let left = Left::open(&path);
        std::thread::scope(|scope| {
            for lineage in 0..8 {
                let left = &left;
                scope.spawn(move || {
                    for written in 0..20 {
                        left.note(made(lineage, written), |error| panic!("{error}"));
                    }
                });
            }
        });
        assert_eq!(Left::open(&path).list(), left.list());
        assert_eq!(left.list().len(), 8);
    }

    #[test]
    fn a_disk_without_room_is_told_to_whoever_tells_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("beside.new")).unwrap();
        let left = Left::open(&dir.path().join("beside.json"));
        let mut told = None;
        left.note(made(1, 1), |error| {
            told = Some(error.kind());
            true
        });
        assert_eq!(told, Some(io::ErrorKind::StorageFull));
        // It counts for as long as this process lives.
        assert_eq!(left.list(), [made(1, 1)]);
    }
}
