//! Executables: what is read from them, and why two of them differ. The installed Go builds them and is the oracle.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::cast_possible_truncation, reason = "what these tests build is small")]

mod bills;
mod comparing;
mod go;
mod hostile;
mod reading;
