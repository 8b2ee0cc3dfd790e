//! Two agents' caches and the way between them: what one built, the other finds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ahead;
mod binaries;
mod discovery;
#[path = "../build_cache/driver.rs"]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod driver;
mod faults;
mod field_bugs;
mod go_tests;
mod homes;
mod life;
mod membership;
mod native;
mod outside;
mod outside_pace;
mod pair;
mod prefetching;
mod several;
mod write_back;
