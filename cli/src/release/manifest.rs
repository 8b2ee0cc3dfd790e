//! `artifacts.json` and `metadata.json`, as GoReleaser leaves them for whatever comes after it.
//!
//! The fields that it fills for what is made here, with its numbers and words for types. What would differ from one run
//! to the next is not in them: the date is the release's.

use serde_json::{Map, Value, json};

use crate::{
    goreleaser::{
        plan::{Context, NO_TAG, Part, Plan, PlannedArchive, PlannedBuild, Subject},
        template::{extension, rfc3339},
    },
    release::checks::part_of,
};

/// The list of artifacts.
pub const ARTIFACTS: &str = "artifacts.json";
/// What the release is.
pub const METADATA: &str = "metadata.json";

/// A type of artifact: GoReleaser's number and its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u32, &'static str);

const ARCHIVE: Kind = Kind(1, "Archive");
const UPLOADED: Kind = Kind(2, "Binary");
const BINARY: Kind = Kind(4, "Binary");
const UNIVERSAL: Kind = Kind(5, "Binary");
const CHECKSUM: Kind = Kind(12, "Checksum");
const SIGNATURE: Kind = Kind(13, "Signature");
const CERTIFICATE: Kind = Kind(14, "Certificate");
const SOURCE: Kind = Kind(15, "Source");
const DOCUMENT: Kind = Kind(28, "SBOM");

/// `metadata.json`. `seconds` is the release's date.
#[must_use]
pub fn metadata(plan: &Plan, context: &Context, seconds: i64) -> Value {
    let git = context.git.clone().unwrap_or_default();
    json!({
        "project_name": plan.project_name,
        "tag": git.tag.unwrap_or_else(|| NO_TAG.to_owned()),
        "previous_tag": git.previous_tag,
        "version": plan.version,
        "commit": if git.commit.is_empty() { "none".to_owned() } else { git.commit },
        "date": rfc3339(seconds),
        "runtime": { "goos": context.host.0, "goarch": context.host.1 },
    })
}

/// `artifacts.json`. `digest` gives the SHA-256 of an asset, where there is one.
#[must_use]
pub fn artifacts(plan: &Plan, digest: &dyn Fn(&str) -> Option<String>) -> Value {
    let mut all = Vec::new();
    let asset = |name: &str, kind: Kind, mut fields: Map<String, Value>, extra: Value| {
        let mut extra = extra;
        if let Some(digest) = digest(name) {
            extra["Checksum"] = json!(format!("sha256:{digest}"));
        }
        fields.extend(described(name, &format!("{}/{name}", plan.dist), kind));
        fields.insert("extra".to_owned(), extra);
        Value::Object(fields)
    };
    for build in &plan.builds {
        let mut fields = platform(build);
        fields.extend(described(&build.binary, &build.path, BINARY));
        fields.insert("extra".to_owned(), of_binary(&build.binary, &build.id));
        all.push(Value::Object(fields));
    }
    for universal in &plan.universal_binaries {
        let mut fields = universal_platform();
        fields.extend(described(&universal.name, &universal.path, UNIVERSAL));
        let mut extra = of_binary(&universal.name, &universal.id);
        extra["Replaces"] = json!(universal.replaces);
        fields.insert("extra".to_owned(), extra);
        all.push(Value::Object(fields));
    }
    for archive in &plan.archives {
        let kind = if archive.format == "binary" { UPLOADED } else { ARCHIVE };
        all.push(asset(&archive.name, kind, platform_of(plan, archive), of_archive(plan, archive)));
    }
    if let Some(source) = &plan.source {
        all.push(asset(&source.name, SOURCE, Map::new(), json!({ "Format": source.format })));
    }
    for document in &plan.documents {
        all.push(asset(&document.name, DOCUMENT, Map::new(), json!({})));
    }
    for checksums in &plan.checksums {
        all.push(asset(&checksums.name, CHECKSUM, Map::new(), json!({})));
    }
    for signature in &plan.signatures {
        let fields = match part_of(plan, &signature.subject) {
            Some(Part::Build(at)) if matches!(signature.subject, Subject::Part(_)) => {
                platform(&plan.builds[at])
            }
            _ => Map::new(),
        };
        all.push(asset(&signature.name, SIGNATURE, fields, json!({})));
        if let Some(certificate) = &signature.certificate {
            all.push(asset(certificate, CERTIFICATE, Map::new(), json!({})));
        }
    }
    Value::Array(all)
}

fn described(name: &str, path: &str, kind: Kind) -> Map<String, Value> {
    let fields = [
        ("name", json!(name)),
        ("path", json!(path)),
        ("internal_type", json!(kind.0)),
        ("type", json!(kind.1)),
    ];
    fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn of_binary(name: &str, id: &str) -> Value {
    let suffix = extension(name);
    let suffix = if suffix == ".exe" || suffix == ".wasm" { suffix } else { "" };
    json!({ "Binary": name.strip_suffix(suffix).unwrap_or(name), "Ext": suffix, "ID": id })
}

fn of_archive(plan: &Plan, archive: &PlannedArchive) -> Value {
    let name = |part: &Part| match part {
        Part::Build(at) => plan.builds[*at].binary.clone(),
        Part::Universal(at) => plan.universal_binaries[*at].name.clone(),
    };
    let names: Vec<String> = archive.binaries.iter().map(|(part, _)| name(part)).collect();
    match (archive.format.as_str(), names.first()) {
        ("binary", Some(first)) => of_binary(first, &archive.id),
        _ => json!({
            "Binaries": names, "Format": archive.format, "ID": archive.id, "WrappedIn": archive.wrap_in,
            "Ext": format!(".{}", archive.format),
        }),
    }
}

/// The platform of what is in an archive.
fn platform_of(plan: &Plan, archive: &PlannedArchive) -> Map<String, Value> {
    match archive.binaries.first() {
        Some((Part::Build(at), _)) => platform(&plan.builds[*at]),
        Some((Part::Universal(_), _)) => universal_platform(),
        None => Map::new(),
    }
}

fn universal_platform() -> Map<String, Value> {
    [("goos", "darwin"), ("goarch", "all")]
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .into_iter()
        .collect()
}

fn platform(build: &PlannedBuild) -> Map<String, Value> {
    let mut fields: Map<String, Value> = Map::new();
    fields.insert("goos".to_owned(), json!(build.platform.os));
    fields.insert("goarch".to_owned(), json!(build.platform.arch));
    fields.insert("target".to_owned(), json!(build.target));
    for (name, value) in build.platform.env() {
        let name = name.to_ascii_lowercase();
        if name != "goos" && name != "goarch" && !value.is_empty() {
            fields.insert(name, json!(value));
        }
    }
    fields
}
