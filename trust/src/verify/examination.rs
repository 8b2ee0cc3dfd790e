//! One artifact's checks, each made as far as what it rests on holds.

use meridian_core::{digest::Digest, time::Wall};

use super::{
    Bill, Check, CheckName, Feature, Files, Outcome, Pattern, Report, Verifier,
    verifier::{CLOCK_TOLERANCE, Ring},
};
use crate::{
    acceptance::Acceptance,
    bundle::{EnvelopeBundle, MessageBundle},
    keyring::{Entry, Grade, KeyUse},
    keys::{Signature, VerifyingKey},
    message::Message,
    sbom::{Sbom, Subject},
    sidecar::parse_signature_text,
    statement::Provenance,
    timestamp::display,
};

/// The state of an examination: what is certain so far.
pub(super) struct Examination<'a> {
    verifier: &'a Verifier,
    name: &'a str,
    content: &'a Message<'a>,
    files: &'a Files<'a>,
    checks: Vec<Check>,
    /// The entry of the key that the provenance names.
    entry: Option<&'a Entry>,
    /// What that key signed.
    provenance: Option<Provenance>,
    /// The coordinator's word about exactly this artifact and provenance.
    acceptance: Option<&'a Acceptance>,
    /// The raw signature, when it holds.
    signature: Option<Signature>,
}

/// A sentence about what holds, or about what does not.
type Finding = Result<String, String>;

impl<'a> Examination<'a> {
    pub(super) fn new(
        verifier: &'a Verifier,
        name: &'a str,
        content: &'a Message<'a>,
        files: &'a Files<'a>,
    ) -> Self {
        let checks = Vec::with_capacity(CheckName::ALL.len());
        Self {
            verifier,
            name,
            content,
            files,
            checks,
            entry: None,
            provenance: None,
            acceptance: None,
            signature: None,
        }
    }

    /// Makes every check, in the order of their names; later ones rest on what earlier ones made certain.
    pub(super) fn run(mut self) -> Report {
        for name in CheckName::ALL {
            let outcome = match name {
                CheckName::Keyring => self.keyring(),
                CheckName::Fleet => self.fleet(),
                CheckName::KeyringAge => self.keyring_age(),
                CheckName::Provenance => self.provenance(),
                CheckName::Acceptance => self.acceptance(),
                CheckName::Key => self.key(),
                CheckName::Subject => self.subject(),
                CheckName::Builder => self.builder(),
                CheckName::Signature => self.signature(),
                CheckName::PublicKey => self.public_key(),
                CheckName::MessageBundle => self.message_bundle(),
                CheckName::Sbom => self.sbom(),
                CheckName::Grade => self.grade(),
                CheckName::AllowedBuilder => {
                    let patterns = self.verifier.policy.builders.as_deref();
                    self.allowed("builder", patterns, |provenance| provenance.builder.to_string())
                }
                CheckName::AllowedSource => {
                    let patterns = self.verifier.policy.sources.as_deref();
                    self.allowed("source", patterns, |provenance| provenance.external.source.name())
                }
                CheckName::AllowedProject => {
                    let patterns = self.verifier.policy.projects.as_deref();
                    self.allowed("project", patterns, |provenance| {
                        provenance.internal.task.build.project.to_string()
                    })
                }
                CheckName::AllowedRequester => self.requester(),
                CheckName::Sandbox => self.sandbox(),
            };
            let required = name.is_always_required() || self.verifier.policy.require.contains(&name);
            self.checks.push(Check { name, outcome, required });
        }
        Report {
            artifact: self.name.to_owned(),
            checks: self.checks,
            provenance: self.provenance,
            key: self.entry.cloned(),
            accepted: self.acceptance.map(|acceptance| acceptance.accepted),
        }
    }

    fn ring(&self) -> Option<&'a Ring> {
        self.verifier.ring.as_ref().ok()
    }

    fn keyring(&self) -> Outcome {
        let Ring { keyring, beside, .. } = match &self.verifier.ring {
            Ok(ring) => ring,
            Err(why) => return Outcome::Failed(why.clone()),
        };
        let what = format!("version {} of the keyring of fleet {}", keyring.version(), keyring.fleet());
        if let Some(issued) = keyring.issued().filter(|issued| self.is_in_the_future(*issued)) {
            return Outcome::Failed(format!("{what} was issued at {}, {}", display(issued), self.ahead()));
        }
        let root = self.verifier.root.key().id();
        let other = if *beside == keyring.version() {
            String::new()
        } else {
            format!("; it is later than version {beside}, which lies beside the artifact")
        };
        Outcome::Passed(format!("{what} is signed by the root {root}{other}"))
    }

    fn is_in_the_future(&self, at: Wall) -> bool {
        at > self.verifier.now.after(CLOCK_TOLERANCE)
    }

    fn ahead(&self) -> String {
        let now = display(self.verifier.now);
        format!("which lies in the future of this machine's clock ({now}): one of the two is wrong")
    }

    fn keyring_age(&self) -> Outcome {
        let Some(age_max) = self.verifier.policy.keyring_max_age else {
            return Outcome::NotApplicable("no policy says how old the keyring may be".to_owned());
        };
        let Some(ring) = self.ring() else { return rests_on_failed(CheckName::Keyring) };
        let Some(issued) = ring.keyring.issued() else {
            return Outcome::Failed("the keyring does not say when it was issued".to_owned());
        };
        let told = format!("the keyring was issued at {}", display(issued));
        if issued.after(age_max) >= self.verifier.now {
            return Outcome::Passed(told);
        }
        Outcome::Failed(format!("{told}, longer ago than the policy allows: get a fresh one from the fleet"))
    }

    fn fleet(&self) -> Outcome {
        let Some(ring) = self.ring() else { return rests_on(CheckName::Keyring) };
        let found = ring.keyring.fleet();
        let wanted: Vec<_> =
            self.verifier.root.fleet().into_iter().chain(&self.verifier.policy.fleet).collect();
        if let Some(other) = wanted.iter().find(|wanted| **wanted != found) {
            return Outcome::Failed(format!("the keyring is of fleet {found}, expected {other}"));
        }
        if wanted.is_empty() {
            return Outcome::NotApplicable(format!("the keyring says {found}, and no fleet was expected"));
        }
        Outcome::Passed(format!("fleet {found}"))
    }

    fn provenance(&mut self) -> Outcome {
        let Some(bytes) = self.files.provenance else {
            return Outcome::Failed(format!("there is no {}.intoto.sigstore.json", self.name));
        };
        let bundle = match EnvelopeBundle::parse(bytes) {
            Ok(bundle) => bundle,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let Some(ring) = self.ring() else { return rests_on(CheckName::Keyring) };
        let entry = match ring.keyring.entry(bundle.envelope.key_id()) {
            Ok(entry) => entry,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        self.entry = Some(entry);
        match Provenance::open(&bundle.envelope, &entry.key) {
            Ok(provenance) => {
                let id = provenance.invocation_id();
                self.provenance = Some(provenance);
                Outcome::Passed(format!("attempt {id}, signed by key {}", entry.key.id()))
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn acceptance(&mut self) -> Outcome {
        let Some(ring) = self.ring() else { return rests_on(CheckName::Keyring) };
        let acceptances = match &ring.acceptances {
            Ok(acceptances) => acceptances,
            Err(why) => return Outcome::Failed(why.clone()),
        };
        let (Some(provenance), Some(bytes)) = (&self.provenance, self.files.provenance) else {
            return rests_on(CheckName::Provenance);
        };
        let artifact = self.content.digest();
        let about = || acceptances.iter().filter(|judged| judged.acceptance.artifact == artifact);
        let file = Digest::of(bytes);
        let of_this = || about().filter(|judged| judged.acceptance.provenance == file);
        // The same content may have been accepted more than once; one that counts is enough.
        let Some(judged) = of_this().find(|judged| judged.verdict.is_ok()).or_else(|| of_this().next())
        else {
            return Outcome::Failed(if about().any(|judged| judged.verdict.is_ok()) {
                "the coordinator accepted this artifact with another provenance".to_owned()
            } else {
                format!("the coordinator accepted no artifact with the digest {artifact}")
            });
        };
        if let Err(why) = &judged.verdict {
            return Outcome::Failed(why.clone());
        }
        let found = &judged.acceptance;
        if self.is_in_the_future(found.accepted) {
            return Outcome::Failed(format!("accepted at {}, {}", display(found.accepted), self.ahead()));
        }
        let internal = &provenance.internal;
        if (&found.task, found.fence) != (&internal.task, internal.fence) {
            return Outcome::Failed(format!(
                "the coordinator accepted it as {}/{}, its provenance says {}",
                found.task,
                found.fence,
                provenance.invocation_id()
            ));
        }
        self.acceptance = Some(found);
        Outcome::Passed(format!("accepted at {}", display(found.accepted)))
    }

    fn key(&self) -> Outcome {
        let Some(entry) = self.entry else { return rests_on(CheckName::Provenance) };
        let Some(acceptance) = self.acceptance else { return rests_on(CheckName::Acceptance) };
        match entry.check(KeyUse::Artifact, acceptance.accepted) {
            Ok(()) => Outcome::Passed(format!(
                "an {} key for artifacts, valid from {} to {}",
                entry.key.algorithm(),
                display(entry.not_before),
                display(entry.not_after)
            )),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn subject(&self) -> Outcome {
        let Some(provenance) = &self.provenance else { return rests_on(CheckName::Provenance) };
        let subject = &provenance.subject;
        if subject.digest != self.content.digest() {
            return Outcome::Failed(format!(
                "the provenance is about the digest {}, and this file has {}",
                subject.digest,
                self.content.digest()
            ));
        }
        if subject.name != self.name {
            return Outcome::Failed(format!(
                "the provenance is about {:?}, not {:?}",
                subject.name, self.name
            ));
        }
        Outcome::Passed(format!("{} with the digest {}", subject.name, subject.digest))
    }

    fn builder(&self) -> Outcome {
        let (Some(entry), Some(provenance)) = (self.entry, &self.provenance) else {
            return rests_on(CheckName::Provenance);
        };
        if provenance.builder == entry.holder {
            return Outcome::Passed(provenance.builder.to_string());
        }
        Outcome::Failed(format!("{} signed for {}", entry.holder, provenance.builder))
    }

    fn signature(&mut self) -> Outcome {
        let Some(bytes) = self.files.signature else {
            return Outcome::Failed(format!("there is no {}.sig", self.name));
        };
        let Some(entry) = self.entry else { return rests_on(CheckName::Provenance) };
        let signature = match parse_signature_text(entry.key.algorithm(), bytes) {
            Ok(signature) => signature,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        match entry.key.verify(self.content, &signature) {
            Ok(()) => {
                self.signature = Some(signature);
                Outcome::Passed(format!("{} by key {}", entry.key.algorithm(), entry.key.id()))
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn public_key(&self) -> Outcome {
        let Some(bytes) = self.files.public_key else { return not_there(self.name, ".pub") };
        let Some(entry) = self.entry else { return rests_on(CheckName::Provenance) };
        outcome(check_public_key(bytes, &entry.key))
    }

    fn message_bundle(&self) -> Outcome {
        let Some(bytes) = self.files.message_bundle else { return not_there(self.name, ".sigstore.json") };
        let Some(entry) = self.entry else { return rests_on(CheckName::Provenance) };
        let Some(signature) = &self.signature else { return rests_on(CheckName::Signature) };
        outcome(check_message_bundle(bytes, &entry.key, self.content.digest(), signature))
    }

    fn sbom(&self) -> Outcome {
        let Some(bill) = self.files.sbom else { return not_there(self.name, ".sbom.cdx.json") };
        outcome(check_sbom(self.name, self.content.digest(), bill))
    }

    fn grade(&self) -> Outcome {
        let Some(entry) = self.entry else { return rests_on(CheckName::Provenance) };
        let wanted = self.verifier.policy.grade.unwrap_or(Grade::Dev);
        if entry.grade >= wanted {
            return Outcome::Passed(format!("a {} key", entry.grade));
        }
        Outcome::Failed(format!("a {} key, and the policy asks for {wanted}", entry.grade))
    }

    fn allowed(
        &self,
        what: &str,
        patterns: Option<&[Pattern]>,
        value: impl Fn(&Provenance) -> String,
    ) -> Outcome {
        let Some(patterns) = patterns else {
            return Outcome::NotApplicable(format!("no policy says which {what}s are allowed"));
        };
        let Some(provenance) = &self.provenance else { return rests_on_failed(CheckName::Provenance) };
        let value = value(provenance);
        match patterns.iter().find(|pattern| pattern.matches(&value)) {
            Some(pattern) => Outcome::Passed(format!("{what} {value} is allowed by {pattern}")),
            None => Outcome::Failed(format!("{what} {value} is not one that the policy allows")),
        }
    }

    fn requester(&self) -> Outcome {
        let patterns = self.verifier.policy.requesters.as_deref();
        let is_unsaid = self.provenance.as_ref().is_some_and(|said| said.internal.requester.is_none());
        if patterns.is_some() && is_unsaid {
            return Outcome::Failed("the provenance does not say who asked for the build".to_owned());
        }
        let said = |provenance: &Provenance| provenance.internal.requester.as_ref().map(ToString::to_string);
        self.allowed("requester", patterns, |provenance| said(provenance).unwrap_or_default())
    }

    fn sandbox(&self) -> Outcome {
        let Some(wanted) = self.verifier.policy.sandbox.as_deref() else {
            return Outcome::NotApplicable("no policy says what a sandbox must confine".to_owned());
        };
        let Some(provenance) = &self.provenance else { return rests_on_failed(CheckName::Provenance) };
        let sandbox = &provenance.internal.sandbox;
        if sandbox.kind == "none" {
            return Outcome::Failed("it was built without a sandbox, and the policy asks for one".to_owned());
        }
        let told = format!("a sandbox of kind {} that confines {}", sandbox.kind, list(&sandbox.features));
        let is_there = |feature: &&Feature| sandbox.features.iter().any(|there| there == feature.as_str());
        match wanted.iter().find(|feature| !is_there(feature)) {
            None => Outcome::Passed(told),
            Some(missing) => Outcome::Failed(format!("{told}, and the policy asks for {}", missing.as_str())),
        }
    }
}

fn check_public_key(bytes: &[u8], key: &VerifyingKey) -> Finding {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let found = VerifyingKey::from_pem(text).map_err(|error| error.to_string())?;
    // The very bytes: this file, too, has one spelling.
    if text == key.to_pem() {
        return Ok(format!("key {}", found.id()));
    }
    Err(format!("key {} lies beside it, but key {} signed it", found.id(), key.id()))
}

fn check_sbom(name: &str, digest: Digest, bill: Bill<'_>) -> Finding {
    let found = Sbom::parse(bill.json).map_err(|error| error.to_string())?;
    let info = bill.build_info.map_err(|error| format!("no bill can be made from the artifact: {error}"))?;
    let subject = Subject { name: name.to_owned(), digest, size: bill.size, build_info: info.clone() };
    found.matches_subject(&subject).map_err(|error| error.to_string())?;
    let components = found.components().count();
    let noun = if components == 1 { "component" } else { "components" };
    Ok(format!("{components} {noun}, as the artifact says itself"))
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

fn check_message_bundle(bytes: &[u8], key: &VerifyingKey, digest: Digest, signature: &Signature) -> Finding {
    let bundle = MessageBundle::parse(bytes).map_err(|error| error.to_string())?;
    if bundle == MessageBundle::new(key, digest, signature) {
        return Ok("the same signature, digest and key".to_owned());
    }
    let what = match () {
        () if bundle.key_id != key.id() => "key",
        () if bundle.digest != digest => "digest",
        () => "signature",
    };
    Err(format!("the bundle has another {what}"))
}

fn outcome(finding: Finding) -> Outcome {
    match finding {
        Ok(sentence) => Outcome::Passed(sentence),
        Err(sentence) => Outcome::Failed(sentence),
    }
}

fn not_there(name: &str, suffix: &str) -> Outcome {
    Outcome::NotApplicable(format!("there is no {name}{suffix}"))
}

/// A check that cannot be made. What it rests on has not passed and is required, so the artifact is refused
/// anyway.
fn rests_on(other: CheckName) -> Outcome {
    Outcome::NotApplicable(format!("not checked, since {other} did not pass"))
}

/// The same for a rule that the policy makes.
fn rests_on_failed(other: CheckName) -> Outcome {
    Outcome::Failed(format!("cannot be told, since {other} did not pass"))
}
