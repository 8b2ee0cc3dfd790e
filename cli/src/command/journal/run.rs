//! Which command of `meridian journal` is run.

use super::{export::export, inspect::inspect, replay::replay, verify::verify};
use crate::{args::journal::JournalCommand, trouble::Trouble};

/// Runs a command.
///
/// # Errors
/// When the journal cannot be read, is damaged, or does not hold what is asked for.
pub fn run(command: &JournalCommand) -> Result<(), Trouble> {
    match command {
        JournalCommand::Inspect(args) => inspect(args),
        JournalCommand::Export(args) => export(args),
        JournalCommand::Replay(args) => replay(args),
        JournalCommand::Verify(args) => verify(args),
    }
}
