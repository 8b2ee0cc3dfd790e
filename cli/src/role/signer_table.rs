//! The `[signer]` table of `agent.toml`.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use meridian_agent::signer::{KeyPlace, Seal, SecretSource, SignerSettings, TokenSettings, UserChoice};
use meridian_runtime::config::{Key, Kind, Problem};
use meridian_trust::keys::Algorithm;
use serde::Deserialize;

/// The table's keys.
pub(super) const KEYS: &[Key] = &[
    Key::optional("user", USER),
    Key::optional("algorithm", Kind::OneOf(&["ecdsa-p256", "ed25519"])),
    Key::optional("key", Kind::OneOf(&["file", "pkcs11"])),
    Key::optional("seal", SEAL),
    Key::optional("pkcs11", Kind::Table(PKCS11_KEYS)),
];
const PKCS11_KEYS: &[Key] = &[
    Key::required("module", PATH),
    Key::required("token", Kind::Text),
    Key::required("label", Kind::Text),
    Key::optional("id", ID),
    Key::required("pin", SECRET),
    Key::optional("environment", Kind::Map { keys: &VARIABLE, values: &Kind::Text }),
];

const USER: Kind = Kind::Parsed {
    expected: "NAME or UID, with :GROUP or :GID where the primary group is not meant",
    check: |text| parse::<UserChoice>(text).map(drop),
};
const SEAL: Kind = Kind::Parsed {
    expected: "file:PATH, credential:NAME or none",
    check: |text| if text == "none" { Ok(()) } else { parse::<SecretSource>(text).map(drop) },
};
const SECRET: Kind = Kind::Parsed {
    expected: "file:PATH or credential:NAME",
    check: |text| parse::<SecretSource>(text).map(drop),
};
const PATH: Kind = Kind::Parsed {
    expected: "an absolute path",
    check: |text| {
        if text.starts_with('/') { Ok(()) } else { Err("it does not begin with a slash".to_owned()) }
    },
};
const ID: Kind = Kind::Parsed {
    expected: "the key's id in hexadecimal digits",
    check: |text| hex(text).map(drop).ok_or_else(|| "it is not".to_owned()),
};
const VARIABLE: Kind = Kind::Parsed {
    expected: "the name of an environment variable",
    check: |text| {
        let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // What the loader of programs listens to would be heard before the signer has closed itself.
        if is_name && !text.starts_with("LD_") { Ok(()) } else { Err("it cannot be set".to_owned()) }
    },
};

/// What the file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SignerTable {
    user: Option<String>,
    algorithm: Option<String>,
    key: Option<String>,
    seal: Option<String>,
    pkcs11: Option<Pkcs11Table>,
}

#[derive(Debug, Clone, Deserialize)]
struct Pkcs11Table {
    module: PathBuf,
    token: String,
    label: String,
    id: Option<String>,
    pin: String,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

impl SignerTable {
    /// What contradicts itself.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let is_token = self.key.as_deref() == Some("pkcs11");
        let mut found = Vec::new();
        if is_token && self.pkcs11.is_none() {
            let advice = "which token? say module, token, label and pin in [signer.pkcs11]";
            found.push(Problem::new(&["signer.key"], advice));
        }
        if !is_token && self.pkcs11.is_some() {
            let advice = "the key is in a file: say `key = \"pkcs11\"` in [signer], or take this table away";
            found.push(Problem::new(&["signer.pkcs11", "signer.key"], advice));
        }
        if is_token && self.seal.is_some() {
            let advice = "a key on a token has no file that could be sealed";
            found.push(Problem::new(&["signer.seal", "signer.key"], advice));
        }
        found
    }

    /// The same as the agent takes it. Every text was judged by the schema, and every contradiction by
    /// [`Self::problems`].
    pub(super) fn settings(self) -> SignerSettings {
        let defaults = SignerSettings::default();
        let algorithm = self.algorithm.and_then(|text| text.parse::<Algorithm>().ok());
        let token = self.pkcs11.and_then(|table| {
            Some(KeyPlace::Token(TokenSettings {
                module: table.module,
                token: table.token,
                label: table.label,
                id: table.id.and_then(|id| hex(&id)),
                pin: table.pin.parse().ok()?,
                environment: table.environment,
            }))
        });
        let file = self.seal.map(|seal| match seal.parse() {
            Ok(source) => KeyPlace::File(Seal::Secret(source)),
            Err(_) => KeyPlace::File(Seal::None),
        });
        SignerSettings {
            user: self.user.and_then(|user| user.parse().ok()),
            algorithm: algorithm.unwrap_or(defaults.algorithm),
            key: token.or(file).unwrap_or(defaults.key),
        }
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse::<T>().map_err(|error| error.to_string())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use meridian_runtime::config::{ConfigType, Loader};

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Whole {
        signer: SignerTable,
    }

    impl ConfigType for Whole {
        const SCHEMA: &'static [Key] = &[Key::optional("signer", Kind::Table(KEYS))];

        fn check(&self) -> Vec<Problem> {
            self.signer.problems()
        }
    }

    fn load(text: &str) -> Result<SignerSettings, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}/", dir.path().display());
        let loaded = Loader::new().file(&path).load::<Whole>();
        loaded
            .map(|whole| whole.signer.settings())
            .map_err(|errors| errors.lines().map(|line| line.replace(&prefix, "")).collect())
    }

    #[test]
    fn a_signer_is_set_up_as_the_table_says_and_by_default_when_it_says_nothing() {
        assert_eq!(load(""), Ok(SignerSettings::default()));
        let file =
            "[signer]\nuser = \"signer:softhsm\"\nalgorithm = \"ed25519\"\nseal = \"credential:seal\"\n";
        let settings = SignerSettings {
            user: Some("signer:softhsm".parse().unwrap()),
            algorithm: Algorithm::Ed25519,
            key: KeyPlace::File(Seal::Secret(SecretSource::Credential("seal".to_owned()))),
        };
        assert_eq!(load(file), Ok(settings));
        let plain = load("[signer]\nseal = \"none\"\n").unwrap();
        assert_eq!(plain.key, KeyPlace::File(Seal::None));
        let token = "[signer]\nkey = \"pkcs11\"\n[signer.pkcs11]\nmodule = \"/m.so\"\ntoken = \"t\"\nlabel = \"k\"\n\
                     id = \"0aFF\"\npin = \"file:/pin\"\nenvironment = { SOFTHSM2_CONF = \"/c\" }\n";
        let settings = TokenSettings {
            module: "/m.so".into(),
            token: "t".to_owned(),
            label: "k".to_owned(),
            id: Some(vec![0x0a, 0xff]),
            pin: SecretSource::File("/pin".into()),
            environment: [("SOFTHSM2_CONF".to_owned(), "/c".to_owned())].into(),
        };
        assert_eq!(load(token).unwrap().key, KeyPlace::Token(settings));
    }

    #[test]
    fn a_table_that_contradicts_itself_is_told_so() {
        let said = load("[signer]\nkey = \"pkcs11\"\nseal = \"none\"\n").unwrap_err().join("\n");
        assert!(said.contains("which token?") && said.contains("no file that could be sealed"), "{said}");
        let said = load("[signer]\nseal = \"hunter2\"\nalgorithm = \"rsa\"\n").unwrap_err().join("\n");
        assert!(said.contains("expected file:PATH, credential:NAME or none"), "{said}");
        let module =
            "[signer.pkcs11]\nmodule = \"/m.so\"\ntoken = \"t\"\nlabel = \"k\"\npin = \"file:/pin\"\n";
        let said = load(module).unwrap_err().join("\n");
        assert!(said.contains("say `key = \"pkcs11\"`"), "{said}");
        let loader = format!("[signer]\nkey = \"pkcs11\"\n{module}environment = {{ LD_PRELOAD = \"/x\" }}\n");
        let said = load(&loader).unwrap_err().join("\n");
        assert!(said.contains("LD_PRELOAD") && said.contains("cannot be set"), "{said}");
    }
}
