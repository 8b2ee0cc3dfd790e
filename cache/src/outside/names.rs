//! How things are called on a server that knows nothing of manifests.

use meridian_core::digest::Digest;
use meridian_proto::reapi::v2;
use prost::Message as _;

/// A blob, as the API names it.
pub(super) fn wire(digest: &Digest, size: u64) -> v2::Digest {
    v2::Digest { hash: digest.to_hex(), size_bytes: i64::try_from(size).unwrap_or(i64::MAX) }
}

/// The action that no machine runs and whose result is a manifest with all that it names: looking at it makes the server
/// keep them. Its two documents, which some servers want to have.
pub(super) struct ManifestAction {
    pub(super) command: Vec<u8>,
    pub(super) action: Vec<u8>,
}

impl ManifestAction {
    pub(super) fn of(manifest: &Digest) -> Self {
        let command = v2::Command {
            arguments: vec!["meridian cache manifest 1".to_owned(), manifest.to_hex()],
            ..v2::Command::default()
        };
        let command = command.encode_to_vec();
        let action = v2::Action {
            command_digest: Some(wire(&Digest::of(&command), command.len() as u64)),
            input_root_digest: Some(wire(&Digest::of(b""), 0)),
            ..v2::Action::default()
        };
        Self { command, action: action.encode_to_vec() }
    }

    /// The action's own name.
    pub(super) fn digest(&self) -> v2::Digest {
        wire(&Digest::of(&self.action), self.action.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_of_a_manifest_has_the_same_name_everywhere_and_another_one_another() {
        let name = |manifest: &[u8]| ManifestAction::of(&Digest::of(manifest)).digest().hash;
        assert_ne!(name(b"one"), name(b"two"));
        // It is written down here, since an agent of another release must find it.
        assert_eq!(name(b"one"), "69caf5ba9a96a78b9c10f8db3e9e64dca785ac7ffcd319ee7f2293f38ff523b8");
    }
}
