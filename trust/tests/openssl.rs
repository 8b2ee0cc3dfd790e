//! What Meridian writes, OpenSSL verifies, and the other way round.
//!
//! Needs `openssl` (3.0 or later) in PATH. Without it nothing is checked, and the test says so on standard
//! error.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use meridian_trust::{
    keys::{Algorithm, Signature, Signer as _, SigningKey, VerifyingKey},
    message::Message,
    sidecar::{Sidecar, parse_signature_text, signature_text},
};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];
const ARTIFACT: &str = "web_1.2.3_linux_amd64";

/// Runs openssl in a directory; says whether it succeeded.
fn openssl(directory: &Path, line: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(line.split(' ')).current_dir(directory).stdin(Stdio::null());
    let output = command.output().expect("openssl was there a moment ago");
    if !output.status.success() {
        eprintln!("openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// A directory to work in, or `None` with a word about it when there is no openssl.
fn workshop() -> Option<tempfile::TempDir> {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("NOT CHECKED: openssl is not in PATH, so nothing was verified with it");
        return None;
    }
    Some(tempfile::tempdir().expect("a place for temporary files"))
}

/// How openssl checks `X.sig.raw` over a file.
fn verify_line(algorithm: Algorithm, file: &str) -> String {
    match algorithm {
        Algorithm::EcdsaP256 => {
            format!("dgst -sha256 -verify {ARTIFACT}.pub -signature {ARTIFACT}.sig.raw {file}")
        }
        Algorithm::Ed25519 => {
            format!(
                "pkeyutl -verify -pubin -inkey {ARTIFACT}.pub -rawin -in {file} -sigfile {ARTIFACT}.sig.raw"
            )
        }
    }
}

#[test]
fn openssl_verifies_the_signature_and_the_key_that_stand_beside_an_artifact() {
    let Some(workshop) = workshop() else { return };
    let directory = workshop.path();
    let content = vec![7; 100_000];
    for algorithm in ALGORITHMS {
        let key = SigningKey::generate(algorithm).unwrap();
        let signature = key.sign(&Message::of(&content)).unwrap();
        fs::write(directory.join(ARTIFACT), &content).unwrap();
        fs::write(directory.join("altered"), &content[1..]).unwrap();
        fs::write(directory.join(Sidecar::PublicKey.file_name(ARTIFACT)), key.public().to_pem()).unwrap();
        fs::write(directory.join(Sidecar::Signature.file_name(ARTIFACT)), signature_text(&signature))
            .unwrap();
        // A stock tool decodes the file, not this crate.
        assert!(openssl(directory, &format!("base64 -d -A -in {ARTIFACT}.sig -out {ARTIFACT}.sig.raw")));
        assert!(openssl(directory, &verify_line(algorithm, ARTIFACT)), "{algorithm}");
        assert!(!openssl(directory, &verify_line(algorithm, "altered")), "{algorithm}");
    }
}

#[test]
fn openssl_reads_the_private_keys_that_meridian_writes() {
    let Some(workshop) = workshop() else { return };
    let directory = workshop.path();
    for algorithm in ALGORITHMS {
        let key = SigningKey::generate(algorithm).unwrap();
        fs::write(directory.join("key.pem"), &*key.to_pkcs8_pem().unwrap()).unwrap();
        fs::write(directory.join("key.der"), &*key.to_pkcs8_der().unwrap()).unwrap();
        assert!(openssl(directory, "pkey -in key.pem -pubout -out pem.pub"), "{algorithm}");
        assert!(openssl(directory, "pkey -inform DER -in key.der -pubout -out der.pub"), "{algorithm}");
        for file in ["pem.pub", "der.pub"] {
            let text = fs::read_to_string(directory.join(file)).unwrap();
            assert_eq!(text, key.public().to_pem());
            assert_eq!(VerifyingKey::from_pem(&text).unwrap(), *key.public());
        }
    }
}

#[test]
fn meridian_takes_the_keys_and_signatures_that_openssl_makes() {
    let Some(workshop) = workshop() else { return };
    let directory = workshop.path();
    fs::write(directory.join("file"), b"an artifact").unwrap();
    let message = Message::of(b"an artifact");
    for (algorithm, generate, sign) in [
        (
            Algorithm::EcdsaP256,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
            "dgst -sha256 -sign key.pem -out signature file",
        ),
        (
            Algorithm::Ed25519,
            "genpkey -algorithm ED25519 -out key.pem",
            "pkeyutl -sign -inkey key.pem -rawin -in file -out signature",
        ),
    ] {
        assert!(openssl(directory, generate));
        let key =
            SigningKey::from_pkcs8_pem(&fs::read_to_string(directory.join("key.pem")).unwrap()).unwrap();
        assert_eq!(key.public().algorithm(), algorithm);
        // Half of openssl's ECDSA signatures have the upper S: as from a token, it is brought down.
        for _ in 0..8 {
            assert!(openssl(directory, sign));
            let raw = fs::read(directory.join("signature")).unwrap();
            let signature = match algorithm {
                Algorithm::EcdsaP256 => Signature::from_p256_der(&raw).unwrap(),
                Algorithm::Ed25519 => Signature::parse(algorithm, &raw).unwrap(),
            };
            key.public().verify(&message, &signature).unwrap();
            let text = signature_text(&signature);
            assert_eq!(parse_signature_text(algorithm, text.as_bytes()).unwrap(), signature);
        }
    }
}

#[test]
fn keys_of_other_algorithms_are_refused() {
    let Some(workshop) = workshop() else { return };
    let directory = workshop.path();
    for generate in [
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out key.pem",
        "genpkey -algorithm ED448 -out key.pem",
        "genpkey -algorithm X25519 -out key.pem",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem",
    ] {
        assert!(openssl(directory, generate));
        assert!(openssl(directory, "pkey -in key.pem -pubout -out key.pub"));
        let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
        assert!(VerifyingKey::from_pem(&read("key.pub")).is_err(), "{generate}");
        assert!(SigningKey::from_pkcs8_pem(&read("key.pem")).is_err(), "{generate}");
    }
    // The right curve in a second form: a compressed point.
    assert!(openssl(directory, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"));
    assert!(openssl(directory, "ec -in key.pem -pubout -conv_form compressed -out key.pub"));
    let text = fs::read_to_string(directory.join("key.pub")).unwrap();
    assert!(VerifyingKey::from_pem(&text).is_err(), "{text}");
}
