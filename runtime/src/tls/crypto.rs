//! The process's one provider of cryptography.

/// Makes ring the process's cryptography. Call it first thing in `main`: libraries that ask for the default provider
/// panic without one. Calling it again does nothing.
pub fn install_crypto() {
    // An error only says that a provider stands already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
