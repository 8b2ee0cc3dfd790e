//! Reads a Go executable for every platform that Go builds for, and says why two of them differ.
//!
//! Who has only an artifact's bytes can still ask what it says of itself: which Go built it, from which modules,
//! with which settings ([`BuildInfo`]), under which build id, and whether it was altered after the go command let
//! go of it ([`BuildId`]). [`compare`] turns "the digests differ" into sections, symbols, settings and a cause.
//!
//! Input is hostile by assumption: every count and length is checked against the bytes that are there, and what
//! is kept is bounded. ELF, Mach-O (universal files by their first member, as Go itself does), PE and wasm are
//! understood; Plan 9's and AIX's formats are not.
//!
//! Not here: whether what an executable says is what was ordered (its build info is only as honest as its
//! builder), debug information (DWARF sections are compared as bytes), and instructions.

mod build_id;
mod build_info;
mod cause;
mod compare;
mod divergence;
mod elf;
mod fields;
mod function_table;
mod layout;
mod macho;
mod module_text;
mod ownership;
mod paths;
mod pe;
mod quote;
mod reader;
mod source;
mod symbol;
mod wasm;

pub use build_id::{BuildId, Integrity};
pub use build_info::{BuildInfo, BuildInfoError, Module, Setting, read_build_info};
pub use cause::{Cause, Side};
pub use compare::compare;
pub use divergence::{Divergence, FieldDifference, PathDifference, SectionDifference};
pub use fields::Field;
pub use function_table::{Function, FunctionTable};
pub use layout::{ExecutableError, Format, Section};
pub use reader::{Executable, SectionDigest};
pub use symbol::Symbol;
