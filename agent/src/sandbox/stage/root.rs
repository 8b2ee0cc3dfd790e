//! The sandbox's root file system: laid out beside the machine's, then moved into.
//!
//! Every source is cloned as a detached mount before anything is laid out, so that no path is looked up twice,
//! and each place is found by the kernel *within* the new root, so that a link in it leads nowhere else.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use super::{
    super::{
        control::Order,
        plan::{Access, Mount},
    },
    error::{During as _, StageError},
    system,
};

/// Room for the root itself: directories, links and small files.
const ROOT_BYTES_MAX: u64 = 4 << 20;
/// Room in `/dev/shm`.
const SHARED_MEMORY_BYTES_MAX: u64 = 64 << 20;
/// What a copy's own directory needs beside the file, rounded to whole pages.
const COPY_SLACK_BYTES: u64 = 1 << 20;

/// The devices that a program may expect and that know nothing.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// The links of `/dev`.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// What holds for every mount of a sandbox.
const ALWAYS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// A mount that has a place to go.
struct Placed<'a> {
    target: &'a Path,
    mount: OwnedFd,
    is_dir: bool,
}

/// A root that is laid out.
pub(super) struct Root {
    mount: OwnedFd,
}

impl Root {
    /// Lays out what the order's plan names.
    pub(super) fn lay_out(order: &Order, files: &[OwnedFd]) -> Result<Self, StageError> {
        let machine = open_dir(Path::new("/")).during("open the machine's root")?;
        system::make_private(machine.as_fd()).during("part from the machine's mounts")?;
        let sources = sources(order)?;
        let devices = devices()?;
        let mount = memory(ROOT_BYTES_MAX, 0o755, None).during("make a root in memory")?;
        rustix::mount::move_mount(&mount, "", CWD, &order.anchor, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during_at("mount the new root at", &order.anchor)?;
        let root = Self { mount };
        root.lay_out_system(devices)?;
        // What is mounted at a directory hides what lay below it before, so directories come before their content.
        let mut entries: Vec<_> = order.plan.mounts.iter().zip(sources).collect();
        entries.sort_by_key(|(entry, _)| entry.target().components().count());
        for (entry, source) in entries {
            match entry {
                Mount::Bind { target, access, .. } => {
                    let Some(mount) = source else { continue };
                    let is_dir =
                        *access != Access::Connect && is_dir(mount.as_fd()).during_at("look at", target)?;
                    root.attach(&Placed { target, mount, is_dir })?;
                }
                Mount::Scratch { target, bytes_max, run } => {
                    root.scratch(target, *bytes_max, *run, order.build_user)?;
                }
                Mount::File { target, text } => root.file(target, text).during_at("write", target)?,
                Mount::Link { target, to } => root.link(target, to).during_at("make the link", target)?,
                Mount::Copy { target, file, bytes } => {
                    let file = files.get(*file).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
                    let file = file.during_at("find the file for", target)?;
                    root.copy(target, file, *bytes)?;
                }
            }
        }
        Ok(root)
    }

    /// Makes this the root of the process and lets go of the machine's.
    pub(super) fn move_in(self) -> Result<(), StageError> {
        rustix::process::fchdir(&self.mount).during("enter the new root")?;
        // The old root is now mounted over the new one, and the next line takes it away.
        rustix::process::pivot_root(".", ".").during("change the root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).during("let go of the machine's root")?;
        rustix::process::chdir("/").during("enter the new root")?;
        let closed = ALWAYS | MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        system::set_mount_attributes(self.mount.as_fd(), closed, false).during("close the new root")
    }

    /// `/proc` and `/dev`.
    fn lay_out_system(&self, devices: Vec<(PathBuf, OwnedFd)>) -> Result<(), StageError> {
        let proc = own_proc().during("make a /proc of its own")?;
        self.attach(&Placed { target: Path::new("/proc"), mount: proc, is_dir: true })?;
        let dev = memory(ROOT_BYTES_MAX, 0o755, None).during("make a /dev")?;
        system::set_mount_attributes(dev.as_fd(), MountAttrFlags::MOUNT_ATTR_NOEXEC, false)
            .during("make a /dev")?;
        let dev = Placed { target: Path::new("/dev"), mount: dev, is_dir: true };
        self.attach(&dev)?;
        for (target, mount) in devices {
            self.attach(&Placed { target: &target, mount, is_dir: false })?;
        }
        for (target, to) in DEVICE_LINKS {
            self.link(Path::new(target), Path::new(to)).during_at("make the link", Path::new(target))?;
        }
        let shared = memory(SHARED_MEMORY_BYTES_MAX, 0o1777, None).during("make /dev/shm")?;
        let closed = ALWAYS | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        system::set_mount_attributes(shared.as_fd(), closed, false).during("make /dev/shm")?;
        self.attach(&Placed { target: Path::new("/dev/shm"), mount: shared, is_dir: true })?;
        system::set_mount_attributes(dev.mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)
            .during("close /dev")
    }

    fn scratch(
        &self,
        target: &Path,
        bytes_max: u64,
        run: bool,
        owner: Option<u32>,
    ) -> Result<(), StageError> {
        const STEP: &str = "make the scratch directory";
        let mount = memory(bytes_max, 0o700, owner).during_at(STEP, target)?;
        let closed = if run { ALWAYS } else { ALWAYS | MountAttrFlags::MOUNT_ATTR_NOEXEC };
        system::set_mount_attributes(mount.as_fd(), closed, false).during_at(STEP, target)?;
        self.attach(&Placed { target, mount, is_dir: true })
    }

    fn copy(&self, target: &Path, file: &OwnedFd, bytes: u64) -> Result<(), StageError> {
        const STEP: &str = "copy the program to";
        let dir = target.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename));
        let dir = dir.during_at(STEP, target)?;
        let mount = memory(bytes.saturating_add(COPY_SLACK_BYTES), 0o755, None).during_at(STEP, target)?;
        self.attach(&Placed { target: dir, mount, is_dir: true })?;
        let copied = || -> io::Result<()> {
            let into = self.place(dir, true)?;
            let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(&into, name, flags, Mode::from_raw_mode(0o755))?;
            // The other side may still hold the file and its position.
            let mut from = std::fs::File::from(file.try_clone()?);
            io::Seek::rewind(&mut from)?;
            let mut from = io::Read::take(from, bytes);
            io::copy(&mut from, &mut std::fs::File::from(copy))?;
            system::set_mount_attributes(into.as_fd(), ALWAYS | MountAttrFlags::MOUNT_ATTR_RDONLY, false)
        };
        copied().during_at(STEP, target)
    }

    fn file(&self, target: &Path, text: &str) -> io::Result<()> {
        let place = self.place(target.parent().ok_or(io::ErrorKind::InvalidFilename)?, true)?;
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place, name, flags, Mode::from_raw_mode(0o444))?;
        io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
    }

    fn link(&self, target: &Path, to: &Path) -> io::Result<()> {
        let place = self.place(target.parent().ok_or(io::ErrorKind::InvalidFilename)?, true)?;
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        Ok(rustix::fs::symlinkat(to, place, name)?)
    }

    fn attach(&self, placed: &Placed<'_>) -> Result<(), StageError> {
        let place = self.place(placed.target, placed.is_dir).during_at("make room for", placed.target)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&placed.mount, "", &place, "", flags).during_at("mount", placed.target)
    }

    /// Finds a place in the new root, or makes it and the directories above it.
    fn place(&self, target: &Path, is_dir: bool) -> io::Result<OwnedFd> {
        let mut names = Vec::new();
        for part in target.components() {
            match part {
                Component::RootDir => {}
                Component::Normal(name) => names.push(name),
                _ => return Err(io::ErrorKind::InvalidFilename.into()),
            }
        }
        let mut found = self.find(Path::new("."))?;
        let mut path = PathBuf::new();
        for (index, name) in names.iter().enumerate() {
            path.push(name);
            found = match self.find(&path) {
                Ok(next) => next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if is_dir || index + 1 < names.len() {
                        rustix::fs::mkdirat(&found, *name, Mode::from_raw_mode(0o755))?;
                    } else {
                        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                        rustix::fs::openat(&found, *name, flags, Mode::from_raw_mode(0o444))?;
                    }
                    self.find(&path)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(found)
    }

    fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.mount, path, flags, Mode::empty(), resolve)?)
    }
}

/// For each mount of the plan, a detached clone of its source with what may be done with it, if it is a bind.
fn sources(order: &Order) -> Result<Vec<Option<OwnedFd>>, StageError> {
    let clone_of = |entry: &Mount| {
        let Mount::Bind { source, access, .. } = entry else { return Ok(None) };
        let mount = clone(source).during_at("find", source)?;
        let mut attributes = ALWAYS;
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !access.writes());
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !access.runs());
        system::set_mount_attributes(mount.as_fd(), attributes, true).during_at("close", source)?;
        Ok(Some(mount))
    };
    order.plan.mounts.iter().map(clone_of).collect()
}

fn devices() -> Result<Vec<(PathBuf, OwnedFd)>, StageError> {
    let mut cloned = Vec::new();
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let mount = clone(&path).during_at("find", &path)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        system::set_mount_attributes(mount.as_fd(), attributes, true).during_at("close", &path)?;
        cloned.push((path, mount));
    }
    Ok(cloned)
}

fn clone(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

fn is_dir(file: BorrowedFd<'_>) -> io::Result<bool> {
    let found = rustix::fs::fstat(file)?;
    Ok(rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir())
}

/// A file system in memory that belongs to `owner`, or to this process.
pub(super) fn memory(bytes_max: u64, mode: u32, owner: Option<u32>) -> io::Result<OwnedFd> {
    let system = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: String| rustix::mount::fsconfig_set_string(&system, key, value);
    set("size", bytes_max.to_string())?;
    set("mode", format!("{mode:o}"))?;
    if let Some(owner) = owner {
        set("uid", owner.to_string())?;
        set("gid", owner.to_string())?;
    }
    rustix::mount::fsconfig_create(&system)?;
    Ok(rustix::mount::fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, ALWAYS)?)
}

/// A `/proc` of this process namespace: no processes of others, and nothing but processes.
pub(super) fn own_proc() -> io::Result<OwnedFd> {
    let system = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&system, "subset", "pid")?;
    rustix::mount::fsconfig_set_string(&system, "hidepid", "invisible")?;
    rustix::mount::fsconfig_create(&system)?;
    let attributes = ALWAYS | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(rustix::mount::fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}
