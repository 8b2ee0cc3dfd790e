//! Public keys as tokens give them.

use meridian_trust::keys::{Algorithm, KeyError, VerifyingKey};

/// DER of the curve that `CKA_EC_PARAMS` names: prime256v1, as an object identifier.
pub(super) const P256_PARAMS: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Ed25519, by name (PKCS#11 3.0) and as an object identifier (RFC 8410). Tokens take the one or the other.
pub(super) const ED25519_PARAMS: [&[u8]; 2] = [
    &[0x13, 0x0c, b'e', b'd', b'w', b'a', b'r', b'd', b's', b'2', b'5', b'5', b'1', b'9'],
    &[0x06, 0x03, 0x2b, 0x65, 0x70],
];

/// Reads `CKA_EC_POINT`: an octet string around the point, as the standard has it, or the point alone, as some tokens do.
pub(super) fn read(params: &[u8], point: &[u8]) -> Result<VerifyingKey, KeyError> {
    let algorithm = if params == P256_PARAMS {
        Algorithm::EcdsaP256
    } else if ED25519_PARAMS.contains(&params) {
        Algorithm::Ed25519
    } else {
        return Err(KeyError::Encoding { len: point.len() });
    };
    let len = match algorithm {
        Algorithm::EcdsaP256 => 65,
        Algorithm::Ed25519 => 32,
    };
    let inner = match point {
        [0x04, told, inner @ ..] if usize::from(*told) == len && inner.len() == len => inner,
        whole => whole,
    };
    match algorithm {
        Algorithm::EcdsaP256 => VerifyingKey::from_p256_point(inner),
        Algorithm::Ed25519 => VerifyingKey::from_ed25519_bytes(inner),
    }
}

#[cfg(test)]
mod tests {
    use meridian_trust::keys::{Signer as _, SigningKey};

    use super::*;

    #[test]
    fn a_point_is_read_in_an_octet_string_and_alone_and_of_no_other_curve() {
        for (algorithm, params) in
            [(Algorithm::EcdsaP256, P256_PARAMS), (Algorithm::Ed25519, ED25519_PARAMS[0])]
        {
            let key = SigningKey::generate(algorithm).unwrap().public().clone();
            let len = if algorithm == Algorithm::EcdsaP256 { 65 } else { 32 };
            let spki = key.to_spki();
            let point = &spki[spki.len() - len..];
            let told = u8::try_from(len).unwrap();
            assert_eq!(read(params, point).unwrap(), key);
            assert_eq!(read(params, &[&[4, told], point].concat()).unwrap(), key);
            for wrong in [&point[1..], &[&[4, told + 1], point].concat(), &[&[5, told], point].concat(), &[]]
            {
                assert!(read(params, wrong).is_err(), "{algorithm}: {wrong:02x?}");
            }
            let p384 = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
            assert!(read(&p384, point).is_err());
        }
    }
}
