//! A bill: made from a subject, written as JSON, read back, and compared with an executable.

use std::collections::BTreeSet;

use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{
    document::{Dependency, Document, FORMAT, Hash, Item, Metadata, Property, SCHEMA, SPEC_VERSION},
    purl,
    serial::urn_of,
};
use crate::executable::{BuildInfo, BuildInfoError, Executable, Module};

/// The longest bill that is read: a hundred times what the largest programs have.
const JSON_LEN_MAX: usize = 16 << 20;
/// What the serial number is made from before the digest, so that it is nobody else's.
const SERIAL_DOMAIN: &[u8] = b"meridian sbom v1\0";

const PACKAGE: &str = "meridian:go:package";
const MODULE: &str = "meridian:go:module";
const SIZE: &str = "meridian:size";
const SETTING: &str = "meridian:go:setting:";
const H1: &str = "meridian:go:h1";
const REPLACES: &str = "meridian:go:replaces";
const REPLACED_BY: &str = "meridian:go:replaced-by";
const REQUIRED: &str = "meridian:go:required";
const GO_VERSION: &str = "meridian:go:version";
/// What scanners call Go's standard library.
const STANDARD_LIBRARY: &str = "stdlib";

/// What a bill is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The artifact's file name.
    pub name: String,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size.
    pub size: ByteCount,
    /// What it says of its own build.
    pub build_info: BuildInfo,
}

/// A bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom(Document);

/// One thing that went into an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component<'sbom> {
    /// The module path, or `stdlib`.
    pub name: &'sbom str,
    /// The version; `None` for a module that came from a directory.
    pub version: Option<&'sbom str>,
    /// The package URL; `None` for a module that came from a directory.
    pub purl: Option<&'sbom str>,
    /// The module's `h1:` hash as text, where Go knew one.
    pub h1: Option<&'sbom str>,
}

/// Why there is no bill.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// The text is no JSON of the fields that a bill has.
    #[error("not a cyclonedx 1.6 bill as meridian writes it: {0}")]
    Json(String),
    /// It says the same as a bill, but in another form; signatures and digests are over the one form.
    #[error("the bill is not in its one canonical form; make it again from the executable")]
    NotCanonical,
    /// It is longer than is read.
    #[error("a bill of {0}; at most {max} are read", max = ByteCount(JSON_LEN_MAX as u64))]
    TooLong(ByteCount),
    /// The executable names a module twice, so that the bill could not tell them apart.
    #[error("the executable's build info names {0} twice")]
    Duplicate(String),
    /// The executable says nothing of its build.
    #[error(transparent)]
    BuildInfo(#[from] BuildInfoError),
}

/// The first thing in which a bill and an executable disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomMismatch {
    /// The executable has no bill.
    #[error("no bill can be made from the executable: {0}")]
    Executable(#[from] SbomError),
    /// A value differs.
    #[error("{what} is {sbom:?} in the bill, and {executable:?} in the executable")]
    Value {
        /// Which value.
        what: &'static str,
        /// The bill's, shortened.
        sbom: String,
        /// The executable's, shortened.
        executable: String,
    },
}

impl Subject {
    /// What is to be known of an executable in memory.
    ///
    /// # Errors
    /// When it says nothing of its build.
    pub fn read(name: &str, executable: &[u8]) -> Result<Self, BuildInfoError> {
        Ok(Self {
            name: name.to_owned(),
            digest: Digest::of(executable),
            size: ByteCount(executable.len() as u64),
            build_info: Executable::parse(executable)?.build_info()?,
        })
    }
}

impl Sbom {
    /// Makes the bill of an executable.
    ///
    /// # Errors
    /// When its build info names a module twice.
    pub fn of(subject: &Subject) -> Result<Self, SbomError> {
        let main = main_component(subject);
        let mut components = vec![standard_library(&subject.build_info.go_version)];
        components.extend(subject.build_info.deps.iter().map(module_component));
        let mut seen = BTreeSet::from([main.reference.as_str()]);
        if let Some(twice) = components.iter().find(|component| !seen.insert(&component.reference)) {
            return Err(SbomError::Duplicate(short(&twice.reference)));
        }
        let references = components.iter().map(|component| component.reference.clone());
        let mut dependencies =
            vec![Dependency { reference: main.reference.clone(), depends_on: references.clone().collect() }];
        let leaf = |reference| Dependency { reference, depends_on: Vec::new() };
        dependencies.extend(references.map(leaf));
        Ok(Self(Document {
            schema: SCHEMA.to_owned(),
            bom_format: FORMAT.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            serial_number: serial_number(subject),
            version: 1,
            metadata: Metadata { component: main },
            components,
            dependencies,
        }))
    }

    /// Reads a bill in its canonical form.
    ///
    /// # Errors
    /// When it is too long, no such JSON, or in any other form.
    pub fn parse(json: &[u8]) -> Result<Self, SbomError> {
        if json.len() > JSON_LEN_MAX {
            return Err(SbomError::TooLong(ByteCount(json.len() as u64)));
        }
        let document = serde_json::from_slice(json).map_err(|error| SbomError::Json(error.to_string()))?;
        let sbom = Self(document);
        if sbom.to_json()?.as_bytes() != json {
            return Err(SbomError::NotCanonical);
        }
        Ok(sbom)
    }

    /// The bill in its one form: JSON indented by two blanks, with a line break at its end.
    ///
    /// # Errors
    /// Never for a bill that was made or read here; JSON has a form for all of its values.
    pub fn to_json(&self) -> Result<String, SbomError> {
        let mut json =
            serde_json::to_string_pretty(&self.0).map_err(|error| SbomError::Json(error.to_string()))?;
        json.push('\n');
        Ok(json)
    }

    /// The file name of the executable that the bill is for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.metadata.component.name
    }

    /// The SHA-256 of the executable that the bill is for, as hexadecimal text.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.0.metadata.component.hashes.first().map_or("", |hash| hash.content.as_str())
    }

    /// What went into the executable: the standard library, then the modules in Go's order.
    pub fn components(&self) -> impl Iterator<Item = Component<'_>> {
        self.0.components.iter().map(|item| Component {
            name: &item.name,
            version: item.version.as_deref(),
            purl: item.purl.as_deref(),
            h1: item.property(H1),
        })
    }

    /// Checks that this is the bill of an executable. The name is the bill's own: the caller knows which file the
    /// bill should be for.
    ///
    /// # Errors
    /// When it is another executable's bill, or altered; the first difference is named.
    pub fn matches(&self, executable: &[u8]) -> Result<(), SbomMismatch> {
        let subject = Subject::read(self.name(), executable).map_err(SbomError::from)?;
        self.matches_subject(&subject)
    }

    /// The same for an executable of which the facts are known, its name included.
    ///
    /// # Errors
    /// As [`Sbom::matches`].
    pub fn matches_subject(&self, subject: &Subject) -> Result<(), SbomMismatch> {
        let expected = Self::of(subject)?;
        if *self == expected {
            return Ok(());
        }
        let (ours, theirs) = (&self.0, &expected.0);
        check("the name", self.name(), expected.name())?;
        check("the digest", self.digest(), expected.digest())?;
        let size =
            |document: &Document| document.metadata.component.property(SIZE).unwrap_or_default().to_owned();
        check("the size", &size(ours), &size(theirs))?;
        check("the serial number", &ours.serial_number, &theirs.serial_number)?;
        let component = |item: &Item| format!("{item:?}");
        check(
            "the main component",
            &component(&ours.metadata.component),
            &component(&theirs.metadata.component),
        )?;
        let count = |document: &Document| document.components.len().to_string();
        check("the number of components", &count(ours), &count(theirs))?;
        for (ours, theirs) in ours.components.iter().zip(&theirs.components) {
            check("a component", &component(ours), &component(theirs))?;
        }
        check(
            "the dependencies",
            &format!("{:?}", ours.dependencies),
            &format!("{:?}", theirs.dependencies),
        )?;
        check("the format", &format!("{ours:?}"), &format!("{theirs:?}"))
    }
}

fn check(what: &'static str, sbom: &str, executable: &str) -> Result<(), SbomMismatch> {
    if sbom == executable {
        return Ok(());
    }
    // What they share is left out, so that the difference is in what is shown.
    let shared = sbom.char_indices().zip(executable.chars()).find(|((_, ours), theirs)| ours != theirs);
    let shared = shared.map_or(sbom.len().min(executable.len()), |((at, _), _)| at);
    let start = sbom[..shared].char_indices().rev().nth(40).map_or(0, |(at, _)| at);
    Err(SbomMismatch::Value { what, sbom: short(&sbom[start..]), executable: short(&executable[start..]) })
}

fn short(text: &str) -> String {
    text.chars().take(160).collect()
}

fn property(name: impl Into<String>, value: impl Into<String>) -> Property {
    Property { name: name.into(), value: value.into() }
}

fn main_component(subject: &Subject) -> Item {
    let info = &subject.build_info;
    let mut properties = vec![property(SIZE, subject.size.0.to_string())];
    if !info.path.is_empty() {
        properties.push(property(PACKAGE, &info.path));
    }
    let module = info.main.as_ref();
    if let Some(module) = module {
        properties.push(property(MODULE, &module.path));
        if !module.sum.is_empty() {
            properties.push(property(H1, &module.sum));
        }
    }
    properties.extend(
        info.settings.iter().map(|setting| property(format!("{SETTING}{}", setting.key), &setting.value)),
    );
    let version = module.map(|module| released(&module.version)).filter(|version| !version.is_empty());
    let purl = module.map(|module| {
        let below = info.path.strip_prefix(module.path.as_str()).and_then(|rest| rest.strip_prefix('/'));
        purl::of_module(&module.path, released(&module.version), below.unwrap_or_default())
    });
    Item {
        kind: "application".to_owned(),
        reference: format!("sha256:{}", subject.digest),
        name: subject.name.clone(),
        version: version.map(str::to_owned),
        hashes: vec![Hash { alg: "SHA-256".to_owned(), content: subject.digest.to_hex() }],
        purl,
        properties,
    }
}

fn standard_library(go_version: &str) -> Item {
    // `go1.26.8 X:experiment`, `devel go1.27-abcdef Mon …`: the word that is a version.
    let word = go_version.split(' ').find_map(|word| word.strip_prefix("go").filter(|word| !word.is_empty()));
    let version = word.unwrap_or(go_version);
    let purl = purl::of_module(STANDARD_LIBRARY, version, "");
    Item {
        kind: "library".to_owned(),
        reference: purl.clone(),
        name: STANDARD_LIBRARY.to_owned(),
        version: Some(version.to_owned()),
        hashes: Vec::new(),
        purl: Some(purl),
        properties: vec![property(GO_VERSION, go_version)],
    }
}

fn module_component(module: &Module) -> Item {
    let used = module.effective();
    let version = released(&used.version);
    let required = || format!("{}@{}", module.path, module.version);
    let mut properties = Vec::new();
    if !used.sum.is_empty() {
        properties.push(property(H1, &used.sum));
    }
    let is_directory = module.replace.is_some() && version.is_empty();
    if is_directory {
        // What lies in a directory is no published version of anything, so it gets neither version nor URL.
        properties.push(property(REQUIRED, required()));
        properties.push(property(REPLACED_BY, &used.path));
    } else if module.replace.is_some() {
        properties.push(property(REPLACES, required()));
    }
    Item {
        kind: "library".to_owned(),
        reference: required(),
        name: if is_directory { module.path.clone() } else { used.path.clone() },
        version: (!version.is_empty()).then(|| version.to_owned()),
        hashes: Vec::new(),
        purl: (!is_directory).then(|| purl::of_module(&used.path, version, "")),
        properties,
    }
}

/// A version, unless it is Go's word for "none".
fn released(version: &str) -> &str {
    if version == "(devel)" { "" } else { version }
}

/// A UUID from the subject's name and digest.
fn serial_number(subject: &Subject) -> String {
    let mut hasher = DigestHasher::new();
    hasher.update(SERIAL_DOMAIN);
    hasher.update(subject.digest.as_bytes());
    hasher.update(subject.name.as_bytes());
    urn_of(&hasher.finish())
}
