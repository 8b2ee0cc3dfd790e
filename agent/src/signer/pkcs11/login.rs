//! From a module to a session that is logged in.

use std::path::Path;

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};

use super::TokenError;

/// Loads a module.
pub(super) fn load(path: &Path) -> Result<Pkcs11, TokenError> {
    let failed = |error: Error| {
        let why = match error {
            Error::LibraryLoading(why) => why.to_string(),
            Error::NullFunctionPointer | Error::MissingSymbol(_) => "it is no PKCS#11 module".to_owned(),
            other => other.to_string(),
        };
        TokenError::Module { path: path.to_owned(), why }
    };
    let module = Pkcs11::new(path).map_err(failed)?;
    initialize(&module).map_err(failed)?;
    Ok(module)
}

fn initialize(module: &Pkcs11) -> Result<(), Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}

/// Opens a session with the token of this label and logs in.
pub(super) fn log_in(module: &Pkcs11, label: &str, pin: &str) -> Result<Session, TokenError> {
    // A module whose machine slept, or that was told to stop by other code, begins anew; to any other this says nothing.
    initialize(module)?;
    let slot = slot_of(module, label)?;
    let about = module.get_token_info(slot)?;
    let named = || label.to_owned();
    if about.user_pin_locked() {
        return Err(TokenError::PinLocked(named()));
    }
    if about.user_pin_final_try() {
        return Err(TokenError::PinLastTry(named()));
    }
    if !about.user_pin_initialized() {
        return Err(TokenError::PinUnset(named()));
    }
    let session = module.open_rw_session(slot)?;
    match session.login(UserType::User, Some(&AuthPin::new(pin.into()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            Err(TokenError::PinWrong(named()))
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::PinLocked(named())),
        Err(Error::Pkcs11(RvError::PinExpired, _)) => Err(TokenError::PinExpired(named())),
        Err(Error::Pkcs11(RvError::UserPinNotInitialized, _)) => Err(TokenError::PinUnset(named())),
        Err(error) => Err(error.into()),
    }
}

fn slot_of(module: &Pkcs11, label: &str) -> Result<Slot, TokenError> {
    let mut labels = Vec::new();
    let mut found = Vec::new();
    for slot in module.get_slots_with_initialized_token()? {
        let about = module.get_token_info(slot)?;
        if about.label() == label {
            found.push(slot);
        }
        labels.push(format!("{:?}", about.label()));
    }
    match found[..] {
        [slot] => Ok(slot),
        [] => {
            let found = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
            Err(TokenError::NoToken { wanted: label.to_owned(), found })
        }
        _ => Err(TokenError::ManyTokens { wanted: label.to_owned(), count: found.len() }),
    }
}
