//! Bills of materials of what is packed: CycloneDX 1.6, put together from the bills of the executables in it.
//!
//! The fleet's agents read the bill of each executable from its own build info. An archive's bill lists the archive as the
//! thing described, the executables as what it holds, and what they are made of, each once. The same executables give the
//! same bytes.

use std::collections::BTreeMap;

use meridian_core::digest::{Digest, DigestHasher};
use meridian_trust::sbom::urn_of;
use serde_json::{Value, json};

/// What the serial number is made from before everything else, so that it is nobody else's.
const SERIAL_DOMAIN: &[u8] = b"meridian release sbom v1\0";

/// Why bills cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A bill is no JSON, or lacks what every bill has.
    #[error("the bill of materials of {0} cannot be read")]
    Bill(String),
    /// There is no executable to describe.
    #[error("nothing in {0} has a bill of materials")]
    Nothing(String),
}

/// What a document is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described<'a> {
    /// Its file name, or the project's name.
    pub name: &'a str,
    /// The release's version.
    pub version: &'a str,
    /// Its content, where it is one file.
    pub digest: Option<Digest>,
}

/// Puts the bills of executables together. Each comes with the executable's name.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn merged(described: &Described<'_>, bills: &[(String, Vec<u8>)]) -> Result<Vec<u8>, DocumentError> {
    if bills.is_empty() {
        return Err(DocumentError::Nothing(described.name.to_owned()));
    }
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    let mut dependencies: BTreeMap<String, Value> = BTreeMap::new();
    let mut held = Vec::new();
    for (name, bill) in bills {
        let unreadable = || DocumentError::Bill(name.clone());
        let bill: Value = serde_json::from_slice(bill).map_err(|_| unreadable())?;
        let main = &bill["metadata"]["component"];
        held.push(reference(main, "bom-ref").ok_or_else(unreadable)?);
        let parts = bill["components"].as_array().ok_or_else(unreadable)?;
        for component in parts.iter().chain([main]) {
            let key = reference(component, "bom-ref").ok_or_else(unreadable)?;
            components.entry(key).or_insert_with(|| component.clone());
        }
        for dependency in bill["dependencies"].as_array().ok_or_else(unreadable)? {
            let key = reference(dependency, "ref").ok_or_else(unreadable)?;
            dependencies.entry(key).or_insert_with(|| dependency.clone());
        }
    }
    held.sort();
    held.dedup();
    let own = match described.digest {
        Some(digest) => format!("sha256:{digest}"),
        None => format!("release:{}@{}", described.name, described.version),
    };
    let mut all = vec![json!({ "ref": own, "dependsOn": held })];
    all.extend(dependencies.into_values());
    let mut component = json!({
        "type": if described.digest.is_some() { "file" } else { "application" },
        "bom-ref": own,
        "name": described.name,
        "version": described.version,
    });
    if let Some(digest) = described.digest {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest.to_hex() }]);
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(described, &held),
        "version": 1,
        "metadata": { "component": component },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": all,
    });
    Ok(format!("{document:#}\n").into_bytes())
}

fn reference(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

/// A UUID from what is described.
fn serial_number(described: &Described<'_>, held: &[String]) -> String {
    let mut hasher = DigestHasher::new();
    hasher.update(SERIAL_DOMAIN);
    let digest = described.digest.map(|digest| digest.to_hex()).unwrap_or_default();
    for text in
        [described.name, described.version, &digest].into_iter().chain(held.iter().map(String::as_str))
    {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    urn_of(&hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(name: &str) -> (String, Vec<u8>) {
        let main = format!("sha256:{}", Digest::of(name.as_bytes()));
        let bill = json!({
            "metadata": { "component": { "type": "application", "bom-ref": main, "name": name } },
            "components": [{ "type": "library", "bom-ref": "example.test/lib@v1.0.0", "name": "example.test/lib" }],
            "dependencies": [
                { "ref": main, "dependsOn": ["example.test/lib@v1.0.0"] },
                { "ref": "example.test/lib@v1.0.0" },
            ],
        });
        (name.to_owned(), bill.to_string().into_bytes())
    }

    fn described(digest: Option<Digest>) -> Described<'static> {
        Described { name: "x.tar.gz", version: "1.0.0", digest }
    }

    #[test]
    fn an_archive_holds_its_executables_and_what_they_share_is_listed_once() {
        let digest = Digest::of(b"archive");
        let merged = super::merged(&described(Some(digest)), &[bill("a"), bill("b")]).unwrap();
        let document: Value = serde_json::from_slice(&merged).unwrap();
        assert_eq!(document["metadata"]["component"]["hashes"][0]["content"], digest.to_hex());
        assert_eq!(document["components"].as_array().unwrap().len(), 3);
        assert_eq!(document["dependencies"].as_array().unwrap().len(), 4);
        assert_eq!(document["dependencies"][0]["dependsOn"].as_array().unwrap().len(), 2);
        let other_order = super::merged(&described(Some(digest)), &[bill("b"), bill("a")]).unwrap();
        assert!(merged == other_order);
        let other = super::merged(&described(None), &[bill("a"), bill("b")]).unwrap();
        let other: Value = serde_json::from_slice(&other).unwrap();
        assert_ne!(document["serialNumber"], other["serialNumber"]);
        assert_eq!(document["serialNumber"].as_str().unwrap().len(), "urn:uuid:".len() + 36);
    }

    #[test]
    fn what_is_no_bill_is_refused() {
        assert!(matches!(super::merged(&described(None), &[]), Err(DocumentError::Nothing(_))));
        for bad in ["", "{}", "[]", "{\"components\":[{}],\"metadata\":{\"component\":{\"bom-ref\":\"x\"}}}"]
        {
            let bills = [("a".to_owned(), bad.as_bytes().to_vec())];
            assert!(matches!(super::merged(&described(None), &bills), Err(DocumentError::Bill(_))), "{bad}");
        }
    }
}
