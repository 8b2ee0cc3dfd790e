//! What the session asks of a Go build, and what it gets.

use std::{path::PathBuf, sync::Arc};

use meridian_cache::{gocache::NativeCache, local::TaskScope, prefetch::Supply};
use meridian_core::{
    digest::Digest,
    id::Fence,
    machine::{effect::Work, input::Progress},
    sandbox::Sandbox,
};
use tokio_util::sync::CancellationToken;

use crate::{removal::OwnDir, source::SourceTree};

/// Hears how far a build is. Called often; the hearer throttles.
pub type ProgressSink<'a> = dyn Fn(Progress) + Send + Sync + 'a;

/// Hears what the tools say, piece by piece, not necessarily in whole lines.
pub type LogSink<'a> = dyn Fn(&[u8]) + Send + Sync + 'a;

/// What every step of a run is given: who listens, and who may stop it.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Hears how far it is.
    pub progress: &'a ProgressSink<'a>,
    /// Hears what the tools say.
    pub log: &'a LogSink<'a>,
    /// Under which lease, for the trace; 0 before there is one.
    pub fence: Fence,
    /// Stops it, with its whole process tree.
    pub cancel: &'a CancellationToken,
}

/// The build cache that one task may use, in the way that its Go can.
#[derive(Clone)]
pub enum BuildCache {
    /// Go asks a program.
    Program(CacheAccess),
    /// Go before 1.24 has a directory, which is filled before the build and gathered in afterwards.
    Directory(Arc<NativeCache>),
}

/// The cache program of one task.
#[derive(Debug, Clone)]
pub struct CacheAccess {
    /// The value of GOCACHEPROG: the shim's command with the socket of this task's own.
    pub command: String,
    /// The shim in that command.
    pub program: PathBuf,
    /// The socket in that command.
    pub socket: PathBuf,
    /// The task's own view of the bodies, where the files lie whose names the cache answers.
    pub view: PathBuf,
}

/// Where a binary that was built before may come from: this agent's own, and what other agents made.
#[derive(Clone)]
pub struct Previous {
    /// Knows what other agents made.
    pub supply: Arc<Supply>,
    /// Whose word on it counts.
    pub scope: TaskScope,
}

/// The files to build from.
#[derive(Debug, Clone)]
pub enum SourceRef {
    /// A module at a version; the work's resolution names it.
    Module,
    /// A materialised tree.
    Tree(Arc<SourceTree>),
}

/// One compile task.
#[derive(Clone)]
pub struct BuildRequest<'a> {
    /// What to build. Its kind must be a compile.
    pub work: &'a Work,
    /// From what.
    pub source: SourceRef,
    /// Where binaries that were built before may come from; `None` links anew.
    pub previous: Option<Previous>,
    /// With which build cache; `None` builds with an empty one.
    pub cache: Option<BuildCache>,
}

/// What a compile task made.
#[derive(Debug)]
pub struct BuiltTask {
    /// One for each package of the spec, in its order.
    pub files: Vec<BuiltFile>,
    /// The toolchain's version as it reports itself, such as `go1.27.3`.
    pub go_version: String,
    /// What stood around every command of the compile.
    pub sandbox: Sandbox,
    /// The task's own directory, which holds the files. Dropping it deletes them.
    pub dir: OwnDir,
}

/// One executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltFile {
    /// The package as the spec names it.
    pub package: String,
    /// The artifact's file name: `NAME_VERSION_OS_ARCH[.exe]`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The digest of all that it was built from.
    pub inputs: Digest,
}
