//! What a source tree itself says of its modules: `go.mod`, `go.sum`, `go.work`, `go.work.sum`, `vendor/modules.txt`.
//!
//! The coordinator holds the tree, so these facts come from nobody's word. Against them stands what an executable says
//! that was linked: every module from a zip must have the hash that `go.sum` demands, every replacement must be the
//! source's own, and what came without a hash must lie in the tree, as a member of its workspace, a directory that
//! replaces a module, or vendored.
//!
//! Not here: which version of a module a build should choose. cmd/go's choice is taken, provided that `go.sum` has it.

mod directives;
mod source_modules;
mod sums;
mod vendored;

pub use source_modules::{FILE_LEN_MAX, FILES_LEN_MAX, SourceModules, is_wanted};
pub use sums::GoSums;
