//! From a one-time token to an identity.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
};

use meridian_core::id::FleetName;
use meridian_proto::v1;
use meridian_runtime::{
    identity::{Identity, Pin, SpiffeId, new_key_and_csr},
    tls::{ChannelOptions, Profile, enroll_channel},
};

use crate::{fleet::client::ask, trouble::Trouble};

/// As much as an identity takes, and more.
const IDENTITY_BYTES: usize = 64 << 10;

/// The parts of `mrd1.FLEET.SECRET.PIN`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The fleet to join.
    pub fleet: String,
    /// What only the token's bearer knows.
    secret: String,
    /// The fleet's authority.
    pub pin: Pin,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, …)", self.fleet)
    }
}

impl Token {
    /// Reads a token. A mistake is described without the token's text, which is a secret.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn parse(text: &str) -> Result<Self, Trouble> {
        let wrong = || {
            Trouble::usage("the token is not whole: expected mrd1.FLEET.SECRET.PIN")
                .hint("copy all of what `meridian token create` printed")
        };
        let rest = text.trim().strip_prefix("mrd1.").ok_or_else(wrong)?;
        // A fleet's name may hold dots; the other parts cannot.
        let (rest, pin) = rest.rsplit_once('.').ok_or_else(wrong)?;
        let (fleet, secret) = rest.rsplit_once('.').ok_or_else(wrong)?;
        let pin = pin.parse().map_err(|_| wrong())?;
        if FleetName::new(fleet).is_err() || secret.is_empty() {
            return Err(wrong());
        }
        Ok(Self { fleet: fleet.to_owned(), secret: secret.to_owned(), pin })
    }
}

/// Makes the directory that an identity will be kept in and writes as much there as that may take, so that no token is spent
/// for one that is lost.
///
/// # Errors
/// When it cannot be made or written.
pub fn make_room(directory: &Path) -> Result<(), Trouble> {
    let written = std::fs::create_dir_all(directory).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&[0; IDENTITY_BYTES])?;
        file.as_file().sync_all()
    });
    written.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
            _ => "make that directory one that this user can write",
        };
        Trouble::broken(format_args!("an identity cannot be kept in {}: {error}", directory.display()))
            .hint(format_args!("{remedy}; the token was not used, and is still good"))
    })
}

/// Redeems a token at `coordinator`.
///
/// # Errors
/// When the token is not good (any more), or the coordinator is not the one it pins.
pub async fn enroll(token: &Token, coordinator: &str) -> Result<Identity, Trouble> {
    let server = SpiffeId::new(&token.fleet, &["coordinator"]).map_err(Trouble::usage)?;
    let options = ChannelOptions::from_env(Profile::Control);
    let channel = enroll_channel(coordinator, token.pin, server, &options).map_err(Trouble::usage)?;
    let (key, request) = new_key_and_csr().map_err(Trouble::broken)?;
    let mut fleet = v1::fleet_client::FleetClient::new(channel);
    let message = v1::EnrollRequest { secret: token.secret.clone(), certificate_request: request.into() };
    let answer = ask("join the fleet", fleet.enroll(message)).await?;
    let chain: Vec<Vec<u8>> = answer.chain.iter().map(|certificate| certificate.to_vec()).collect();
    Identity::new(key, &chain, &answer.authority).map_err(Trouble::broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_and_a_broken_one_is_never_repeated() {
        let pin = Pin([7; 32]);
        let token = Token::parse(&format!(" mrd1.eu.acme.s3cret.{pin}\n")).unwrap();
        assert_eq!((token.fleet.as_str(), token.secret.as_str(), token.pin), ("eu.acme", "s3cret", pin));
        assert!(!format!("{token:?}").contains("s3cret"));
        for text in [
            "",
            "mrd1.acme.s3cret",
            "mrd2.a.b.c",
            "mrd1.acme.s3cret.short",
            &format!("mrd1.../x.s3cret.{pin}"),
        ] {
            let trouble = Token::parse(text).unwrap_err();
            assert!(!trouble.to_string().contains("s3cret"), "{trouble}");
        }
    }

    #[test]
    fn no_token_is_spent_for_an_identity_that_could_not_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let trouble = make_room(&file.join("identity")).unwrap_err();
        assert!(trouble.to_string().contains("still good"), "{trouble}");
        make_room(&dir.path().join("a/b")).unwrap();
        assert_eq!(
            std::fs::read_dir(dir.path().join("a/b")).unwrap().count(),
            0,
            "and nothing is left there"
        );
    }
}
