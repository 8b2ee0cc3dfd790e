//! What a shard says to whoever asks who knows an action.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use meridian_cache::{
    disk::Eviction,
    manifest::{Manifest, SignedManifest},
    prefetch::Supply,
};
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, shard_client::ShardClient};
use tonic::Code;

use crate::pair::{Place, SCOPE, Serving, Then, Trickle, bodies, channel, noise};

/// Keeps what a manifest says once more, as `changed` has it.
fn published(place: &Place, signed: &SignedManifest, changed: impl FnOnce(&mut Manifest)) -> Digest {
    let mut manifest = signed.manifest.clone();
    changed(&mut manifest);
    let signed = Arc::new(manifest.sign(&*place.team).unwrap());
    place.store.publish(&signed).unwrap();
    signed.digest
}

/// A member's question.
fn question(toolchain: &[u8], scopes: &[&str], actions: &[[u8; 32]]) -> v1::DiscoverRequest {
    v1::DiscoverRequest {
        grant: Bytes::from_static(b"member"),
        toolchain: Bytes::copy_from_slice(Digest::of(toolchain).as_bytes()),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        actions: actions.iter().map(|action| Bytes::copy_from_slice(action)).collect(),
        epoch: None,
    }
}

/// Which manifest the shard names to whoever reads these scopes, and where in it.
async fn asked(
    serving: &Serving,
    signed: &SignedManifest,
    toolchain: &[u8],
    scopes: &[&str],
) -> Option<(Digest, u32)> {
    let action = signed.manifest.entries[3].action.0;
    let request = question(toolchain, scopes, &[action]);
    let answer = ShardClient::new(channel(serving.address)).discover(request).await.unwrap().into_inner();
    Digest::from_slice(&answer.manifest).ok().map(|manifest| (manifest, answer.entry))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_another_scope_or_toolchain_does_not_stand_before_the_one_that_is_asked_for() {
    let place = Place::new();
    let signed = place.build(&bodies()).await;
    let other = published(&place, &signed, |manifest| manifest.scope = "acme/other".into());
    let patched = published(&place, &signed, |manifest| manifest.toolchain = Digest::of(b"patched"));
    let serving = place.serve().await;
    for (toolchain, scope, named) in [
        (b"go".as_slice(), SCOPE, Some((signed.digest, 3))),
        (b"go", "acme/other", Some((other, 3))),
        (b"patched", SCOPE, Some((patched, 3))),
        (b"patched", "acme/other", None),
    ] {
        assert_eq!(asked(&serving, &signed, toolchain, &[scope]).await, named, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_that_may_be_read_the_one_used_last_is_named_and_when_it_goes_the_one_before() {
    let place = Place::new();
    let signed = place.build(&bodies()).await;
    let newer = published(&place, &signed, |manifest| {
        manifest.lineage = Digest::of(b"newer");
        manifest.entries.remove(0);
    });
    let serving = place.serve().await;
    let scopes = ["acme/other", SCOPE];
    assert_eq!(asked(&serving, &signed, b"go", &scopes).await, Some((newer, 2)));
    let lineages = BTreeSet::from([Digest::of(b"newer")]);
    assert_eq!(place.store.evict(&Eviction::Lineages(lineages)).unwrap().manifests, 1);
    assert_eq!(asked(&serving, &signed, b"go", &scopes).await, Some((signed.digest, 3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_more_scopes_or_actions_than_any_build_has_is_refused() {
    let place = Place::new();
    let serving = place.serve().await;
    let mut client = ShardClient::new(channel(serving.address));
    for (scopes, actions, is_taken) in [(4, 64, true), (5, 1, false), (1, 65, false)] {
        let request = question(b"go", &vec![SCOPE; scopes], &vec![[7; 32]; actions]);
        let answer = client.discover(request).await.map(drop).map_err(|status| status.code());
        let awaited = if is_taken { Ok(()) } else { Err(Code::InvalidArgument) };
        assert_eq!(answer, awaited, "{scopes} scopes, {actions} actions");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_not_asked_of_others_who_would_bring_all_of_it_again() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&noise(8)).await;
    let serving = near.serve().await;
    let stalling = Trickle::until(serving.address, Then::Stalls(2 << 20)).await;
    let prefetch = far.prefetch(&signed, &[stalling.address]);
    let supply = Arc::new(Supply::new(Some(prefetch), Some(far.seeking(&[serving.address]))));
    let (asked, last) = (Arc::clone(&supply), signed.manifest.entries.last().unwrap().action);
    let namespace = signed.manifest.namespace();
    let is_here = tokio::task::spawn_blocking(move || asked.wait_for(&[namespace], &last)).await.unwrap();
    assert!(!is_here);
    assert_eq!(supply.asked(), 0);
}
