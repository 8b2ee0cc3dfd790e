//! The composition root: from the command line to a command, its surroundings and its exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode as ProcessExitCode,
};

use clap::Parser as _;
use meridian_agent::redaction::Redaction;
use meridian_cache::local::shim;
use meridian_runtime::{
    state_dir::UserDirs,
    telemetry::{self, LogTarget, Masking, TelemetryConfig, propagation},
    tls::install_crypto,
};
use tracing::Instrument as _;

use crate::{
    args::{
        CacheprogArgs, Cli, Command, SandboxEnterArgs, TokenCommand,
        role::{LocalArgs, LocalCommand},
    },
    build::flow,
    command::{
        agents, ask, cache, ci_env, context::Context, doctor, journal, keyring, local, logs, membership,
        print, verify,
    },
    exit_code::ExitCode,
    fleet::local::LocalPaths,
    rebuild, release, role,
    trouble::Trouble,
};

/// Reads the command line, runs the command and says how it ended.
#[must_use]
pub fn main() -> ProcessExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes; clap knows which stream each goes to.
            let printed = error.print().and_then(|()| io::stdout().flush());
            return match print::written(printed) {
                _ if error.use_stderr() => ExitCode::Usage.into(),
                Ok(()) => ExitCode::Done.into(),
                Err(unwritten) => end(&unwritten, false),
            };
        }
    };
    // These are started for every build or test, and the sandbox is entered by a single thread: no runtime, no
    // telemetry.
    match &cli.command {
        Command::Cacheprog(args) => return cacheprog(args),
        Command::SandboxEnter(args) => return enter_sandbox(args),
        Command::SandboxExec(args) => return meridian_agent::sandbox::exec(&args.socket, &args.command),
        _ => {}
    }
    // Whoever holds a key runs as little else as can be, too.
    if let Command::Signer(args) = &cli.command {
        return signer(&args.state);
    }
    let as_json = cli.command.json();
    match start(cli.command) {
        Ok(()) => ExitCode::Done.into(),
        Err(trouble) => end(&trouble, as_json),
    }
}

/// Signs for the agent at the other end of standard input, until that hangs up.
fn signer(state: &std::path::Path) -> ProcessExitCode {
    match meridian_agent::signer::run(state) {
        Ok(()) => ExitCode::Done.into(),
        Err(error) => {
            print::aside(&format!("the signer ends: {error}"));
            ExitCode::Broken.into()
        }
    }
}

/// Passes on what one go command asks of its cache.
fn cacheprog(args: &CacheprogArgs) -> ProcessExitCode {
    match (&args.socket, &args.beside) {
        (Some(socket), _) => shim::run(socket),
        (None, Some(beside)) => shim::run_beside(beside, args.project.clone(), args.owner),
        (None, None) => ExitCode::Usage.into(),
    }
}

fn enter_sandbox(args: &SandboxEnterArgs) -> ProcessExitCode {
    match (&args.try_one, args.order, args.line) {
        (Some(name), ..) => meridian_agent::sandbox::try_one(name),
        (None, Some(order), Some(line)) => meridian_agent::sandbox::enter(order, line),
        _ => ExitCode::Usage.into(),
    }
}

/// Sets the process up for the command and runs it.
fn start(command: Command) -> Result<(), Trouble> {
    install_crypto();
    if let Command::Local(LocalArgs { command: LocalCommand::Run { detached: true, .. } }) = &command {
        // Before anything else, so that the terminal's signals no longer reach us.
        rustix::process::setsid()
            .map_err(|error| Trouble::broken(format_args!("cannot leave the terminal: {error}")))?;
    }
    let masking = masking();
    let _telemetry = telemetry::init(telemetry_config(&command, &masking)).map_err(Trouble::usage)?;
    // A role serves many at once; a command waits for one answer, and its overhead is felt.
    let runtime = if is_role(&command) {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    };
    let runtime = runtime.map_err(|error| Trouble::broken(format_args!("cannot start: {error}")))?;
    let result = runtime.block_on(run(command, masking));
    // Whatever still waits on a thread of its own must not keep the command from ending.
    runtime.shutdown_background();
    result
}

/// What looks like a secret is taken out of the log of every process from its first line on; an agent adds what it knows.
fn masking() -> Masking {
    let masking = Masking::default();
    let shapes = Redaction::default();
    masking.set(Box::new(move |text| shapes.text(text)));
    masking
}

const fn is_role(command: &Command) -> bool {
    matches!(
        command,
        Command::Coordinator(_)
            | Command::Agent(_)
            | Command::Local(LocalArgs { command: LocalCommand::Run { .. } })
    )
}

fn telemetry_config(command: &Command, masking: &Masking) -> TelemetryConfig {
    let service = match command {
        Command::Coordinator(_) => "meridian-coordinator",
        Command::Agent(_) => "meridian-agent",
        Command::Local(LocalArgs { command: LocalCommand::Run { .. } }) => "meridian-local",
        _ => "meridian",
    };
    let mut config = TelemetryConfig { masking: masking.clone(), ..TelemetryConfig::from_env(service) };
    if let Command::Local(LocalArgs { command: LocalCommand::Run { detached: true, .. } }) = command
        && let Ok(directories) = UserDirs::from_env()
    {
        // The file that its output goes to anyway, but with a bound.
        config.log = LogTarget::File(LocalPaths::of(&directories).log);
    }
    // A command speaks for itself; only trouble beside it is worth a log line.
    if !is_role(command) && std::env::var_os("MERIDIAN_LOG").is_none() {
        "warn".clone_into(&mut config.filter);
    }
    config
}

async fn run(command: Command, masking: Masking) -> Result<(), Trouble> {
    // The roles have configurations of their own.
    match command {
        Command::Coordinator(args) => return Box::pin(role::coordinator::run(&args)).await,
        Command::Agent(args) => return Box::pin(role::agent::run(&args, masking)).await,
        Command::Journal(args) => return journal::run(&args.command),
        Command::Doctor(args) => return doctor::doctor(&args).await,
        Command::CiEnv(args) => return ci_env::ci_env(&args),
        _ => {}
    }
    let context = Context::of_user()?;
    match command {
        Command::Build(args) => {
            let span = tracing::info_span!("build", otel.kind = "client");
            if let Ok(traceparent) = std::env::var("TRACEPARENT") {
                // The CI system's own trace goes on in ours.
                propagation::join(&span, &traceparent);
            }
            Box::pin(flow::run(&context, &args)).instrument(span).await
        }
        Command::Rebuild(args) => {
            let span = tracing::info_span!("rebuild", otel.kind = "client");
            if let Ok(traceparent) = std::env::var("TRACEPARENT") {
                propagation::join(&span, &traceparent);
            }
            Box::pin(rebuild::flow::run(&context, &args)).instrument(span).await
        }
        Command::Release(args) => {
            let span = tracing::info_span!("release", otel.kind = "client");
            if let Ok(traceparent) = std::env::var("TRACEPARENT") {
                propagation::join(&span, &traceparent);
            }
            Box::pin(release::flow::run(&context, &args)).instrument(span).await
        }
        Command::Builds(args) => ask::builds(&context, &args).await,
        Command::Logs(args) => logs::logs(&context, &args).await,
        Command::Explain(args) => ask::explain(&context, &args).await,
        Command::Cancel(args) => ask::cancel(&context, &args).await,
        Command::Agents(args) => agents::run(&context, &args).await,
        Command::Status(args) => ask::status(&context, &args).await,
        Command::Cache(args) => Box::pin(cache::run(&context, &args)).await,
        Command::Join(args) => membership::join(&context, &args).await,
        Command::Token(args) => {
            let TokenCommand::Create(args) = args.command;
            membership::create(&context, &args).await
        }
        Command::Local(args) => match args.command {
            LocalCommand::Start { json } => local::start(&context, json).await,
            LocalCommand::Status { json } => local::status(&context, json).await,
            LocalCommand::Stop { when_idle, json } => local::stop(&context, when_idle, json).await,
            LocalCommand::Run { idle, .. } => Box::pin(role::local::run(&context, idle, masking)).await,
        },
        Command::Verify(args) => verify::run::verify(&context, &args),
        Command::Revoke(args) => membership::revoke(&context, &args).await,
        Command::Keyring(args) => keyring::run(&context, &args.command).await,
        Command::Coordinator(_)
        | Command::Agent(_)
        | Command::Journal(_)
        | Command::Doctor(_)
        | Command::CiEnv(_)
        | Command::Cacheprog(_)
        | Command::Signer(_)
        | Command::SandboxEnter(_)
        | Command::SandboxExec(_) => Ok(()),
    }
}

/// Says what went wrong, once: as an object on standard output for programs, as text on standard error for
/// people. A tool or an address that is repeated in it may hold a password.
fn end(trouble: &Trouble, as_json: bool) -> ProcessExitCode {
    let trouble = &trouble.masked(&Redaction::default());
    if !trouble.is_said {
        // What happened first decides how the command ends, also where it can be told on one stream only.
        if as_json
            && let Err(unwritten) = print::json(&trouble.to_json())
            && !unwritten.is_said
            && unwritten.message != trouble.message
        {
            print::aside(&unwritten.to_string());
        }
        print::aside(&trouble.to_string());
    }
    trouble.exit.into()
}
