//! What agents and coordinator say to each other of the cache that agents share.

use meridian_core::{
    cache::{
        hints::{CacheHints, ManifestHint, ManifestHolder},
        lineage::{Lineage, LineageKey},
        lineage_name::LineageName,
        manifest_ref::ManifestRef,
        offer::{CacheKey, CacheOffer},
        scope::TaskScopes,
        shards::{RegionShards, ShardEpoch, ShardMember, Shards, ShardsError},
    },
    id::{AgentId, Epoch},
    machine::input::{CacheFigures, CacheTraffic, ShardFigures},
    quantity::ByteCount,
};

use super::field::{ConvertError, digest, digest_bytes, list, message, messages, optional, text};
use crate::v1;

impl From<&ManifestRef> for v1::ManifestRef {
    fn from(manifest: &ManifestRef) -> Self {
        Self {
            digest: digest_bytes(&manifest.digest),
            size: manifest.size.0,
            entries: manifest.entries,
            bytes: manifest.bytes.0,
        }
    }
}

impl TryFrom<v1::ManifestRef> for ManifestRef {
    type Error = ConvertError;

    fn try_from(wire: v1::ManifestRef) -> Result<Self, ConvertError> {
        Ok(Self {
            digest: digest(&wire.digest, "digest")?,
            size: ByteCount(wire.size),
            entries: wire.entries,
            bytes: ByteCount(wire.bytes),
        })
    }
}

impl From<&Lineage> for v1::Lineage {
    fn from(lineage: &Lineage) -> Self {
        Self {
            exact: digest_bytes(&lineage.exact.0),
            any_flags: digest_bytes(&lineage.any_flags.0),
            any_build: digest_bytes(&lineage.any_build.0),
        }
    }
}

impl TryFrom<v1::Lineage> for Lineage {
    type Error = ConvertError;

    fn try_from(wire: v1::Lineage) -> Result<Self, ConvertError> {
        Ok(Self {
            exact: LineageKey(digest(&wire.exact, "exact")?),
            any_flags: LineageKey(digest(&wire.any_flags, "any_flags")?),
            any_build: LineageKey(digest(&wire.any_build, "any_build")?),
        })
    }
}

fn cache_key(value: &[u8], field: &'static str) -> Result<CacheKey, ConvertError> {
    let wrong = |_| ConvertError::new(field, format_args!("a key has 32 bytes, not {}", value.len()));
    value.try_into().map(CacheKey::new).map_err(wrong)
}

fn key_bytes(key: &CacheKey) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(key.as_bytes())
}

impl From<&CacheOffer> for v1::CacheOffer {
    fn from(offer: &CacheOffer) -> Self {
        Self {
            address: offer.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            key: key_bytes(&offer.key),
            weight: offer.weight,
        }
    }
}

impl TryFrom<v1::CacheOffer> for CacheOffer {
    type Error = ConvertError;

    fn try_from(wire: v1::CacheOffer) -> Result<Self, ConvertError> {
        let address = (!wire.address.is_empty()).then(|| text(&wire.address, "address")).transpose()?;
        Ok(Self { address, key: cache_key(&wire.key, "key")?, weight: wire.weight })
    }
}

impl From<&ShardFigures> for v1::ShardFigures {
    fn from(figures: &ShardFigures) -> Self {
        Self { held: figures.held.0, capacity: figures.capacity.0 }
    }
}

impl From<v1::ShardFigures> for ShardFigures {
    fn from(wire: v1::ShardFigures) -> Self {
        Self { held: ByteCount(wire.held), capacity: ByteCount(wire.capacity) }
    }
}

impl From<&CacheFigures> for v1::CacheFigures {
    fn from(figures: &CacheFigures) -> Self {
        Self {
            bytes: figures.held.0,
            capacity: figures.capacity.0,
            hit_bytes: figures.hit_bytes.0,
            put_bytes: figures.put_bytes.0,
            evicted_bodies: figures.evicted_bodies,
            evicted_bytes: figures.evicted_bytes.0,
            damaged_bodies: figures.damaged_bodies,
            traffic: Some(figures.traffic.into()),
        }
    }
}

impl From<v1::CacheFigures> for CacheFigures {
    fn from(wire: v1::CacheFigures) -> Self {
        Self {
            held: ByteCount(wire.bytes),
            capacity: ByteCount(wire.capacity),
            hit_bytes: ByteCount(wire.hit_bytes),
            put_bytes: ByteCount(wire.put_bytes),
            evicted_bodies: wire.evicted_bodies,
            evicted_bytes: ByteCount(wire.evicted_bytes),
            damaged_bodies: wire.damaged_bodies,
            traffic: wire.traffic.map(Into::into).unwrap_or_default(),
        }
    }
}

impl From<CacheTraffic> for v1::CacheTraffic {
    fn from(traffic: CacheTraffic) -> Self {
        Self {
            fetched_bodies: traffic.fetched_bodies,
            fetched_bytes: traffic.fetched_bytes.0,
            fetched_wire_bytes: traffic.fetched_wire_bytes.0,
            refused_bodies: traffic.refused_bodies,
            waited_us: traffic.waited_us,
            served_wire_bytes: traffic.served_wire_bytes.0,
        }
    }
}

impl From<v1::CacheTraffic> for CacheTraffic {
    fn from(wire: v1::CacheTraffic) -> Self {
        Self {
            fetched_bodies: wire.fetched_bodies,
            fetched_bytes: ByteCount(wire.fetched_bytes),
            fetched_wire_bytes: ByteCount(wire.fetched_wire_bytes),
            refused_bodies: wire.refused_bodies,
            waited_us: wire.waited_us,
            served_wire_bytes: ByteCount(wire.served_wire_bytes),
        }
    }
}

impl From<&LineageName> for v1::LineageName {
    fn from(name: &LineageName) -> Self {
        Self { project: name.project.to_string(), what: name.what.clone(), platform: name.platform.clone() }
    }
}

impl From<&CacheHints> for v1::CacheHints {
    fn from(hints: &CacheHints) -> Self {
        Self {
            writes: hints.scopes.writes.to_string(),
            reads: hints.scopes.reads.iter().map(ToString::to_string).collect(),
            manifest: hints.manifest.as_ref().map(Into::into),
            grant: hints.grant.clone().into(),
        }
    }
}

impl TryFrom<v1::CacheHints> for CacheHints {
    type Error = ConvertError;

    fn try_from(wire: v1::CacheHints) -> Result<Self, ConvertError> {
        let reads = wire.reads.iter().map(|scope| text(scope, "reads")).collect::<Result<_, _>>()?;
        Ok(Self {
            scopes: TaskScopes { writes: text(&wire.writes, "writes")?, reads },
            manifest: optional(wire.manifest, "manifest")?,
            grant: wire.grant.into(),
        })
    }
}

impl From<&ManifestHint> for v1::ManifestHint {
    fn from(hint: &ManifestHint) -> Self {
        Self {
            manifest: Some((&hint.manifest).into()),
            distance: hint.distance,
            holders: messages(&hint.holders),
        }
    }
}

impl TryFrom<v1::ManifestHint> for ManifestHint {
    type Error = ConvertError;

    fn try_from(wire: v1::ManifestHint) -> Result<Self, ConvertError> {
        Ok(Self {
            manifest: message(wire.manifest, "manifest")?,
            distance: wire.distance,
            holders: list(wire.holders, "holders")?,
        })
    }
}

impl From<&ManifestHolder> for v1::ManifestHolder {
    fn from(holder: &ManifestHolder) -> Self {
        Self {
            agent: holder.agent.to_string(),
            address: holder.address.to_string(),
            key: key_bytes(&holder.key),
        }
    }
}

impl TryFrom<v1::ManifestHolder> for ManifestHolder {
    type Error = ConvertError;

    fn try_from(wire: v1::ManifestHolder) -> Result<Self, ConvertError> {
        Ok(Self {
            agent: text(&wire.agent, "agent")?,
            address: text(&wire.address, "address")?,
            key: cache_key(&wire.key, "key")?,
        })
    }
}

impl From<ShardEpoch> for v1::ShardEpoch {
    fn from(epoch: ShardEpoch) -> Self {
        Self { leader: epoch.leader.0, change: epoch.change }
    }
}

impl From<v1::ShardEpoch> for ShardEpoch {
    fn from(wire: v1::ShardEpoch) -> Self {
        Self { leader: Epoch(wire.leader), change: wire.change }
    }
}

impl From<&Shards> for v1::Shards {
    fn from(shards: &Shards) -> Self {
        Self {
            epoch: Some(shards.epoch.into()),
            regions: messages(shards.regions()),
            revoked: shards.revoked().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Shards> for Shards {
    type Error = ConvertError;

    fn try_from(wire: v1::Shards) -> Result<Self, ConvertError> {
        let epoch = wire.epoch.map(ShardEpoch::from).unwrap_or_default();
        let regions = list(wire.regions, "regions")?;
        let revoked: Vec<AgentId> =
            wire.revoked.iter().map(|agent| text(agent, "revoked")).collect::<Result<_, _>>()?;
        if !revoked.is_sorted_by(|a, b| a < b) {
            return Err(ConvertError::new("revoked", "is not sorted, or names an agent twice"));
        }
        let refused = |error: ShardsError| ConvertError::new("regions", error);
        Self::new(epoch, regions, revoked.into_iter().collect()).map_err(refused)
    }
}

impl From<&RegionShards> for v1::RegionShards {
    fn from(shards: &RegionShards) -> Self {
        Self {
            region: shards.region().to_string(),
            replicas: shards.replicas(),
            members: messages(shards.members()),
        }
    }
}

impl TryFrom<v1::RegionShards> for RegionShards {
    type Error = ConvertError;

    fn try_from(wire: v1::RegionShards) -> Result<Self, ConvertError> {
        let (region, members) = (text(&wire.region, "region")?, list(wire.members, "members")?);
        Self::new(region, wire.replicas, members).map_err(|error| ConvertError::new("members", error))
    }
}

impl From<&ShardMember> for v1::ShardMember {
    fn from(member: &ShardMember) -> Self {
        Self { agent: member.agent.to_string(), address: member.address.to_string(), weight: member.weight }
    }
}

impl TryFrom<v1::ShardMember> for ShardMember {
    type Error = ConvertError;

    fn try_from(wire: v1::ShardMember) -> Result<Self, ConvertError> {
        let (agent, address) = (text(&wire.agent, "agent")?, text(&wire.address, "address")?);
        Ok(Self { agent, address, weight: wire.weight })
    }
}
