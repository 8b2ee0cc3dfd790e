//! Starts on a state directory from which something has gone.

use std::{fs, path::PathBuf};

use meridian_core::{keyring::KeyUse, time::Wall};
use meridian_proto::v1::{self, agents_client::AgentsClient, builds_client::BuildsClient};
use meridian_runtime::clock::Clock;
use meridian_trust::{dsse::Envelope, keyring::Keyring, order::Order};
use tempfile::TempDir;

use crate::{
    fixture::{Fixture, module_build, upload},
    keys::root,
};

const ANN: &str = "team/web/member/ann";
/// Where the records of a segment begin, in bytes.
const RECORDS_START: usize = 4096;

/// The state of a coordinator that acknowledged a build and was stopped.
async fn state_with_a_build() -> TempDir {
    let fleet = Fixture::start().await;
    let request = module_build("web/shop", "k", &["linux/amd64"]);
    BuildsClient::new(fleet.channel(ANN)).submit(request).await.unwrap();
    fleet.stop().await
}

fn only_segment(state: &TempDir) -> PathBuf {
    let files = fs::read_dir(state.path().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let segments: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect();
    let [segment] = segments.as_slice() else { panic!("{segments:?}") };
    segment.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lost_acknowledged_records_is_refused_until_its_history_is_removed_by_hand() {
    let cut = |segment: &PathBuf| {
        let bytes = fs::read(segment).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        fs::write(segment, &bytes[..RECORDS_START + (end - RECORDS_START) / 2]).unwrap();
    };
    let remove = |segment: &PathBuf| fs::remove_file(segment).unwrap();
    for lose in [&cut as &dyn Fn(&PathBuf), &remove] {
        let state = state_with_a_build().await;
        lose(&only_segment(&state));
        let (journal, history) = (state.path().join("journal"), state.path().join("history"));
        for _ in 0..2 {
            let error = Fixture::refusal(&state).await;
            assert!(error.contains("acknowledged records are lost"), "{error}");
            assert!(error.contains(&journal.display().to_string()), "{error}");
            assert!(error.contains(&format!("remove {}", history.display())), "{error}");
        }
        fs::remove_dir_all(history).unwrap();
        Fixture::start_on(state).await.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_authority_is_asked_for_and_never_replaced_once_the_journal_has_begun() {
    let state = state_with_a_build().await;
    let file = state.path().join("authority/authority.pem");
    let kept = fs::read(&file).unwrap();
    let aside = state.path().join("aside");
    fs::rename(state.path().join("authority"), &aside).unwrap();
    for _ in 0..2 {
        let error = Fixture::refusal(&state).await;
        assert!(error.contains(&format!("{} is missing", file.display())), "{error}");
        assert!(error.contains("restore the file from a backup"), "{error}");
        assert!(!file.exists());
    }
    fs::rename(&aside, state.path().join("authority")).unwrap();
    let state = Fixture::start_on(state).await.stop().await;
    assert_eq!(fs::read(&file).unwrap(), kept);
    drop(state);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_receipt_and_signing_keys_are_made_anew_and_the_fleet_goes_on() {
    let state = state_with_a_build().await;
    fs::remove_file(state.path().join("receipt.key")).unwrap();
    fs::remove_dir_all(state.path().join("signing")).unwrap();
    let fleet = Fixture::start_on(state).await;
    let mut agent = fleet.agent("a1").await;
    agent.work_off(1).await;
    let (work, fence) = agent.take().await;
    let lease = v1::Lease { task: work.task.to_string(), fence: fence.0 };
    let request = v1::OrderRequest { lease: Some(lease) };
    let answer = AgentsClient::new(agent.channel.clone()).order(request).await.unwrap().into_inner();
    let keyring = Keyring::open(&Envelope::parse(&answer.keyring).unwrap(), &root(&fleet)).unwrap();
    let now = Wall(Clock::system().now().wall_ms);
    let envelope = Envelope::parse(&answer.order).unwrap();
    assert_eq!(Order::open(&envelope, &keyring, &agent.signer.agent, now).unwrap().task, work.task);
    let count = keyring.entries().filter(|entry| entry.key_use == KeyUse::Order).count();
    assert_eq!(count, 2, "the key that is gone still vouches for what it signed");
    let scope = v1::Scope { task: work.task.to_string(), fence: fence.0 };
    let receipts = upload(&agent.channel, "web/shop", Some(scope), &[b"content"]).await.unwrap();
    assert_eq!(receipts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_refused_with_the_command_that_tells_more() {
    let state = state_with_a_build().await;
    let segment = only_segment(&state);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[RECORDS_START] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let error = Fixture::refusal(&state).await;
    let journal = state.path().join("journal");
    assert!(error.contains(segment.file_name().unwrap().to_str().unwrap()), "{error}");
    assert!(error.contains(&format!("`meridian journal verify {}`", journal.display())), "{error}");
}
