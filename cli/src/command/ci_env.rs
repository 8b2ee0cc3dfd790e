//! `meridian ci-env`: what gives a CI job's own go commands the cache of the agent beside them.
//!
//! It is for `eval "$(meridian ci-env)"`, so standard output has words for a shell or nothing at all. Whatever is in the
//! way is told on standard error, and the go commands that follow build as they would without it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use meridian_agent::signer::{UserChoice, UserError};
use meridian_cache::local::{
    beside::{self, AskError, Opened, Opening},
    shim_command_beside,
};
use meridian_runtime::state_dir::UserDirs;

use crate::{
    args::{CiEnvArgs, Shell},
    command::print,
    role::agent::SIDECAR_SOCKET,
    trouble::Trouble,
};

/// The variable that cmd/go reads.
const NAME: &str = "GOCACHEPROG";
/// The first minor version of Go 1 that reads it.
const GO_MINOR_MIN: u32 = 24;

/// Asks the agent, looks at Go, and prints the line.
///
/// # Errors
/// When no agent answers, it does not serve this user or project, or something else is set already.
pub fn ci_env(args: &CiEnvArgs) -> Result<(), Trouble> {
    let socket = socket(args)?;
    let project = args.project.as_deref();
    let owner = args.owner.as_ref().map(owner).transpose()?;
    ask(&socket, project, owner)?;
    let program = std::env::current_exe().map_err(Trouble::broken)?;
    let value = shim_command_beside(&program, &socket, project, owner).ok_or_else(|| {
        Trouble::usage(format_args!(
            "{} or {} has both kinds of quotes in its name, which cmd/go cannot read",
            program.display(),
            socket.display()
        ))
    })?;
    if !is_useful(go(), &value)? {
        return Ok(());
    }
    if !args.github_env {
        return print::line(&line(args.shell, &value));
    }
    tell_github(std::env::var_os("GITHUB_ENV").map(PathBuf::from), &value)
}

/// Sets the variable for the steps that follow in a job, by the file that the runner reads.
fn tell_github(file: Option<PathBuf>, value: &str) -> Result<(), Trouble> {
    let file = file.filter(|file| !file.as_os_str().is_empty()).ok_or_else(|| {
        Trouble::usage("GITHUB_ENV is not set: --github-env is for a step of a GitHub Actions job")
            .hint("elsewhere: eval \"$(meridian ci-env)\"")
    })?;
    let written = OpenOptions::new()
        .append(true)
        .open(&file)
        .and_then(|mut file| file.write_all(format!("{NAME}={value}\n").as_bytes()));
    written.map_err(|error| {
        let file = file.display();
        Trouble::broken(format_args!("cannot write to {file}, the file that GITHUB_ENV names: {error}")).hint(
            "the runner makes it for each step: leave GITHUB_ENV as it is, and let this user write there",
        )
    })
}

/// The number of the user that the agent is said to run as.
fn owner(choice: &UserChoice) -> Result<u32, Trouble> {
    choice.uid().map_err(|error| match error {
        UserError::Unknown(name) => {
            Trouble::usage(format_args!("--owner: there is no user {name:?} in /etc/passwd"))
                .hint("name the user that the agent runs as, or its number: `stat -c %u SOCKET` says it")
        }
        error => Trouble::usage(format_args!("--owner: {error}")),
    })
}

fn socket(args: &CiEnvArgs) -> Result<PathBuf, Trouble> {
    let socket = match (&args.socket, &args.state) {
        (Some(socket), _) => socket.clone(),
        (None, Some(state)) => state.join(SIDECAR_SOCKET),
        (None, None) => {
            UserDirs::from_env().map_err(Trouble::usage)?.state.join("agent").join(SIDECAR_SOCKET)
        }
    };
    // The go commands run elsewhere.
    std::path::absolute(&socket).map_err(Trouble::usage)
}

/// Whether an agent is there and serves this user and project.
fn ask(socket: &Path, project: Option<&str>, owner: Option<u32>) -> Result<(), Trouble> {
    let place = socket.display();
    match beside::ask(socket, owner, &Opening::Ask { project: project.map(str::to_owned) }) {
        Ok((_, Opened::Here { .. })) => Ok(()),
        Ok((_, Opened::Refused { why })) => {
            Err(Trouble::refused(format_args!("the agent at {place} refuses: {why}")))
        }
        Ok((_, Opened::Run { .. })) => {
            Err(Trouble::broken(format_args!("what answers at {place} is no agent of this release")))
        }
        Err(AskError::Stranger { uid }) => Err(Trouble::refused(format_args!(
            "user {uid} listens at {place}, who is neither root nor this user, and could give go commands what it likes"
        ))
        .hint(format_args!("if that one runs the agent: --owner {uid}, or MERIDIAN_SIDECAR_OWNER={uid}"))),
        Err(error @ AskError::Silent { .. }) => Err(Trouble::broken(format_args!("at {place}: {error}"))
            .hint("it is busy or stuck; its log says more")),
        Err(AskError::Connection(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound => {
                Trouble::broken(format_args!("no agent is at {place}: there is no such socket")).hint(
                    "give an agent on this machine a [sidecar] table in agent.toml and start it, or say where its socket \
                     is with --socket or MERIDIAN_SIDECAR_SOCKET",
                )
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory if !may_be_socket(socket) => {
                Trouble::usage(format_args!("{place} is no socket, so no agent can answer there")).hint(
                    "name the agent's socket with --socket or MERIDIAN_SIDECAR_SOCKET: `sidecar.socket` in agent.toml, or \
                     sidecar.sock in the agent's state directory",
                )
            }
            io::ErrorKind::ConnectionRefused => {
                Trouble::broken(format_args!("no agent runs at {place}: nobody answers there"))
                    .hint("start the agent; its log says why it ended")
            }
            io::ErrorKind::PermissionDenied => {
                let user = rustix::process::geteuid().as_raw();
                Trouble::refused(format_args!("user {user} may not use the agent's cache at {place}"))
                    .hint("whoever runs the agent can name the user with users or group in [sidecar] of agent.toml")
            }
            _ => Trouble::broken(format_args!("the agent at {place} does not answer: {error}")),
        }),
    }
}

/// Whether it could be a socket: one is there, or what is there cannot be told.
fn may_be_socket(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(about) => about.file_type().is_socket(),
        Err(error) => error.kind() != io::ErrorKind::NotADirectory,
    }
}

/// What `go env` says of the Go that this directory's go commands run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Go {
    version: String,
    set: String,
}

/// What is said of it, or why nothing is: a later step may install it.
fn go() -> Result<Go, String> {
    let out = Command::new("go").args(["env", "GOVERSION", NAME]).output();
    let out = out.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no go command in PATH. Where Go is installed, put its bin directory there".to_owned()
        }
        _ => format!("go does not start: {error}"),
    })?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut lines = text.lines().map(str::trim);
    // Before 1.24 it does not know the second and says an empty line, or what a file set.
    match lines.next().filter(|version| out.status.success() && !version.is_empty()) {
        Some(version) => {
            Ok(Go { version: version.to_owned(), set: lines.next().unwrap_or_default().to_owned() })
        }
        None => Err(format!(
            "`go env` does not say which Go this is: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        )),
    }
}

/// Whether setting the variable helps and harms nothing. What stands in the way of it is told.
fn is_useful(go: Result<Go, String>, value: &str) -> Result<bool, Trouble> {
    let before = std::env::var(NAME).unwrap_or_default();
    let go = match go {
        Ok(go) => go,
        Err(why) => {
            let is_set = unset(&before, value)?;
            print::aside(&format!(
                "meridian: {why}\nmeridian: {NAME} is set all the same, for a Go that comes later; it needs Go 1.24 or newer"
            ));
            return Ok(is_set);
        }
    };
    if minor(&go.version).is_some_and(|minor| minor < GO_MINOR_MIN) {
        print::aside(&format!(
            "meridian: {} does not know {NAME}, which came with Go 1.24: it builds without the agent's cache, and nothing is set",
            go.version
        ));
        return Ok(false);
    }
    unset(if go.set.is_empty() { &before } else { &go.set }, value)
}

fn unset(before: &str, value: &str) -> Result<bool, Trouble> {
    if before.is_empty() || before == value {
        return Ok(true);
    }
    Err(Trouble::refused(format_args!("{NAME} is set already, to {before:?}, and is left as it is")).hint(
        format_args!(
            "to use the agent's cache instead: unset {NAME}, or `go env -u {NAME}` where that set it"
        ),
    ))
}

/// The minor version of Go 1; nothing for a version of another kind, such as a development one.
fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("go1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The words that set the variable.
fn line(shell: Shell, value: &str) -> String {
    match shell {
        Shell::Sh => format!("export {NAME}='{}'", value.replace('\'', r"'\''")),
        Shell::Fish => {
            format!("set -gx {NAME} '{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
        }
        Shell::Powershell => format!("$env:{NAME} = '{}'", value.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn a_path_with_blanks_and_quotes_arrives_in_every_shell() {
        let value = r#"'/my tools/meridian' cacheprog --beside "/it's \n/sock""#;
        let said = |shell| line(shell, value);
        let out = Command::new("sh")
            .args(["-c", &format!("eval \"$1\"; printf %s \"${NAME}\""), "sh", &said(Shell::Sh)])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), value);
        assert_eq!(
            said(Shell::Fish),
            r#"set -gx GOCACHEPROG '\'/my tools/meridian\' cacheprog --beside "/it\'s \\n/sock"'"#
        );
        assert_eq!(
            said(Shell::Powershell),
            r#"$env:GOCACHEPROG = '''/my tools/meridian'' cacheprog --beside "/it''s \n/sock"'"#
        );
    }

    #[test]
    fn a_go_that_is_too_old_is_told_from_one_that_is_not() {
        for (version, is_old) in [
            ("go1.23.12", true),
            ("go1.9", true),
            ("go1.24rc1", false),
            ("go1.24", false),
            ("go1.26.8", false),
            ("devel go1.28-abc", false),
            ("go2.0", false),
        ] {
            assert_eq!(minor(version).is_some_and(|minor| minor < GO_MINOR_MIN), is_old, "{version}");
        }
    }

    #[test]
    fn a_file_of_github_that_is_not_said_or_cannot_be_written_is_named_with_its_variable() {
        let dir = tempfile::tempdir().unwrap();
        for unsaid in [None, Some(PathBuf::new())] {
            let trouble = tell_github(unsaid, "x").unwrap_err();
            assert!(trouble.exit == ExitCode::Usage && trouble.message.contains("GITHUB_ENV"), "{trouble}");
        }
        let gone = dir.path().join("gone");
        let trouble = tell_github(Some(gone.clone()), "x").unwrap_err();
        let words = format!("{}, the file that GITHUB_ENV names", gone.display());
        assert!(trouble.exit == ExitCode::Broken && trouble.message.contains(&words), "{trouble}");
        fs::write(&gone, "A=b\n").unwrap();
        tell_github(Some(gone.clone()), "x").unwrap();
        assert_eq!(fs::read_to_string(&gone).unwrap(), "A=b\nGOCACHEPROG=x\n");
    }

    #[test]
    fn what_is_no_socket_is_told_from_one_that_nobody_listens_at() {
        let dir = tempfile::tempdir().unwrap();
        let (file, left) = (dir.path().join("file"), dir.path().join("left.sock"));
        fs::write(&file, "").unwrap();
        drop(UnixListener::bind(&left).unwrap());
        for (path, exit, words) in [
            (&file, ExitCode::Usage, "is no socket"),
            (&dir.path().to_owned(), ExitCode::Usage, "is no socket"),
            (&file.join("below"), ExitCode::Usage, "is no socket"),
            (&left, ExitCode::Broken, "nobody answers there"),
            (&dir.path().join("none"), ExitCode::Broken, "there is no such socket"),
        ] {
            let trouble = ask(path, None, None).unwrap_err();
            assert!(trouble.exit == exit && trouble.message.contains(words), "{}: {trouble}", path.display());
        }
    }

    #[test]
    fn an_owner_that_nobody_is_is_a_mistake_of_the_command_line() {
        let trouble = owner(&"no-such-user-here".parse().unwrap()).unwrap_err();
        assert!(
            trouble.exit == ExitCode::Usage && trouble.to_string().contains("no-such-user-here"),
            "{trouble}"
        );
    }

    #[test]
    fn what_somebody_else_set_is_left_and_the_same_can_be_said_again() {
        assert!(unset("", "x").unwrap() && unset("x", "x").unwrap());
        let trouble = unset("gocacheprog -other", "x").unwrap_err();
        assert!(trouble.to_string().contains("\"gocacheprog -other\""), "{trouble}");
    }
}
