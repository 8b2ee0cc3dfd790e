//! A signing key at rest: AES-256-GCM under a key that is derived from a secret.
//!
//! One PEM block `MERIDIAN SEALED KEY`; its body is, all numbers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 1 | how the secret becomes a key: 1 HKDF-SHA-256, 2 Argon2id |
//! | 4, 4, 4 | Argon2id's memory in KiB, passes and lanes; zero for HKDF |
//! | 16 | salt |
//! | 12 | nonce |
//! | n + 16 | the key's PKCS#8, encrypted, and the tag; all bytes above are authenticated with it |
//! | 32 | SHA-256 of all bytes above |
//!
//! HKDF is for 32 random bytes that Meridian made; whatever a person may have thought of goes through Argon2id with the
//! second recommendation of RFC 9106 (64 MiB, 3 passes, 4 lanes). Each file has a salt of its own, so the key that
//! encrypts is used once. The checksum protects nothing; it tells a damaged file from a wrong secret.

use argon2::Argon2;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_trust::keys::{KeyError, SigningKey};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey},
    hkdf,
    rand::{SecureRandom as _, SystemRandom},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::secret::Secret;

const BEGIN: &str = "-----BEGIN MERIDIAN SEALED KEY-----";
const END: &str = "-----END MERIDIAN SEALED KEY-----";
const LINE_LEN: usize = 64;
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
const TAG_LEN: usize = 16;
const SUM_LEN: usize = 32;
const HEADER_LEN: usize = 2 + 12 + SALT_LEN + NONCE_LEN;
/// Keeps this key apart from any other that the same secret may give.
const PURPOSE: &[u8] = b"meridian sealed key v1";

const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a file may demand before anything is known about it.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// Why a key is not sealed or not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    /// Cut off or changed by accident.
    #[error("it is damaged ({0}): restore it from a backup, or remove it so that the signer makes a new key")]
    Damaged(&'static str),
    /// Of a later version.
    #[error("it is sealed in form {0}, which this version does not know: use the version that wrote it")]
    Version(u8),
    /// Another secret, or changed on purpose.
    #[error("the secret does not open it: it was sealed under another one")]
    Secret,
    /// What was sealed is no key.
    #[error("what is sealed there is no signing key: {0}")]
    Key(#[from] KeyError),
    /// The operating system gives no random bytes, or no memory.
    #[error("it cannot be sealed: {0}")]
    System(String),
}

/// How a secret becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derivation {
    /// From 32 random bytes.
    Hkdf,
    /// From whatever somebody chose.
    Argon2id {
        /// KiB.
        memory: u32,
        /// How often it is gone over.
        passes: u32,
        /// How many could work at once.
        lanes: u32,
    },
}

impl Derivation {
    /// For a secret that somebody chose.
    pub(super) const CHOSEN: Self = Self::Argon2id { memory: MEMORY_KIB, passes: PASSES, lanes: LANES };

    fn to_bytes(self) -> [u8; 13] {
        let (kind, numbers) = match self {
            Self::Hkdf => (1, [0; 3]),
            Self::Argon2id { memory, passes, lanes } => (2, [memory, passes, lanes]),
        };
        let mut bytes = [kind; 13];
        for (place, number) in bytes[1..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8; 13]) -> Option<Self> {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let (memory, passes, lanes) = (number(1), number(5), number(9));
        match bytes[0] {
            1 if (memory, passes, lanes) == (0, 0, 0) => Some(Self::Hkdf),
            2 if (1..=LANES_MAX).contains(&lanes)
                && (1..=PASSES_MAX).contains(&passes)
                && (lanes * 8..=MEMORY_KIB_MAX).contains(&memory) =>
            {
                Some(Self::Argon2id { memory, passes, lanes })
            }
            _ => None,
        }
    }

    fn derive(self, secret: &Secret, salt: &[u8]) -> Result<LessSafeKey, SealError> {
        let key = match self {
            Self::Hkdf => hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
                .extract(secret.bytes())
                .expand(&[PURPOSE], &AES_256_GCM)
                .map(UnboundKey::from),
            Self::Argon2id { memory, passes, lanes } => {
                let system = |error: argon2::Error| SealError::System(error.to_string());
                let mut key = Zeroizing::new([0; 32]);
                let params = argon2::Params::new(memory, passes, lanes, Some(key.len())).map_err(system)?;
                let argon = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
                argon.hash_password_into(secret.bytes(), salt, &mut *key).map_err(system)?;
                UnboundKey::new(&AES_256_GCM, &*key)
            }
        };
        key.map(LessSafeKey::new).map_err(|_| SealError::System("not an AES key".to_owned()))
    }
}

/// Whether a text says of itself that it is a sealed key.
pub(super) fn is_sealed(text: &str) -> bool {
    text.starts_with(BEGIN)
}

/// How the secret of a sealed key becomes its key.
pub(super) fn derivation(text: &str) -> Result<Derivation, SealError> {
    parse(text).map(|sealed| sealed.derivation)
}

/// Seals a key.
pub(super) fn seal(key: &SigningKey, secret: &Secret, how: Derivation) -> Result<String, SealError> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
    let filled = random.fill(&mut salt).and_then(|()| random.fill(&mut nonce));
    filled.map_err(|_| SealError::System("no random bytes".to_owned()))?;
    seal_with(key, secret, how, salt, nonce)
}

fn seal_with(
    key: &SigningKey,
    secret: &Secret,
    how: Derivation,
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
) -> Result<String, SealError> {
    let mut bytes = vec![VERSION];
    bytes.extend(how.to_bytes());
    bytes.extend(salt);
    bytes.extend(nonce);
    let mut der = key.to_pkcs8_der()?;
    let tag = how
        .derive(secret, &salt)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(&bytes), &mut der)
        .map_err(|_| SealError::System("AES-GCM failed".to_owned()))?;
    bytes.extend(der.as_slice());
    bytes.extend(tag.as_ref());
    let sum = Sha256::digest(&bytes);
    bytes.extend(sum);
    let mut text = format!("{BEGIN}\n");
    let mut digits = STANDARD.encode(&bytes);
    while !digits.is_empty() {
        let rest = digits.split_off(digits.len().min(LINE_LEN));
        text.push_str(&digits);
        text.push('\n');
        digits = rest;
    }
    Ok(text + END + "\n")
}

/// Opens a sealed key.
pub(super) fn open(text: &str, secret: &Secret) -> Result<SigningKey, SealError> {
    let Sealed { derivation, header, sealed, tag } = parse(text)?;
    let (salt, nonce) = header[14..].split_at(SALT_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged("no nonce"))?;
    let mut der = Zeroizing::new(sealed);
    derivation
        .derive(secret, salt)?
        .open_in_place_separate_tag(nonce, aad(&header), tag, &mut der, 0..)
        .map_err(|_| SealError::Secret)?;
    Ok(SigningKey::from_pkcs8_der(&der)?)
}

struct Sealed {
    derivation: Derivation,
    header: Vec<u8>,
    sealed: Vec<u8>,
    tag: Tag,
}

fn parse(text: &str) -> Result<Sealed, SealError> {
    let body = text.strip_prefix(BEGIN).ok_or(SealError::Damaged("it does not begin as one"))?;
    let body = body.trim_end().strip_suffix(END).ok_or(SealError::Damaged("its end is missing"))?;
    let digits: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(digits).map_err(|_| SealError::Damaged("not base64"))?;
    // Told before anything else, since a later version may look different from here on.
    match bytes.first() {
        Some(&VERSION) => {}
        Some(&other) if text.ends_with('\n') => return Err(SealError::Version(other)),
        _ => return Err(SealError::Damaged("no version")),
    }
    let whole = bytes.len().checked_sub(SUM_LEN).filter(|len| *len > HEADER_LEN + TAG_LEN);
    let (whole, sum) = bytes.split_at(whole.ok_or(SealError::Damaged("too short"))?);
    if Sha256::digest(whole).as_slice() != sum {
        return Err(SealError::Damaged("its checksum is wrong"));
    }
    let (header, rest) = whole.split_at(HEADER_LEN);
    let how = header[1..].first_chunk().and_then(Derivation::parse);
    let (sealed, tag) = rest.split_at(rest.len() - TAG_LEN);
    Ok(Sealed {
        derivation: how.ok_or(SealError::Damaged("its parameters are out of bounds"))?,
        header: header.to_vec(),
        sealed: sealed.to_vec(),
        tag: Tag::try_from(tag).map_err(|_| SealError::Damaged("no tag"))?,
    })
}

fn aad(header: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([PURPOSE, header].concat())
}

#[cfg(test)]
mod tests {
    use meridian_trust::keys::{Algorithm, Signer as _};

    use super::*;

    /// Fast, for what does not depend on how slow it is.
    const QUICK: Derivation = Derivation::Argon2id { memory: 64, passes: 1, lanes: 2 };
    const GOLDEN: &str = include_str!("../../tests/golden/sealed_key.pem");
    const GOLDEN_PLAIN: &str = include_str!("../../tests/golden/unsealed_key.pem");

    fn secret() -> Secret {
        Secret::of(b"correct horse battery staple")
    }

    #[test]
    fn a_key_is_opened_by_its_secret_alone() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SigningKey::generate(algorithm).unwrap();
            for how in [Derivation::Hkdf, QUICK, Derivation::CHOSEN] {
                let text = seal(&key, &secret(), how).unwrap();
                assert_eq!(derivation(&text).unwrap(), how);
                assert_eq!(open(&text, &secret()).unwrap().public(), key.public());
                let other = open(&text, &Secret::of(b"correct horse battery stable"));
                assert!(matches!(other, Err(SealError::Secret)), "{other:?}");
                assert!(!text.contains("PRIVATE"));
            }
        }
    }

    #[test]
    fn the_same_key_is_never_sealed_the_same_way_twice() {
        let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        assert_ne!(seal(&key, &secret(), QUICK).unwrap(), seal(&key, &secret(), QUICK).unwrap());
    }

    #[test]
    fn a_sealed_key_is_written_as_in_the_golden_file() {
        let key = SigningKey::from_pkcs8_pem(GOLDEN_PLAIN).unwrap();
        let text = seal_with(&key, &secret(), Derivation::CHOSEN, [7; SALT_LEN], [9; NONCE_LEN]).unwrap();
        if std::env::var_os("MERIDIAN_WRITE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sealed_key.pem");
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, GOLDEN);
        assert_eq!(open(GOLDEN, &secret()).unwrap().public(), key.public());
    }

    #[test]
    fn a_file_that_was_cut_off_is_said_to_be_damaged_wherever_it_ends() {
        let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        let text = seal(&key, &secret(), QUICK).unwrap();
        for len in 0..text.trim_end().len() {
            let error = open(&text[..len], &secret()).unwrap_err();
            assert!(matches!(error, SealError::Damaged(_)), "{len}: {error}");
        }
    }

    #[test]
    fn no_flipped_bit_gives_a_key() {
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let text = seal(&key, &secret(), QUICK).unwrap();
        for bit in 0..text.trim_end().len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            // A line end that became another blank is no change.
            let is_blank =
                flipped.as_bytes()[bit / 8].is_ascii_whitespace() && text.as_bytes()[bit / 8] == b'\n';
            assert!(is_blank || open(&flipped, &secret()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_cannot_make_the_signer_work_for_ever_and_one_whose_sum_was_mended_opens_no_more() {
        let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        let text = seal(&key, &secret(), QUICK).unwrap();
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
            let mut bytes = STANDARD.decode(body).unwrap();
            bytes.truncate(bytes.len() - SUM_LEN);
            change(&mut bytes);
            let sum = Sha256::digest(&bytes);
            bytes.extend(sum);
            open(&format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes)), &secret())
        };
        assert!(with(&|_| {}).is_ok());
        let huge = with(&|bytes| bytes[2] = 0xff);
        assert!(matches!(huge, Err(SealError::Damaged(_))), "{huge:?}");
        for at in [5, 20, 35, HEADER_LEN, HEADER_LEN + 40] {
            let changed = with(&|bytes| bytes[at] ^= 1);
            assert!(matches!(changed, Err(SealError::Secret | SealError::Damaged(_))), "{at}: {changed:?}");
        }
        assert!(matches!(with(&|bytes| bytes[0] = 2), Err(SealError::Version(2))));
    }
}
