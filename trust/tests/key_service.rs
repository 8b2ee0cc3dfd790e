//! The seam for a key service: a signer whose key is in another process, which answers with DER, late, or not at all.
//!
//! The service is `openssl` with a key of its own; what asks it is what an implementation for a cloud's would be, but for
//! the network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use meridian_trust::{
    dsse::Envelope,
    keys::{SignError, Signature, Signer, VerifyingKey},
    message::Message,
};

const KIND: &str = "application/vnd.in-toto+json";
const DEADLINE: Duration = Duration::from_secs(20);

/// A key that somebody else holds.
struct KeyService {
    public: VerifyingKey,
    /// What is asked, as a program and its arguments: a digest in, DER out.
    ask: Vec<String>,
    deadline: Duration,
}

impl Signer for KeyService {
    fn public(&self) -> &VerifyingKey {
        &self.public
    }

    fn sign(&self, message: &Message<'_>) -> Result<Signature, SignError> {
        let holder = |error: &dyn std::fmt::Display| SignError::Holder(error.to_string());
        let mut asked = Command::new(&self.ask[0])
            .args(&self.ask[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| holder(&error))?;
        let digest = message.digest();
        let written = asked.stdin.take().map(|mut stdin| stdin.write_all(digest.as_bytes()));
        let ended = wait(&mut asked, self.deadline);
        if ended.is_none() {
            asked.kill().and_then(|()| asked.wait()).map_err(|error| holder(&error))?;
            return Err(SignError::Late { within: self.deadline });
        }
        if ended != Some(true) || written.is_none_or(|written| written.is_err()) {
            return Err(holder(&"the service refused"));
        }
        let mut der = Vec::new();
        asked.stdout.take().unwrap().read_to_end(&mut der).map_err(|error| holder(&error))?;
        let signature = Signature::from_p256_der(&der).map_err(|error| holder(&error))?;
        self.public.verify(message, &signature).map_err(|error| holder(&error))?;
        Ok(signature)
    }
}

/// Whether it ended well; `None` when it did not end in time.
fn wait(child: &mut Child, within: Duration) -> Option<bool> {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// A service with a fresh key in `dir`; `None` where there is no openssl.
fn service(dir: &Path, name: &str) -> Option<KeyService> {
    let key: PathBuf = dir.join(name);
    let key = key.display().to_string();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key])
        .output();
    if made.is_err() {
        eprintln!("NOT CHECKED: openssl is not in PATH, so there is no service to ask");
        return None;
    }
    let public = Command::new("openssl").args(["pkey", "-in", &key, "-pubout"]).output().unwrap();
    let public = VerifyingKey::from_pem(&String::from_utf8(public.stdout).unwrap()).unwrap();
    let ask = ["openssl", "pkeyutl", "-sign", "-inkey", &key].map(str::to_owned).to_vec();
    Some(KeyService { public, ask, deadline: DEADLINE })
}

#[test]
fn a_key_in_another_process_signs_artifacts_and_statements() {
    let dir = tempfile::tempdir().unwrap();
    let Some(service) = service(dir.path(), "key") else { return };
    for text in ["one", "two", "three", "four"] {
        let message = Message::of(text.as_bytes());
        let signature = service.sign(&message).unwrap();
        // In the one form that is taken, also where the service gave the other S.
        let again = Signature::parse(service.public().algorithm(), &signature.to_bytes()).unwrap();
        service.public().verify(&message, &again).unwrap();
    }
    let envelope = Envelope::sign(&service, KIND, b"{}".to_vec()).unwrap();
    assert_eq!(envelope.open(service.public(), KIND).unwrap(), b"{}");
}

#[test]
fn a_service_that_is_late_refuses_or_lies_signs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(good), Some(other)) = (service(dir.path(), "key"), service(dir.path(), "other")) else {
        return;
    };
    let asks = |ask: &[&str], deadline| KeyService {
        public: good.public.clone(),
        ask: ask.iter().map(|word| (*word).to_owned()).collect(),
        deadline,
    };
    let deadline = Duration::from_millis(50);
    let began = Instant::now();
    let late = asks(&["sleep", "600"], deadline).sign(&Message::of(b"artifact"));
    assert!(matches!(late, Err(SignError::Late { within }) if within == deadline), "{late:?}");
    assert!(began.elapsed() < DEADLINE, "it was waited for");
    let statement = Envelope::sign(&asks(&["sleep", "600"], deadline), KIND, b"{}".to_vec());
    assert!(matches!(statement, Err(SignError::Late { .. })), "{statement:?}");
    for (what, liar) in [
        ("refuses", asks(&["false"], DEADLINE)),
        ("says nothing", asks(&["true"], DEADLINE)),
        ("is not there", asks(&["/nowhere/service"], DEADLINE)),
        ("signs with another key", KeyService { public: good.public.clone(), ..other }),
    ] {
        let signed = liar.sign(&Message::of(b"artifact"));
        assert!(matches!(signed, Err(SignError::Holder(_))), "a service that {what}: {signed:?}");
    }
}
