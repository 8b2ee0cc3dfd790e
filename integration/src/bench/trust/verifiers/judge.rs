//! Runs one verifier over one sample, in a network namespace without a network where the machine allows that.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_trust::keys::Algorithm;

use super::{
    cells::{Cell, Form, Verifier},
    samples::Paths,
};

/// A trusted root that trusts nobody. cosign v2 wants one beside a key to verify a bundle without the network.
const TRUSTED_ROOT: &str = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;

/// What a verifier said.
#[derive(Debug)]
pub struct Verdict {
    /// Whether it accepted.
    pub accepted: bool,
    /// What it printed.
    pub said: String,
}

/// Whether a process can be cut off from the network here: it takes root, or a kernel that lets users have namespaces.
#[must_use]
pub fn can_cut_off() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Has a cell's verifier judge the files.
///
/// # Errors
/// When it cannot be run, or ends in a way that is neither yes nor no.
pub fn judge(program: &Path, cell: &Cell, paths: &Paths, is_cut_off: bool) -> anyhow::Result<Verdict> {
    let arguments = arguments(cell, paths)?;
    let directory = paths.artifact.parent().context("a sample lies in a directory")?;
    let mut whole = Vec::new();
    if is_cut_off {
        whole.extend(["unshare".into(), "-n".into(), "--".into()]);
    }
    if cell.verifier == Verifier::Npm {
        whole.push("node".into());
    }
    whole.push(program.as_os_str().to_owned());
    let mut command = Command::new(&whole[0]);
    command.args(&whole[1..]).args(arguments).current_dir(directory).stdin(Stdio::null());
    // A home without anything that was fetched before.
    command.env("HOME", directory).env_remove("SIGSTORE_ROOT_FILE").env_remove("TUF_ROOT");
    let output = command.output().with_context(|| format!("{} cannot be started", cell.verifier))?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    match output.status.code() {
        Some(0) => Ok(Verdict { accepted: true, said }),
        Some(1) => Ok(Verdict { accepted: false, said }),
        _ => bail!("{cell}: {command:?} ended with {}:\n{said}", output.status),
    }
}

fn arguments(cell: &Cell, paths: &Paths) -> anyhow::Result<Vec<String>> {
    let text = |path: &Path| path.display().to_string();
    let (artifact, key) = (text(&paths.artifact), text(&paths.public_key));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Ok(match cell.verifier {
        Verifier::CosignV2 | Verifier::CosignV3 => {
            let mut all = match cell.form {
                Form::Raw => words(&["verify-blob", "--signature", &text(&paths.signature)]),
                Form::Message => words(&["verify-blob", "--bundle", &text(&paths.bundle)]),
                Form::Provenance => {
                    let command = ["verify-blob-attestation", "--type", "slsaprovenance1", "--bundle"];
                    [words(&command), vec![text(&paths.bundle)]].concat()
                }
            };
            if cell.verifier == Verifier::CosignV2 && cell.form != Form::Raw {
                let root = paths.artifact.with_file_name("trusted_root.json");
                std::fs::write(&root, TRUSTED_ROOT)?;
                all.extend(words(&["--new-bundle-format", "--trusted-root", &text(&root)]));
            }
            all.extend(words(&["--key", &key, "--insecure-ignore-tlog", &artifact]));
            all
        }
        Verifier::OpenSsl => {
            ensure!(cell.form == Form::Raw, "openssl reads no bundle");
            let raw = paths.signature.with_extension("raw");
            std::fs::write(&raw, STANDARD.decode(std::fs::read(&paths.signature)?)?)?;
            let raw = text(&raw);
            match cell.algorithm {
                Algorithm::EcdsaP256 => {
                    words(&["dgst", "-sha256", "-verify", &key, "-signature", &raw, &artifact])
                }
                Algorithm::Ed25519 => words(&[
                    "pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", &artifact, "-sigfile",
                    &raw,
                ]),
            }
        }
        Verifier::SigstoreVerify | Verifier::Npm => words(&[&key, &text(&paths.bundle), &artifact]),
        Verifier::Go => {
            let (form, file) = match cell.form {
                Form::Raw => ("raw", &paths.signature),
                Form::Message => ("message", &paths.bundle),
                Form::Provenance => ("provenance", &paths.bundle),
            };
            words(&[form, &key, &text(file), &artifact])
        }
    })
}
