//! What an agent finds out about its machine before it is anybody.
//!
//! A one-time token is spent once. So whatever can be wrong with a configuration, its directories and its sandbox is found
//! here, where no identity is needed yet, and joining a fleet comes after it.
//!
//! Not here: what needs the identity, which is the signer's certificate and every connection.

use std::os::unix::net::UnixStream;

use crate::{
    app::AppError,
    check::{Checked, Mistake, Mistakes, check},
    config::AgentConfig,
    gobuild::Sandboxing,
    sandbox::LauncherConfig,
    sidecar::SidecarError,
};

/// A configuration that was judged on this machine, and what it was judged by.
pub struct Prepared {
    pub(crate) config: AgentConfig,
    pub(crate) checked: Checked,
    /// Nothing where builds run bare.
    pub(crate) sandboxing: Option<Sandboxing>,
}

impl Prepared {
    /// Looks at everything that an agent with this configuration needs of its machine. From here on the process's log masks
    /// what is secret there.
    ///
    /// # Errors
    /// When the configuration asks for what is not here, a directory cannot be used, or a sandbox is required and there is
    /// none.
    pub async fn of(config: AgentConfig) -> Result<Self, AppError> {
        let checked = check(&config)?;
        is_alone(&config)?;
        let masked = checked.redaction.clone();
        config.masking.set(Box::new(move |text| masked.text(text)));
        let launcher = LauncherConfig::new(config.shim.clone(), config.state_dir.clone());
        let sandboxing =
            Sandboxing::by_policy(config.sandbox, &launcher, config.build_limits.clone()).await?;
        Ok(Self { config, checked, sandboxing })
    }
}

/// Whether nobody else listens at the socket. No mistake for who only looks: it may be the agent itself that does.
fn is_alone(config: &AgentConfig) -> Result<(), Mistakes> {
    let socket = config.sidecar.as_ref().map(|settings| &settings.socket);
    match socket.filter(|socket| UnixStream::connect(socket).is_ok()) {
        Some(socket) => Err(Mistakes(vec![Mistake::from(SidecarError::InUse(socket.clone()))])),
        None => Ok(()),
    }
}
