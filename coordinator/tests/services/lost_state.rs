//! Starts on a state directory from which something has gone.

use std::{fs, path::PathBuf};

use meridian_proto::v1::builds_client::BuildsClient;
use tempfile::TempDir;

use crate::fixture::{Fixture, module_build};

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
