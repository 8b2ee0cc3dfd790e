//! What the source that was ordered says of its modules, read from the tree that is held here.

use std::collections::BTreeMap;

use meridian_core::{attestation::OrderedSource, quantity::ByteCount};
use meridian_store::{
    blob::DiskBlobs,
    tree::{self, TreeLimits},
};
use meridian_trust::modfiles::{FILE_LEN_MAX, SourceModules, is_wanted};

/// The tree's own word; `None` for a module source, whose files the coordinator does not have.
///
/// The source is the one of the order: what an agent says was built decides nothing here.
pub(super) fn source_modules(
    blobs: &DiskBlobs,
    source: &OrderedSource,
) -> Result<Option<SourceModules>, Box<dyn std::error::Error>> {
    let OrderedSource::Tree { root, work_dir, workspace, .. } = source else { return Ok(None) };
    let tree = tree::load(blobs, root, &TreeLimits::default())?;
    let mut texts = BTreeMap::new();
    for (path, file) in tree.files.iter().filter(|(path, _)| is_wanted(path)) {
        let bytes = blobs.read(&file.digest, ByteCount(FILE_LEN_MAX as u64))?;
        texts.insert(path.clone(), String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(Some(SourceModules::read(&texts, work_dir, *workspace)))
}
