//! The statement as it is written: a fixed order of fields, maps sorted.

use std::collections::BTreeMap;

use meridian_core::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{ExternalParameters, InternalParameters};
use crate::{document::as_text, holder::Holder, timestamp::Timestamp};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    pub(super) statement_type: String,
    pub(super) subject: [Subject; 1],
    pub(super) predicate_type: String,
    pub(super) predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) digest: Sha256,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sha256 {
    #[serde(with = "as_text")]
    pub(super) sha256: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Predicate {
    pub(super) build_definition: BuildDefinition,
    pub(super) run_details: RunDetails,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BuildDefinition {
    pub(super) build_type: String,
    pub(super) external_parameters: ExternalParameters,
    pub(super) internal_parameters: InternalParameters,
    pub(super) resolved_dependencies: Vec<Descriptor>,
}

/// SLSA's ResourceDescriptor, with the fields that are used here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Descriptor {
    pub(super) name: String,
    pub(super) uri: String,
    pub(super) digest: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn new(name: &str, uri: String) -> Self {
        Self { name: name.to_owned(), uri, digest: BTreeMap::new(), annotations: BTreeMap::new() }
    }

    pub(super) fn with(mut self, kind: &str, digest: Digest) -> Self {
        self.digest.insert(kind.to_owned(), digest.to_hex());
        self
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunDetails {
    pub(super) builder: Builder,
    pub(super) metadata: Metadata,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Builder {
    #[serde(with = "as_text")]
    pub(super) id: Holder,
    pub(super) version: BuilderVersion,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuilderVersion {
    pub(super) meridian: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) invocation_id: String,
    #[serde(with = "as_text")]
    pub(super) started_on: Timestamp,
    #[serde(with = "as_text")]
    pub(super) finished_on: Timestamp,
}
