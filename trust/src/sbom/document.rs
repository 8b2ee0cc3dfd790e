//! The part of CycloneDX 1.6 that a bill uses, field by field. Unknown fields are refused: a reader that passes
//! over what it does not know would accept what it has not checked.

use serde::{Deserialize, Serialize};

pub(super) const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";
pub(super) const FORMAT: &str = "CycloneDX";
pub(super) const SPEC_VERSION: &str = "1.6";

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "$schema")]
    pub(super) schema: String,
    pub(super) bom_format: String,
    pub(super) spec_version: String,
    pub(super) serial_number: String,
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) components: Vec<Item>,
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) component: Item,
}

/// A component: the executable itself, or what went into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(rename = "bom-ref")]
    pub(super) reference: String,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hashes: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) purl: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) properties: Vec<Property>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hash {
    pub(super) alg: String,
    pub(super) content: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Dependency {
    #[serde(rename = "ref")]
    pub(super) reference: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) depends_on: Vec<String>,
}

impl Item {
    /// The value of a property; of several the first.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|property| property.name == name).map(|property| property.value.as_str())
    }
}
