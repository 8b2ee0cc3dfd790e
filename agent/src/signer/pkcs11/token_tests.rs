//! A real module, SoftHSM2, in a process of each test's own: what it finds in its environment, and the sessions that it
//! knows, belong to the whole process.

use std::{fs, path::Path, process::Command};

use meridian_trust::dsse::Envelope;

use super::*;

const PIN: &str = "4711-user";
const TOKEN: &str = "meridian test";
/// Set in the process that a test really runs in.
const INNER: &str = "MERIDIAN_TEST_TOKEN_MODULE";
/// Where distributions put it.
const MODULES: &[&str] = &[
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/// Runs the body with a fresh token, in another process that runs this one test. Without SoftHSM2 it says that nothing
/// was checked, and fails where somebody relies on it.
fn with_token(test: &str, body: impl FnOnce(&Path)) {
    if let Some(module) = std::env::var_os(INNER) {
        return body(Path::new(&module));
    }
    let Some(module) = MODULES.iter().find(|path| Path::new(path).exists()) else {
        assert!(std::env::var_os("MERIDIAN_REQUIRE_SOFTHSM").is_none(), "there is no SoftHSM2");
        eprintln!("NOT CHECKED: there is no SoftHSM2 on this machine");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let conf = dir.path().join("softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    let arguments = ["--init-token", "--free", "--label", TOKEN, "--so-pin", "0815-officer", "--pin", PIN];
    let made = Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", &conf).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let name = format!("signer::pkcs11::key::tests::{test}");
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env(INNER, module)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn place(module: &Path, label: &str) -> TokenPlace {
    let (module, token) = (module.to_owned(), TOKEN.to_owned());
    TokenPlace { module, token, label: label.to_owned(), id: None }
}

fn open(place: TokenPlace, pin: &str, algorithm: Algorithm) -> Result<TokenKey, String> {
    TokenKey::open(place, &Secret::of(pin.as_bytes()), algorithm).map_err(|error| error.to_string())
}

fn refused(place: TokenPlace, pin: &str, algorithm: Algorithm) -> String {
    open(place, pin, algorithm).err().unwrap()
}

fn signs(key: &TokenKey) {
    let message = Message::of(b"artifact");
    let signature = key.sign(&message).unwrap();
    key.public().verify(&message, &signature).unwrap();
    // In the one form that is written: the lower S for ECDSA, DER or 64 bytes.
    Signature::parse(key.public().algorithm(), &signature.to_bytes()).unwrap();
    let envelope = Envelope::sign(key, "application/vnd.in-toto+json", b"{}".to_vec()).unwrap();
    assert_eq!(envelope.open(key.public(), "application/vnd.in-toto+json").unwrap(), b"{}");
}

#[test]
fn a_key_is_made_on_the_token_once_and_signs_artifacts_and_statements() {
    with_token("a_key_is_made_on_the_token_once_and_signs_artifacts_and_statements", |module| {
        for (algorithm, label) in [(Algorithm::EcdsaP256, "ecdsa"), (Algorithm::Ed25519, "eddsa")] {
            let key = open(place(module, label), PIN, algorithm).unwrap();
            assert_eq!(key.public().algorithm(), algorithm);
            for _ in 0..20 {
                signs(&key);
            }
            let open_key = key.open.borrow();
            let Open { session, private } = open_key.as_ref().unwrap();
            let wanted = [AttributeType::Extractable, AttributeType::Sensitive];
            let said = session.get_attributes(*private, &wanted).unwrap();
            assert_eq!(said, [Attribute::Extractable(false), Attribute::Sensitive(true)]);
            let again = open(place(module, label), PIN, algorithm).unwrap();
            assert_eq!(again.public(), key.public());
        }
        let said = refused(place(module, "ecdsa"), PIN, Algorithm::Ed25519);
        assert!(said.contains("is an ecdsa-p256 key, and agent.toml wants ed25519"), "{said}");
    });
}

#[test]
fn a_token_that_was_reset_is_logged_in_to_again() {
    with_token("a_token_that_was_reset_is_logged_in_to_again", |module| {
        let key = open(place(module, "key"), PIN, Algorithm::EcdsaP256).unwrap();
        signs(&key);
        key.module.clone().finalize().unwrap();
        signs(&key);
        key.open.borrow().as_ref().unwrap().session.logout().unwrap();
        signs(&key);
        // After that a wrong PIN would be told, and tried once.
        let mut key = key;
        key.pin = Zeroizing::new("wrong-pin".to_owned());
        key.module.clone().finalize().unwrap();
        let error = key.sign(&Message::of(b"artifact")).unwrap_err().to_string();
        assert!(error.contains("the PIN of token \"meridian test\" is wrong"), "{error}");
    });
}

#[test]
fn what_is_wrong_with_a_token_is_said_in_words() {
    with_token("what_is_wrong_with_a_token_is_said_in_words", |module| {
        let wanted = Algorithm::EcdsaP256;
        let said = refused(place(module, "key"), "wrong-pin", wanted);
        assert!(said.contains("is wrong; it was tried once"), "{said}");
        let elsewhere = TokenPlace { token: "elsewhere".to_owned(), ..place(module, "key") };
        let said = refused(elsewhere, PIN, wanted);
        assert!(said.contains("no token is called \"elsewhere\"; there are: \"meridian test\""), "{said}");
        let said = refused(place(Path::new("/nowhere/libpkcs11.so"), "key"), PIN, wanted);
        assert!(said.contains("PKCS#11 module /nowhere/libpkcs11.so cannot be loaded"), "{said}");
        let program = std::env::current_exe().unwrap();
        let said = refused(place(&program, "key"), PIN, wanted);
        assert!(said.contains("cannot be loaded"), "{said}");
    });
}

#[test]
fn two_keys_of_one_name_are_told_apart_by_their_id_and_a_pair_that_is_none_signs_nothing() {
    let name = "two_keys_of_one_name_are_told_apart_by_their_id_and_a_pair_that_is_none_signs_nothing";
    with_token(name, |module| {
        let with_id = |id: &[u8]| TokenPlace { id: Some(id.to_vec()), ..place(module, "key") };
        let one = open(with_id(&[1]), PIN, Algorithm::EcdsaP256).unwrap();
        let two = open(with_id(&[2]), PIN, Algorithm::EcdsaP256).unwrap();
        assert_ne!(one.public(), two.public());
        let said = refused(place(module, "key"), PIN, Algorithm::EcdsaP256);
        assert!(
            said.contains("2 private keys on the token are called \"key\": say which with `id`"),
            "{said}"
        );
        // The public half of the one is put in the place of the other's.
        let kept = one.open.borrow();
        let session = &kept.as_ref().unwrap().session;
        let public = |id: u8| {
            let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(vec![id])];
            session.find_objects(&template).unwrap()[0]
        };
        session.destroy_object(public(1)).unwrap();
        let said = refused(with_id(&[1]), PIN, Algorithm::EcdsaP256);
        assert!(said.contains("and no public key"), "{said}");
        session.copy_object(public(2), &[Attribute::Id(vec![1])]).unwrap();
        let false_pair = open(with_id(&[1]), PIN, Algorithm::EcdsaP256).unwrap();
        let error = false_pair.sign(&Message::of(b"artifact")).unwrap_err().to_string();
        assert!(error.contains("the two are not a pair"), "{error}");
    });
}
