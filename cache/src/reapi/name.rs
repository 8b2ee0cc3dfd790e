//! How the API names things: blobs by digest and size, instances by a path, streams by a path with both in it.

use std::{fmt, sync::Arc};

use meridian_core::digest::Digest;
use meridian_proto::reapi::v2;

use super::error::ReapiError;

/// Most bytes in an instance's name.
const INSTANCE_LEN_MAX: usize = 256;

/// What no segment of an instance's name may be, since the parser of resource names looks for these.
const KEYWORDS: [&str; 7] =
    ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"];

/// A blob as the API names it. One with the right digest and another size is another blob, which nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlobName {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl BlobName {
    /// The name of `content`.
    #[cfg(test)]
    pub(super) fn of(content: &[u8]) -> Self {
        Self { digest: Digest::of(content), size: content.len() as u64 }
    }

    /// Reads the wire's form. `function` is what the request says of its digests, 0 when it says nothing.
    pub(super) fn read(wire: Option<&v2::Digest>, function: i32) -> Result<Self, ReapiError> {
        if ![v2::digest_function::Value::Unknown as i32, v2::digest_function::Value::Sha256 as i32]
            .contains(&function)
        {
            return Err(ReapiError::Invalid("digests here are SHA-256 only".into()));
        }
        let wire = wire.ok_or_else(|| ReapiError::Invalid("a digest is missing in the request".into()))?;
        let digest = wire.hash.parse().map_err(|error| ReapiError::Invalid(format!("{error}")))?;
        let size = u64::try_from(wire.size_bytes)
            .map_err(|_| ReapiError::Invalid(format!("{} is no size of a blob", wire.size_bytes)))?;
        Ok(Self { digest, size })
    }

    /// The wire's form.
    pub(super) fn to_wire(self) -> v2::Digest {
        v2::Digest { hash: self.digest.to_hex(), size_bytes: i64::try_from(self.size).unwrap_or(i64::MAX) }
    }

    /// Whether it names the blob without bytes, which is always there.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0 && self.digest == Digest::of(b"")
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.digest, self.size)
    }
}

/// An instance: the space of names in which a blob or a result was sent. It is empty where a client names none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(Arc<str>);

impl Instance {
    /// Reads an instance's name.
    ///
    /// # Errors
    /// When it is too long, has an empty segment, a control character, or a word that the API keeps for itself.
    pub fn parse(text: &str) -> Result<Self, ReapiError> {
        let bad = text.len() > INSTANCE_LEN_MAX
            || text.chars().any(char::is_control)
            || !text.is_empty()
                && text.split('/').any(|segment| segment.is_empty() || KEYWORDS.contains(&segment));
        match bad {
            true => Err(ReapiError::Invalid(format!("{text:?} is no name of an instance"))),
            false => Ok(Self(text.into())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the bytes of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// As the digest says.
    Plain,
    /// Compressed with zstd; digest and size are of what is inside.
    Zstd,
}

/// A resource name of the stream service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    /// The instance's name, unchecked.
    pub(super) instance: String,
    pub(super) blob: BlobName,
    pub(super) form: Form,
}

impl Resource {
    /// Reads `{instance/}blobs/{hash}/{size}` or `{instance/}compressed-blobs/zstd/{hash}/{size}`.
    pub(super) fn to_read(name: &str) -> Result<Self, ReapiError> {
        let segments: Vec<&str> = name.split('/').collect();
        let at = segments.iter().position(|segment| matches!(*segment, "blobs" | "compressed-blobs"));
        let at = at.ok_or_else(|| not_a_resource(name))?;
        let resource = Self::after(name, segments[..at].join("/"), &segments[at..])?;
        match resource {
            (resource, []) => Ok(resource),
            _ => Err(not_a_resource(name)),
        }
    }

    /// Reads `{instance/}uploads/{uuid}/` followed by what [`Self::to_read`] reads and what the client adds.
    pub(super) fn to_write(name: &str) -> Result<Self, ReapiError> {
        let segments: Vec<&str> = name.split('/').collect();
        let at = segments.iter().position(|segment| *segment == "uploads");
        let at = at.ok_or_else(|| not_a_resource(name))?;
        match segments.get(at + 1) {
            Some(uuid) if !uuid.is_empty() => {}
            _ => return Err(not_a_resource(name)),
        }
        Ok(Self::after(name, segments[..at].join("/"), segments.get(at + 2..).unwrap_or_default())?.0)
    }

    fn after<'a>(
        name: &str,
        instance: String,
        segments: &'a [&'a str],
    ) -> Result<(Self, &'a [&'a str]), ReapiError> {
        let (form, rest) = match segments {
            ["blobs", rest @ ..] => (Form::Plain, rest),
            ["compressed-blobs", "zstd", rest @ ..] => (Form::Zstd, rest),
            ["compressed-blobs", other, ..] => {
                return Err(ReapiError::Invalid(format!("{other:?} is no compression here, zstd is")));
            }
            _ => return Err(not_a_resource(name)),
        };
        let [hash, size, rest @ ..] = rest else { return Err(not_a_resource(name)) };
        let digest = hash.parse().map_err(|error| ReapiError::Invalid(format!("{name:?}: {error}")))?;
        let size = size.parse().map_err(|_| ReapiError::Invalid(format!("{name:?}: {size:?} is no size")))?;
        Ok((Self { instance, blob: BlobName { digest, size }, form }, rest))
    }
}

fn not_a_resource(name: &str) -> ReapiError {
    ReapiError::Invalid(format!("{name:?} is no resource name of the remote execution API"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_may_have_slashes_and_may_be_empty() {
        let blob = BlobName::of(b"x");
        for instance in ["", "main", "acme/web/trusted"] {
            let slash = if instance.is_empty() { "" } else { "/" };
            let plain = Resource { instance: instance.into(), blob, form: Form::Plain };
            let packed = Resource { form: Form::Zstd, ..plain.clone() };
            let read = |rest: &str| Resource::to_read(&format!("{instance}{slash}{rest}"));
            let write = |rest: &str| Resource::to_write(&format!("{instance}{slash}uploads/u-1/{rest}"));
            assert_eq!(read(&format!("blobs/{blob}")).unwrap(), plain);
            assert_eq!(read(&format!("compressed-blobs/zstd/{blob}")).unwrap(), packed);
            assert_eq!(write(&format!("blobs/{blob}")).unwrap(), plain);
            assert_eq!(write(&format!("compressed-blobs/zstd/{blob}/some/name.o")).unwrap(), packed);
            assert_eq!(Instance::parse(instance).unwrap().as_str(), instance);
        }
    }

    #[test]
    fn what_is_no_resource_name_is_refused() {
        let blob = BlobName::of(b"x");
        let hash = blob.digest;
        for name in [
            String::new(),
            "blobs".into(),
            format!("blobs/{hash}"),
            format!("blobs/{hash}/-1"),
            format!("blobs/{hash}/1/more"),
            format!("blobs/{}/1", hash.to_hex().to_uppercase()),
            format!("blobs/blake3/{hash}/1"),
            format!("compressed-blobs/brotli/{blob}"),
            format!("uploads/blobs/{blob}"),
        ] {
            for read in [Resource::to_read(&name), Resource::to_write(&name)] {
                let instance = read.and_then(|resource| Instance::parse(&resource.instance));
                assert!(matches!(instance, Err(ReapiError::Invalid(_))), "{name}");
            }
        }
        assert!(Resource::to_write(&format!("uploads//blobs/{blob}")).is_err());
        for instance in ["/", "a//b", "a/blobs/b", "uploads", "a\nb", &"x".repeat(300)] {
            assert!(Instance::parse(instance).is_err(), "{instance:?}");
        }
    }
}
