//! Go's text templates, as far as GoReleaser's names and flags use them.
//!
//! The one rule: a template gives exactly what Go's `text/template` with GoReleaser's functions gives, or it
//! is refused with what it uses. Variables, `range`, `define` and functions that read files are refused; so
//! is a formatting whose result in Go we are not sure of. Rendering cannot loop and its output is bounded,
//! so a configuration from anywhere may be rendered.
//!
//! No crate does this: the one there is for Rust has neither `{{- -}}` nor Go's comparison rules, and has
//! not moved for years.

mod call;
mod clock;
mod error;
mod eval;
mod function;
mod lexer;
mod parser;
mod path;
mod printf;
mod syntax;
#[cfg(test)]
mod tests;
mod title;
mod value;
mod version;

pub use clock::rfc3339;
pub use error::{Problem, TemplateError};
pub use eval::{Scope, Template};
pub use path::{base, clean, dir, extension};
pub use value::{Fields, Value};
pub use version::{Version, loose};
