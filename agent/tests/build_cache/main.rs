//! The build cache through its own shim, as cmd/go uses it: the protocol first, then real builds.

mod driver;
mod go;
mod protocol;
