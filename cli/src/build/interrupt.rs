//! Ctrl-C: asks once, then cancels.
//!
//! Off a terminal nobody can be asked, so one signal is meant. SIGTERM is always meant.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::trouble::Trouble;

/// Listens for the signals that end a command.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    asks_first: bool,
    asked: bool,
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The first Ctrl-C on a terminal: ask whether it was meant.
    Ask,
    /// Cancel.
    Cancel,
}

impl Interrupts {
    /// Takes the signals over from their default, which is to kill.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, Trouble> {
        let listen = |kind| signal(kind).map_err(|error| Trouble::broken(format_args!("signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            asks_first: io::stdin().is_terminal() && io::stderr().is_terminal(),
            asked: false,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => return Wish::Cancel,
        }
        meaning(self.asks_first, &mut self.asked)
    }

    /// Waits until the command should end although no build has been submitted yet, so that there is
    /// nothing to ask about.
    pub async fn before_submit(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn meaning(asks_first: bool, asked: &mut bool) -> Wish {
    if !asks_first || *asked {
        return Wish::Cancel;
    }
    *asked = true;
    Wish::Ask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_asked_once_and_a_machine_never() {
        let mut asked = false;
        assert_eq!(meaning(true, &mut asked), Wish::Ask);
        assert_eq!(meaning(true, &mut asked), Wish::Cancel);
        assert_eq!(meaning(false, &mut false), Wish::Cancel);
    }
}
