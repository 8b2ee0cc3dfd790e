//! The sandbox against a program that tries to get out of it, as root and as an unprivileged user. Real
//! processes, a real kernel.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod builds;
mod cache;
mod endings;
mod go;
mod limits;
mod machine;
mod traces;
