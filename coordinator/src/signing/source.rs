//! What the source that was ordered says of its modules, read from the tree that is held here.

use std::collections::BTreeMap;

use meridian_core::{attestation::OrderedSource, quantity::ByteCount};
use meridian_store::{
    blob::DiskBlobs,
    tree::{self, TreeLimits},
};
use meridian_trust::modfiles::{FILE_LEN_MAX, FILES_LEN_MAX, SourceModules, is_wanted};

/// The tree's own word; `None` for a module source, whose files the coordinator does not have.
///
/// The source is the one of the order: what an agent says was built decides nothing here.
pub(super) fn source_modules(
    blobs: &DiskBlobs,
    source: &OrderedSource,
) -> Result<Option<SourceModules>, Box<dyn std::error::Error>> {
    let OrderedSource::Tree { root, work_dir, workspace, .. } = source else { return Ok(None) };
    let tree = tree::load(blobs, root, &TreeLimits::default())?;
    let (mut texts, mut total) = (BTreeMap::new(), 0_u64);
    for (path, file) in tree.files.iter().filter(|(path, _)| is_wanted(path)) {
        total = total.saturating_add(file.size.0);
        if total > FILES_LEN_MAX {
            let most = ByteCount(FILES_LEN_MAX);
            return Err(
                format!("the source's go.mod, go.sum and vendor/modules.txt are more than {most}").into()
            );
        }
        let bytes = blobs.read(&file.digest, ByteCount(FILE_LEN_MAX as u64))?;
        let text =
            String::from_utf8(bytes.to_vec()).map_err(|_| format!("the source's {path} is not UTF-8"))?;
        texts.insert(path.clone(), text);
    }
    Ok(Some(SourceModules::read(&texts, work_dir, *workspace)))
}
