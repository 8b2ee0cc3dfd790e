//! The sandbox as a program of its own, with an agent to go with it, for tests and for timing by hand.
//!
//! `sandbox-enter`, `sandbox-exec` and `cacheprog` are what `meridian` offers under these names. `agent DIR`
//! reads a job as JSON from standard input, runs it as an agent with the state directory DIR would, and prints
//! how it ended as JSON. `doctor DIR` prints what was found out about this machine.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use meridian_agent::{
    process::Output,
    sandbox::{
        Access, ExecBroker, ExecTemplate, Launcher, LauncherConfig, Limits, Mount, Network, Plan,
        doctor_text, enter, exec, loader_mounts, system_mounts, try_one,
    },
};
use meridian_cache::local::shim;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// What an agent is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    plan: Plan,
    /// Whether the machine's programs are mounted, and not only what this program needs.
    system: bool,
    cancel_after_ms: Option<u64>,
    exec: Option<Exec>,
}

/// The second sandbox.
#[derive(Debug, Serialize, Deserialize)]
struct Exec {
    mounts: Vec<Mount>,
    programs_below: PathBuf,
    /// Where the socket is in the first sandbox.
    socket: PathBuf,
    limits: Limits,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    match texts.as_slice() {
        ["sandbox-enter", "--order", order, "--line", line] => {
            enter(order.parse().unwrap_or(-1), line.parse().unwrap_or(-1))
        }
        ["sandbox-enter", "--try", name] => try_one(name),
        ["sandbox-exec", "--socket", socket, _, ..] => exec(Path::new(socket), &arguments[3..]),
        ["cacheprog", "--socket", socket] => shim::run(Path::new(socket)),
        ["--version"] => ExitCode::SUCCESS,
        ["agent", dir] => report(agent(Path::new(dir))),
        ["doctor", dir] => report(doctor(Path::new(dir))),
        _ => {
            eprintln!("usage: sandbox agent DIR | sandbox doctor DIR");
            ExitCode::FAILURE
        }
    }
}

fn report(done: Result<String, Box<dyn std::error::Error>>) -> ExitCode {
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn launcher(dir: &Path) -> Result<Arc<Launcher>, Box<dyn std::error::Error>> {
    let config = LauncherConfig::new(std::env::current_exe()?, dir.to_owned());
    Ok(Arc::new(Launcher::open(&config)?))
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn agent(dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let mut job: Job = serde_json::from_str(&text)?;
    let own = std::env::current_exe()?;
    let of_machine = if job.system {
        let mut mounts = system_mounts();
        mounts.push(Mount::same(own, Access::Run));
        mounts
    } else {
        loader_mounts(&own)?
    };
    job.plan.mounts.splice(0..0, of_machine);
    runtime()?.block_on(run(&launcher(dir)?, job))
}

async fn run(launcher: &Arc<Launcher>, mut job: Job) -> Result<String, Box<dyn std::error::Error>> {
    let broker = job.exec.map(|exec| {
        let template = ExecTemplate {
            mounts: exec.mounts,
            programs_below: exec.programs_below,
            env: vec![("TMPDIR".into(), Some("/tmp".into())), ("GOCACHEPROG".into(), None)],
            network: Network::Loopback,
            limits: exec.limits,
            parallel_max: 2,
        };
        ExecBroker::open(Arc::clone(launcher), template).map(|broker| (broker, exec.socket))
    });
    let broker = broker.transpose()?;
    if let Some((broker, target)) = &broker {
        job.plan.mounts.push(Mount::Bind {
            source: broker.socket().to_owned(),
            target: target.clone(),
            access: Access::Connect,
        });
    }
    let cancel = CancellationToken::new();
    if let Some(after) = job.cancel_after_ms {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            cancel.cancel();
        });
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let ended = launcher
        .run(&job.plan, &cancel, &mut |from, piece| match from {
            Output::Stdout => stdout.extend_from_slice(piece),
            Output::Stderr => stderr.extend_from_slice(piece),
        })
        .await;
    let told = match ended {
        Ok(ended) => serde_json::json!({
            "outcome": format!("{:?}", ended.outcome),
            "memory_peak_bytes": ended.usage.memory_peak_bytes,
            "forks_refused": ended.usage.forks_refused,
            "stdout": stdout,
            "stderr": stderr,
        }),
        Err(error) => serde_json::json!({
            "outcome": error.to_string(), "stdout": stdout, "stderr": stderr,
        }),
    };
    Ok(told.to_string())
}

fn doctor(dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let launcher = launcher(dir)?;
    Ok(doctor_text(&runtime()?.block_on(launcher.probe())))
}
