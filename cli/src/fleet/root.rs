//! The one key that this user trusts beforehand: the root of a fleet, pinned when it was joined.

use std::path::Path;

use meridian_core::id::FleetName;
use meridian_runtime::{
    identity::{Identity, public_key_spki},
    state_dir::UserDirs,
};
use meridian_trust::{keyring::Root, keys::VerifyingKey};

use crate::{
    fleet::{client::Client, local::LocalPaths},
    given_file,
    trouble::Trouble,
};

/// The root of the fleet that a client speaks to.
///
/// # Errors
/// When its certificate has no key that can be one.
pub fn pinned_root(client: &Client) -> Result<Root, Trouble> {
    root_of(client.authority_der(), client.id().fleet())
}

/// The root in a certificate of a fleet's authority.
///
/// # Errors
/// When the certificate has no key that can be one.
pub fn root_of(authority: &[u8], fleet: &str) -> Result<Root, Trouble> {
    let spki = public_key_spki(authority).map_err(Trouble::broken)?;
    let key = VerifyingKey::from_spki(&spki).map_err(Trouble::broken)?;
    let fleet = FleetName::new(fleet).map_err(Trouble::broken)?;
    Root::new(key, Some(fleet)).map_err(Trouble::broken)
}

/// The root of this user's local fleet, once it has run.
///
/// # Errors
/// When its state is damaged.
pub fn local_root(directories: &UserDirs) -> Result<Option<Root>, Trouble> {
    let directory = LocalPaths::of(directories).coordinator().join("admin");
    let identity = Identity::load(&directory).map_err(Trouble::broken)?;
    identity.map(|identity| root_of(identity.authority_der(), identity.id().fleet())).transpose()
}

/// The root in a file `fleet.pub`: a public key in PEM.
///
/// # Errors
/// When the file cannot be read or holds no such key.
pub fn read_root(path: &Path) -> Result<Root, Trouble> {
    let shown = path.display();
    let failed = |error: &dyn std::fmt::Display| Trouble::usage(format_args!("{shown}: {error}"));
    let text = given_file::read_named(path).map_err(|error| failed(&error))?;
    let text = String::from_utf8(text).map_err(|error| failed(&error))?;
    let key =
        VerifyingKey::from_pem(&text).map_err(|error| Trouble::usage(format_args!("{shown}: {error}")))?;
    Root::new(key, None).map_err(|error| Trouble::usage(format_args!("{shown}: {error}")))
}
