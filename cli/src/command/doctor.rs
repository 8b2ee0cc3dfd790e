//! `meridian doctor`: whether an agent with this configuration starts on this machine and can build in a sandbox, and
//! what to do where it cannot.
//!
//! It reads the configuration that the agent reads, judges it as the agent does, and asks nobody but the cache outside the
//! fleet that is named there: whether it can be used, and what to do where it cannot. Builds go on without that one.

use std::fmt::Write as _;

use meridian_agent::{
    Mistake,
    sandbox::{Finding, Launcher, LauncherConfig, Limits, SandboxPolicy, State, doctor_text},
};
use meridian_core::quantity::ByteCount;
use serde_json::{Value, json};

use crate::{args::DoctorArgs, command::print, role::agent, trouble::Trouble};

/// Tries what the sandbox is made of, and says what was found.
///
/// # Errors
/// When the configuration has mistakes, or there is no sandbox here.
pub async fn doctor(args: &DoctorArgs) -> Result<(), Trouble> {
    let asked = agent::asked(args.config.as_deref(), &args.set)?;
    let (policy, limits) = (asked.sandbox, &asked.limits);
    let program = std::env::current_exe().map_err(Trouble::broken)?;
    // Not the agent's own directory: whoever opens that ends what the agent runs.
    let dir = tempfile::tempdir().map_err(Trouble::broken)?;
    let launcher = Launcher::open(&LauncherConfig::new(program, dir.path().to_owned()));
    let findings = launcher.map_err(Trouble::broken)?.probe().await;
    let is_possible = !findings.iter().any(|finding| finding.state == State::Missing);
    let mistakes: Vec<String> = asked.mistakes().iter().map(Mistake::to_string).collect();
    let remote = asked.remote_cache().await;
    if args.json {
        let mut told = to_json(&findings, policy, limits, is_possible);
        told["mistakes"] = json!(mistakes);
        told["remote_cache"] = json!(
            remote
                .map(|(url, trouble)| json!({ "url": url, "works": trouble.is_none(), "trouble": trouble }))
        );
        print::json(&told)?;
    } else {
        let of_sandbox = to_text(&findings, policy, limits, is_possible);
        let text = of_sandbox + &remote_cache_text(remote.as_ref()) + &mistakes_text(&mistakes);
        print::line(text.trim_end())?;
    }
    // What was printed says it all.
    match (mistakes.is_empty(), is_possible) {
        (false, _) => Err(Trouble::usage(mistakes.join("\n")).said()),
        (true, false) => Err(Trouble::broken("there is no sandbox on this machine").said()),
        (true, true) => Ok(()),
    }
}

/// What else keeps an agent from starting. The machine is seen from here, and an agent may see it otherwise.
fn mistakes_text(mistakes: &[String]) -> String {
    if mistakes.is_empty() {
        return String::new();
    }
    format!(
        "\nan agent with this user and environment does not start:\n  {}\n",
        mistakes.join("\n").replace('\n', "\n  ")
    )
}

/// Whether the cache outside the fleet is of use. An agent starts in any case.
fn remote_cache_text(remote: Option<&(String, Option<String>)>) -> String {
    match remote {
        None => String::new(),
        Some((url, None)) => format!("\nremote_cache {url}: can be used\n"),
        Some((url, Some(trouble))) => {
            format!("\nremote_cache {url} {trouble}\n")
        }
    }
}

fn policy_name(policy: SandboxPolicy) -> &'static str {
    match policy {
        SandboxPolicy::Required => "required",
        SandboxPolicy::WhenPossible => "when-possible",
        SandboxPolicy::Off => "off",
    }
}

fn user() -> String {
    match rustix::process::geteuid() {
        root if root.is_root() => "root".to_owned(),
        other => format!("user {}", other.as_raw()),
    }
}

/// What an agent with this policy does here.
fn verdict(policy: SandboxPolicy, is_possible: bool) -> &'static str {
    match (policy, is_possible) {
        (SandboxPolicy::Off, true) => {
            "an agent builds without one, because it is switched off; it could have one"
        }
        (SandboxPolicy::Off, false) => "an agent builds without one, because it is switched off",
        (_, true) => "an agent builds in a sandbox here",
        (SandboxPolicy::WhenPossible, false) => "an agent builds WITHOUT a sandbox here, and warns",
        (SandboxPolicy::Required, false) => {
            "an agent does not start here: mend what is missing, or say sandbox = \"when-possible\" in agent.toml"
        }
    }
}

fn to_text(findings: &[Finding], policy: SandboxPolicy, limits: &Limits, is_possible: bool) -> String {
    let mut text = doctor_text(findings);
    let memory =
        limits.memory_bytes_max.map_or_else(|| "no bound".to_owned(), |bytes| ByteCount(bytes).to_string());
    let disk =
        limits.disk_bytes_max.map_or_else(|| "no bound".to_owned(), |bytes| ByteCount(bytes).to_string());
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "\na build may use: memory {memory}, {} processes, files of {}, disk {disk}, {} min",
        limits.processes_max,
        ByteCount(limits.file_bytes_max),
        limits.wall.as_secs() / 60
    );
    let (user, name) = (user(), policy_name(policy));
    let _ = writeln!(text, "as {user}, with sandbox = \"{name}\": {}", verdict(policy, is_possible));
    text
}

fn to_json(findings: &[Finding], policy: SandboxPolicy, limits: &Limits, is_possible: bool) -> Value {
    json!({
        "sandbox": {
            "possible": is_possible,
            "policy": policy_name(policy),
            "user": user(),
            "verdict": verdict(policy, is_possible),
            "limits": {
                "memory_bytes": limits.memory_bytes_max,
                "processes": limits.processes_max,
                "file_bytes": limits.file_bytes_max,
                "disk_bytes": limits.disk_bytes_max,
                "wall_seconds": limits.wall.as_secs(),
            },
            "findings": findings,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(state: State) -> Vec<Finding> {
        let (meaning, remedy) =
            ("refused: EPERM".to_owned(), "install packaging/apparmor/meridian".to_owned());
        vec![Finding { name: "user namespaces", state, meaning, remedy }]
    }

    #[test]
    fn the_doctor_says_what_an_agent_would_do_and_what_helps() {
        let (limits, missing) = (Limits::default(), findings(State::Missing));
        let text = to_text(&missing, SandboxPolicy::Required, &limits, false);
        for part in ["MISSING  user namespaces", "→ install packaging/", "does not start here", "120 min"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = to_text(&findings(State::Ok), SandboxPolicy::WhenPossible, &limits, true);
        assert!(
            text.contains("with sandbox = \"when-possible\": an agent builds in a sandbox here"),
            "{text}"
        );
        let told = to_json(&missing, SandboxPolicy::WhenPossible, &limits, false);
        assert_eq!(told["sandbox"]["possible"], false);
        assert_eq!(told["sandbox"]["findings"][0]["state"], "missing");
        assert!(told["sandbox"]["verdict"].as_str().unwrap().contains("WITHOUT"));
    }
}
