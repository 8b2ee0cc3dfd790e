//! Looking after the cache that lies here: from time to time by itself, and when the coordinator's people ask for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use meridian_cache::{disk::Eviction, local::CacheFigures as Asked, prefetch::PrefetchFigures};
use meridian_core::{
    cache::hints::CacheHints,
    digest::Digest,
    machine::input::{CacheFigures, CacheTraffic},
    quantity::ByteCount,
};
use meridian_proto::v1::{self, cache_eviction::What};
use tokio_util::sync::CancellationToken;

use super::{placed::Fabric, usage::Counted, vouching::wall_now};

/// How long one manifest may take to come.
const WARM_WITHIN: Duration = Duration::from_secs(14 * 60);

impl Fabric {
    /// Lets things go by their age, and keeps the word on which manifests are whole, until told to stop.
    pub(super) async fn keep_tidy(self, stop: CancellationToken) {
        let store = Arc::clone(&self.parts.store);
        stop.run_until_cancelled(store.keep_up(self.parts.max_age)).await;
    }

    /// Counts what the build of a lineage got.
    pub(crate) fn note_use(&self, counted: &Counted<'_>) {
        let (usage, store) = (Arc::clone(&self.parts.usage), self.store());
        usage.count(counted, wall_now().0);
        tokio::task::spawn_blocking(move || usage.save(|error| store.is_full(error)));
    }

    /// What the coordinator is told of the cache, given what all builds here asked.
    pub(crate) fn figures(&self, asked: &Asked) -> CacheFigures {
        let figures = self.parts.store.figures();
        let tally = figures.tally;
        CacheFigures {
            held: ByteCount(figures.bytes),
            capacity: ByteCount(figures.capacity),
            hit_bytes: ByteCount(asked.hit_bytes),
            put_bytes: ByteCount(asked.put_bytes),
            evicted_bodies: figures.evicted_bodies,
            evicted_bytes: ByteCount(figures.evicted_bytes),
            damaged_bodies: figures.damaged_bodies,
            traffic: CacheTraffic {
                fetched_bodies: tally.fetched_bodies,
                fetched_bytes: ByteCount(tally.fetched_bytes),
                fetched_wire_bytes: ByteCount(tally.fetched_wire_bytes),
                refused_bodies: tally.refused_bodies,
                waited_us: u64::try_from(tally.waited.as_micros()).unwrap_or(u64::MAX),
                served_wire_bytes: ByteCount(tally.served_wire_bytes),
            },
        }
    }

    /// What people are told of the cache.
    pub(crate) fn stats(&self, cache_use: v1::CacheUse) -> v1::CacheStats {
        let figures = self.parts.store.figures();
        v1::CacheStats {
            bytes: figures.bytes,
            capacity: figures.capacity,
            bodies: figures.bodies,
            frame_bytes: figures.frame_bytes,
            frame_capacity: figures.frame_capacity,
            entries: figures.entries,
            manifests: figures.manifests,
            manifests_in_part: figures.manifests_in_part,
            max_age_ms: self
                .parts
                .max_age
                .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            asked: Some(cache_use),
            traffic: Some(self.figures(&Asked::default()).traffic.into()),
            evicted_bodies: figures.evicted_bodies,
            evicted_bytes: figures.evicted_bytes,
            damaged_bodies: figures.damaged_bodies,
            lineages: self.parts.usage.all(),
        }
    }

    /// Brings what a manifest names, before any build.
    ///
    /// # Errors
    /// When nobody who has it can be asked, or nothing came in time; in words for people.
    pub(crate) async fn warm(&self, hints: CacheHints, platform: String) -> Result<v1::CacheWarmed, String> {
        let Some(hint) = &hints.manifest else { return Err("no manifest is named".to_owned()) };
        let mut warmed = v1::CacheWarmed {
            manifest: hint.manifest.digest.as_bytes().to_vec().into(),
            platform,
            distance: hint.distance,
            ..v1::CacheWarmed::default()
        };
        if self.residency().contains(&hint.manifest.digest) {
            (warmed.held, warmed.whole) = (true, true);
            return Ok(warmed);
        }
        // A server outside the fleet tells nobody what it has: it is asked.
        if hint.holders.is_empty() && self.parts.outside.is_none() {
            return Err("no agent that is attached and serves others holds all of it".to_owned());
        }
        self.parts.vouching.grants().take(&hints);
        let prefetch = self.bring(&hints, hint);
        let ended = tokio::time::timeout(WARM_WITHIN, prefetch.ended()).await;
        let PrefetchFigures { bodies, body_bytes, wire_bytes, .. } = prefetch.figures();
        (warmed.bodies, warmed.bytes, warmed.wire_bytes) = (bodies, body_bytes, wire_bytes);
        warmed.whole = prefetch.arrivals().is_whole();
        match ended {
            Err(_) => Err(format!("not all of it came within {} s", WARM_WITHIN.as_secs())),
            Ok(_) if prefetch.arrivals().manifest().is_none() => {
                Err("nobody who should have it sent it: their logs and this agent's say why".to_owned())
            }
            Ok(_) => Ok(warmed),
        }
    }

    /// Lets go what nobody has in use.
    ///
    /// # Errors
    /// When the disk refuses; in words for people.
    pub(crate) async fn evict(&self, what: Eviction) -> Result<v1::CacheEvicted, String> {
        let (store, views) = (Arc::clone(&self.parts.store), self.views());
        let let_go = move || {
            // A body has room only when its last name goes.
            if let Some(views) = views {
                views.let_go();
            }
            store.evict(&what)
        };
        let evicted = tokio::task::spawn_blocking(let_go).await;
        let evicted = evicted.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        tracing::warn!(?evicted, "the build cache was told to let go");
        Ok(v1::CacheEvicted {
            bodies: evicted.bodies,
            bytes: evicted.bytes,
            entries: evicted.entries,
            manifests: evicted.manifests,
            frame_bytes: evicted.frame_bytes,
            pinned_bodies: evicted.pinned_bodies,
            pinned_bytes: evicted.pinned_bytes,
        })
    }

    /// Reads everything again and drops what is damaged; `told` hears of how many bytes, and stops it by saying so.
    ///
    /// # Errors
    /// When the fleet's keyring is not known, or the disk refuses; in words for people.
    pub(crate) async fn verify(
        &self,
        told: impl Fn(u64) -> bool + Send + 'static,
    ) -> Result<v1::CacheVerified, String> {
        let (store, vouching) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.vouching));
        if !vouching.is_ready() {
            return Err("the fleet's keyring is not known there yet: try again in a moment".to_owned());
        }
        let checked = tokio::task::spawn_blocking(move || store.verify(&*vouching, told)).await;
        let checked = checked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if checked.damaged() > 0 {
            tracing::warn!(
                ?checked,
                "the build cache was damaged, or lacked bodies: what was is dropped, and built or fetched again"
            );
        }
        Ok(v1::CacheVerified {
            bodies: checked.bodies,
            bytes: checked.bytes,
            damaged_bodies: checked.damaged_bodies,
            entries: checked.entries,
            damaged_entries: checked.damaged_entries,
            manifests: checked.manifests,
            damaged_manifests: checked.damaged_manifests,
            frames: checked.frames,
            damaged_frames: checked.damaged_frames,
            unreadable: checked.unreadable,
            missing_bodies: checked.missing_bodies,
        })
    }
}

/// What somebody wants to go.
///
/// # Errors
/// When that is not understood; in words for people.
pub(crate) fn eviction(asked: v1::CacheEviction) -> Result<Eviction, String> {
    match asked.what {
        Some(What::UnusedMs(age)) => Ok(Eviction::Unused(Duration::from_millis(age))),
        Some(What::Lineages(lineages)) => {
            let keys = lineages.keys.iter().map(|key| Digest::from_slice(key));
            let keys: Result<BTreeSet<Digest>, _> = keys.collect();
            keys.map(Eviction::Lineages).map_err(|error| error.to_string())
        }
        Some(What::All(true)) => Ok(Eviction::All),
        Some(What::All(false)) | None => Err("it is not said what is to go".to_owned()),
    }
}
