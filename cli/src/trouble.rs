//! The one error type of commands: what happened, what to do about it, and with which code to exit.
//!
//! Modules with their own rules have their own small error enums; a command turns them into this at its
//! edge, where it knows whether the user, the fleet or the world is at fault.

use std::fmt;

use meridian_agent::redaction::Redaction;

use crate::exit_code::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Trouble {
    /// How the process exits.
    pub exit: ExitCode,
    /// What happened and where, in lower case and without a final stop.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// Whether the user was told already, so that only the exit code is left to give.
    pub is_said: bool,
}

impl Trouble {
    /// The command line, the environment or a file of the user is wrong.
    #[must_use]
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// The fleet declines, or we do on the user's behalf.
    #[must_use]
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Refused, message)
    }

    /// Something other than the request is broken.
    #[must_use]
    pub fn broken(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Broken, message)
    }

    /// Nobody reads the answer any more: the command ends early, and there is nothing to tell.
    #[must_use]
    pub fn nobody_reads() -> Self {
        Self::new(ExitCode::Done, "nobody reads the answer").said()
    }

    /// A build that ended without success.
    #[must_use]
    pub fn build_failed(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::BuildFailed, message)
    }

    /// What a fleet answered instead of a result. `doing` says what was asked, such as `cancel the build`.
    #[must_use]
    pub fn of_status(doing: &str, status: &tonic::Status) -> Self {
        let exit = ExitCode::of_status(status.code());
        let text = if status.message().is_empty() {
            status.code().description().to_lowercase()
        } else {
            status.message().to_owned()
        };
        Self::new(exit, format_args!("cannot {doing}: {text}"))
    }

    /// The same trouble with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The same trouble, which was printed already as part of something else.
    #[must_use]
    pub fn said(mut self) -> Self {
        self.is_said = true;
        self
    }

    /// The same trouble without what looks like a secret in its words.
    #[must_use]
    pub fn masked(&self, redaction: &Redaction) -> Self {
        Self {
            exit: self.exit,
            message: redaction.text(&self.message),
            hint: self.hint.as_deref().map(|hint| redaction.text(hint)),
            is_said: self.is_said,
        }
    }

    fn new(exit: ExitCode, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: None, is_said: false }
    }

    /// The trouble as the JSON object that `--json` prints.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "kind": self.exit.word(), "message": self.message, "hint": self.hint }
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Trouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_message_or_a_hint_is_told_without_its_password() {
        let trouble = Trouble::broken("cannot read https://ci:hunter2@proxy.test/x")
            .hint("curl https://ci:hunter2@proxy.test")
            .masked(&Redaction::default());
        let told = format!("{trouble} {}", trouble.to_json());
        assert!(!told.contains("hunter2") && told.matches("ci:***@proxy.test").count() == 4, "{told}");
    }

    #[test]
    fn a_status_without_words_still_says_what_it_is() {
        let trouble = Trouble::of_status("submit the build", &tonic::Status::unavailable(""));
        assert_eq!(trouble.exit, ExitCode::Broken);
        assert!(trouble.message.starts_with("cannot submit the build: "), "{trouble}");
        assert!(trouble.message.len() > "cannot submit the build: ".len());
    }
}
