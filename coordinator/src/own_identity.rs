//! The fleet's authority, and the identities that the coordinator issues to itself: its own, and the administrator's.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use meridian_runtime::identity::{Authority, Identity, LiveIdentity, SpiffeId, new_key_and_csr};
use meridian_store::journal::SegmentJournal;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{AppError, state_error},
    services::fleet::IDENTITY_LIFETIME,
};

/// How often the certificate's age is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(3600);

/// The coordinator's own identity, replaced long before it ends.
pub(crate) struct OwnIdentity {
    /// What the port shows.
    pub(crate) live: LiveIdentity,
    authority: Arc<Authority>,
    names: Vec<String>,
}

impl OwnIdentity {
    /// Issues one that also carries `names`, for clients that check host names.
    pub(crate) fn new(authority: Arc<Authority>, names: Vec<String>) -> Result<Self, AppError> {
        let identity = issue(&authority, "coordinator", &names)?;
        let live = LiveIdentity::new(identity).map_err(|e| state_error(&e))?;
        Ok(Self { live, authority, names })
    }

    /// Renews until told to stop.
    pub(crate) async fn keep_fresh(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
            if !self.live.current().renewal_due(SystemTime::now()) {
                continue;
            }
            let renewed = issue(&self.authority, "coordinator", &self.names)
                .and_then(|fresh| self.live.replace(fresh).map_err(|e| state_error(&e)));
            if let Err(error) = renewed {
                tracing::error!(%error, "the coordinator's own certificate could not be renewed");
            }
        }
    }
}

/// Opens the fleet's authority, and makes one only where the coordinator has never run: agents and clients trust the one
/// that they joined, so another in its place would shut them all out.
pub(crate) fn open_authority(state: &Path, fleet: &str) -> Result<Authority, AppError> {
    let (directory, journal) = (state.join("authority"), state.join("journal"));
    let file = Authority::file_in(&directory);
    let is_there = file.try_exists().map_err(|e| state_error(&format_args!("{}: {e}", file.display())))?;
    if !is_there && SegmentJournal::is_begun(&journal).map_err(|e| state_error(&e))? {
        return Err(AppError::AuthorityLost { file, journal });
    }
    Authority::open_or_create(&directory, fleet).map_err(|e| state_error(&e))
}

/// The administrator's identity lies beside the authority: whoever can read it could read the authority too.
/// It is made anew at each start, so it never expires unnoticed.
pub(crate) fn admin_identity(authority: &Authority, directory: &Path) -> Result<Identity, AppError> {
    let identity = issue(authority, "admin", &[])?;
    identity.save(directory).map_err(|e| state_error(&e))?;
    Ok(identity)
}

fn issue(authority: &Authority, role: &str, names: &[String]) -> Result<Identity, AppError> {
    let id = SpiffeId::new(authority.fleet(), &[role]).map_err(|e| state_error(&e))?;
    let (key, request) = new_key_and_csr().map_err(|e| state_error(&e))?;
    let chain = authority.issue(&request, &id, IDENTITY_LIFETIME, names).map_err(|e| state_error(&e))?;
    Identity::new(key, &chain, authority.certificate_der()).map_err(|e| state_error(&e))
}
