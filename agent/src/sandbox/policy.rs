//! Whether an agent may build where there is no sandbox, and what its owner can do to have one.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Whether builds must be sandboxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxPolicy {
    /// An agent without a sandbox does not build. For agents that serve others.
    Required,
    /// An agent without a sandbox builds bare and warns. For a local fleet, whose owner builds own sources.
    WhenPossible,
    /// Builds run bare, and nothing warns.
    Off,
}

/// What one capability of the machine is worth to the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is there.
    Ok,
    /// It is not there, and the sandbox stands without it, weaker.
    Weaker,
    /// It is not there, and without it there is no sandbox.
    Missing,
    /// It tells about the machine and is neither good nor bad.
    Note,
}

/// What was found out about one capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which capability.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was seen, and what follows from it.
    pub meaning: String,
    /// What its owner can do. Empty when nothing needs to be done.
    pub remedy: String,
}

/// How an agent builds from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// In the sandbox.
    Sandboxed,
    /// Without one; the text is to be logged as a warning, unless it is empty.
    Bare(String),
}

/// An agent that needs a sandbox has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this agent may build only in a sandbox and has none: {reason}; {remedy}, or say `sandbox = \"when-possible\"` in agent.toml to build without one; `meridian doctor` tells what was tried"
)]
pub struct NoSandbox {
    /// What is missing.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl SandboxPolicy {
    /// Decides from what was found out. The caller shows a warning once.
    ///
    /// # Errors
    /// When a sandbox is required and something that it needs is missing.
    pub fn decide(self, findings: &[Finding]) -> Result<Verdict, NoSandbox> {
        let missing = findings.iter().find(|finding| finding.state == State::Missing);
        match (self, missing) {
            (Self::Off, _) => Ok(Verdict::Bare(String::new())),
            (_, None) => Ok(Verdict::Sandboxed),
            (Self::WhenPossible, Some(missing)) => Ok(Verdict::Bare(format!(
                "builds run without a sandbox: {}; {}",
                missing.meaning, missing.remedy
            ))),
            (Self::Required, Some(missing)) => {
                Err(NoSandbox { reason: missing.meaning.clone(), remedy: missing.remedy.clone() })
            }
        }
    }
}

/// The findings as a person reads them, one capability a line and its remedy below.
#[must_use]
pub fn doctor_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let sign = match finding.state {
            State::Ok => "ok     ",
            State::Weaker => "weaker ",
            State::Missing => "MISSING",
            State::Note => "note   ",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{sign}  {:<18} {}", finding.name, finding.meaning);
        for line in finding.remedy.lines() {
            let _ = writeln!(text, "{:28} → {line}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(state: State) -> Finding {
        Finding {
            name: "user namespaces",
            state,
            meaning: "the kernel refuses user namespaces".into(),
            remedy: "sysctl -w user.max_user_namespaces=15000".into(),
        }
    }

    #[test]
    fn only_what_is_missing_keeps_an_agent_from_its_sandbox() {
        let found = [finding(State::Ok), finding(State::Weaker), finding(State::Note)];
        assert_eq!(SandboxPolicy::Required.decide(&found), Ok(Verdict::Sandboxed));
        assert_eq!(SandboxPolicy::WhenPossible.decide(&found), Ok(Verdict::Sandboxed));
    }

    #[test]
    fn a_required_sandbox_that_is_missing_is_refused_with_what_to_do() {
        let found = [finding(State::Missing)];
        let refusal = SandboxPolicy::Required.decide(&found).unwrap_err().to_string();
        assert!(
            refusal.contains("max_user_namespaces=15000") && refusal.contains("when-possible"),
            "{refusal}"
        );
        let Ok(Verdict::Bare(warning)) = SandboxPolicy::WhenPossible.decide(&found) else { panic!() };
        assert!(warning.contains("without a sandbox"));
        assert_eq!(SandboxPolicy::Off.decide(&found), Ok(Verdict::Bare(String::new())));
    }

    #[test]
    fn the_doctor_says_what_to_do_below_what_is_missing() {
        let text = doctor_text(&[finding(State::Missing)]);
        assert!(text.starts_with("MISSING  user namespaces"), "{text}");
        assert!(text.lines().nth(1).unwrap().contains("→ sysctl"), "{text}");
    }
}
