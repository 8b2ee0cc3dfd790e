//! The key on the token.

use std::{cell::RefCell, path::PathBuf};

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    mechanism::{
        Mechanism,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use meridian_core::digest::Digest;
use meridian_trust::{
    keys::{Algorithm, SignError, Signature, Signer, VerifyingKey},
    message::Message,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    TokenError, login,
    public::{self, ED25519_PARAMS, P256_PARAMS},
};
use crate::signer::secret::Secret;

/// The largest message that an Ed25519 key on a token signs: it is in memory whole.
const MESSAGE_LEN_MAX: usize = 256 << 20;

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct TokenPlace {
    /// The module, a shared library.
    pub(in super::super) module: PathBuf,
    /// The token's label.
    pub(in super::super) token: String,
    /// The key's label.
    pub(in super::super) label: String,
    /// The key's id, if it is told apart by one.
    pub(in super::super) id: Option<Vec<u8>>,
}

/// A key on a token.
pub(in super::super) struct TokenKey {
    module: Pkcs11,
    place: TokenPlace,
    pin: Zeroizing<String>,
    algorithm: Algorithm,
    public: VerifyingKey,
    /// `None` after it was lost.
    open: RefCell<Option<Open>>,
}

/// A session that is logged in, and the key in it.
struct Open {
    session: Session,
    private: ObjectHandle,
}

impl TokenKey {
    /// Loads the module, logs in and finds the key; makes it on the token when there is none.
    pub(in super::super) fn open(
        place: TokenPlace,
        pin: &Secret,
        algorithm: Algorithm,
    ) -> Result<Self, TokenError> {
        let pin = std::str::from_utf8(pin.bytes()).map_err(|_| TokenError::PinText)?;
        let module = login::load(&place.module)?;
        let session = login::log_in(&module, &place.token, pin)?;
        let (private, public) = match find(&session, &place, algorithm)? {
            Some(found) => found,
            None => {
                generate(&session, &place, algorithm)?;
                find(&session, &place, algorithm)?
                    .ok_or_else(|| TokenError::NoPublicKey(place.label.clone()))?
            }
        };
        let pin = Zeroizing::new(pin.to_owned());
        let open = RefCell::new(Some(Open { session, private }));
        Ok(Self { module, place, pin, algorithm, public, open })
    }

    fn log_in(&self) -> Result<Open, TokenError> {
        let session = login::log_in(&self.module, &self.place.token, &self.pin)?;
        let found = find(&session, &self.place, self.algorithm)?;
        let (private, public) = found.ok_or_else(|| TokenError::NoPublicKey(self.place.label.clone()))?;
        if public != self.public {
            return Err(TokenError::Exchanged { wanted: self.public.id(), found: public.id() });
        }
        Ok(Open { session, private })
    }

    fn sign_in(&self, open: &Open, message: &Message<'_>) -> Result<Signature, Unsigned> {
        let signature = match self.algorithm {
            Algorithm::EcdsaP256 => {
                let pair = open.sign(&Mechanism::Ecdsa, message.digest().as_bytes())?;
                Signature::from_p256_pair(&pair)
            }
            Algorithm::Ed25519 => {
                let bytes = message.to_bytes(MESSAGE_LEN_MAX).map_err(SignError::from)?;
                let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
                Signature::parse(Algorithm::Ed25519, &open.sign(&mechanism, &bytes)?)
            }
        };
        let signature = signature.map_err(|_| TokenError::NoPair)?;
        self.public.verify(message, &signature).map_err(|_| TokenError::NoPair)?;
        Ok(signature)
    }
}

/// Why there is no signature: the token's trouble, or the message's.
enum Unsigned {
    Token(TokenError),
    Message(SignError),
}

impl From<TokenError> for Unsigned {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<SignError> for Unsigned {
    fn from(error: SignError) -> Self {
        Self::Message(error)
    }
}

impl From<Unsigned> for SignError {
    fn from(unsigned: Unsigned) -> Self {
        match unsigned {
            Unsigned::Token(error) => Self::Holder(error.to_string()),
            Unsigned::Message(error) => error,
        }
    }
}

impl Open {
    fn sign(&self, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, TokenError> {
        Ok(self.session.sign(mechanism, self.private, data)?)
    }
}

impl Signer for TokenKey {
    fn public(&self) -> &VerifyingKey {
        &self.public
    }

    fn sign(&self, message: &Message<'_>) -> Result<Signature, SignError> {
        let mut kept = self.open.borrow_mut();
        if let Some(open) = kept.take() {
            match self.sign_in(&open, message) {
                Err(Unsigned::Token(error)) if error.is_lost() => {}
                signed => {
                    *kept = Some(open);
                    return Ok(signed?);
                }
            }
        }
        // A token that was reset, or pulled out and put back. The lost session is closed by now, so that a token with
        // room for few has room for the next.
        let open = self.log_in().map_err(Unsigned::Token)?;
        let signed = self.sign_in(&open, message)?;
        *kept = Some(open);
        Ok(signed)
    }
}

/// The private key and its public half; `None` when there is no private key of this name.
fn find(
    session: &Session,
    place: &TokenPlace,
    algorithm: Algorithm,
) -> Result<Option<(ObjectHandle, VerifyingKey)>, TokenError> {
    let mut template = vec![Attribute::Label(place.label.clone().into_bytes()), Attribute::Token(true)];
    template.extend(place.id.clone().map(Attribute::Id));
    let of_class = |class: ObjectClass| {
        let template: Vec<Attribute> = template.iter().cloned().chain([Attribute::Class(class)]).collect();
        session.find_objects(&template)
    };
    let private = match of_class(ObjectClass::PRIVATE_KEY)?[..] {
        [] => return Ok(None),
        [private] => private,
        ref several => {
            return Err(TokenError::ManyKeys { label: place.label.clone(), count: several.len() });
        }
    };
    let [public] = of_class(ObjectClass::PUBLIC_KEY)?[..] else {
        return Err(TokenError::NoPublicKey(place.label.clone()));
    };
    let (mut params, mut point) = (Vec::new(), Vec::new());
    for attribute in session.get_attributes(public, &[AttributeType::EcParams, AttributeType::EcPoint])? {
        match attribute {
            Attribute::EcParams(bytes) => params = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    let wrong = |error| TokenError::PublicKey { label: place.label.clone(), error };
    let public = public::read(&params, &point).map_err(wrong)?;
    if public.algorithm() != algorithm {
        let (wanted, found) = (algorithm, public.algorithm());
        return Err(TokenError::Algorithm { label: place.label.clone(), wanted, found });
    }
    Ok(Some((private, public)))
}

/// Makes a key pair on the token. The private key can sign and can never be taken off.
fn generate(session: &Session, place: &TokenPlace, algorithm: Algorithm) -> Result<(), TokenError> {
    let label = place.label.clone().into_bytes();
    // Tools pair the two halves by their id, so both get one.
    let id = place.id.clone().unwrap_or_else(|| Digest::of(&label).as_bytes()[..8].to_vec());
    let (mechanism, kind, params): (_, _, &[&[u8]]) = match algorithm {
        Algorithm::EcdsaP256 => (Mechanism::EccKeyPairGen, KeyType::EC, &[P256_PARAMS]),
        Algorithm::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, KeyType::EC_EDWARDS, &ED25519_PARAMS),
    };
    let shared =
        [Attribute::Token(true), Attribute::Label(label), Attribute::Id(id), Attribute::KeyType(kind)];
    let private: Vec<Attribute> = shared
        .iter()
        .cloned()
        .chain([
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ])
        .collect();
    let unable = || TokenError::Unable { token: place.token.clone(), algorithm };
    for params in params {
        let own = [Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(params.to_vec())];
        let public: Vec<Attribute> = shared.iter().cloned().chain(own).collect();
        match session.generate_key_pair(&mechanism, &public, &private) {
            Ok(_) => return Ok(()),
            Err(Error::Pkcs11(RvError::MechanismInvalid | RvError::FunctionNotSupported, _)) => {
                return Err(unable());
            }
            // The other spelling of the curve may be the one it knows.
            Err(Error::Pkcs11(
                RvError::DomainParamsInvalid
                | RvError::CurveNotSupported
                | RvError::AttributeValueInvalid
                | RvError::TemplateInconsistent
                | RvError::GeneralError
                | RvError::FunctionFailed,
                _,
            )) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(unable())
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
