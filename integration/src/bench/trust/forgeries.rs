//! Results forged or altered in every field and byte region, and genuine ones between them, against a real coordinator.

use meridian_core::keyring::KeyAlgorithm;

use crate::bench::plan::Plan;
use crate::{
    bench::figures::Figures,
    forgery::{Change, Kind, Stage, catalogue},
};

/// The figures of this part.
pub const KEYS: &[&str] = &["tampered", "tampered_accepted", "genuine", "genuine_rejected"];

/// A genuine result is reported after as many forged ones, of the same task.
const FORGED_BETWEEN: usize = 8;
const SEED: u64 = 1;

/// What was reported, and what became of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Tally {
    tampered: u32,
    tampered_accepted: u32,
    genuine: u32,
    genuine_rejected: u32,
}

/// `tampered`, `tampered_accepted`, `genuine`, `genuine_rejected`.
///
/// # Errors
/// When the coordinator does not start or answer.
pub fn measure(_plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut tally = Tally::default();
    for (algorithm, kind) in [
        (KeyAlgorithm::EcdsaP256, Kind::Module),
        (KeyAlgorithm::EcdsaP256, Kind::Tree),
        (KeyAlgorithm::Ed25519, Kind::Tree),
    ] {
        runtime.block_on(report_all(algorithm, kind, usize::MAX, &mut tally))?;
    }
    figures.add("tampered", f64::from(tally.tampered));
    figures.add("tampered_accepted", f64::from(tally.tampered_accepted));
    figures.add("genuine", f64::from(tally.genuine));
    figures.add("genuine_rejected", f64::from(tally.genuine_rejected));
    Ok(())
}

/// Reports the forgeries of one kind of build, at most `most` of them, drawn evenly.
async fn report_all(
    algorithm: KeyAlgorithm,
    kind: Kind,
    most: usize,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut stage = Stage::start(algorithm).await?;
    let statement = stage.statement(kind).await?;
    let mut forgeries = catalogue(&statement, SEED);
    if algorithm == KeyAlgorithm::Ed25519 {
        // What a statement says is judged alike, whatever signed it.
        forgeries.retain(|forgery| !matches!(forgery.change, Change::Statement(_)));
    }
    let step = forgeries.len().div_ceil(most.max(1)).max(1);
    genuine(&mut stage, kind, tally).await?;
    for (number, forgery) in forgeries.iter().step_by(step).enumerate() {
        tally.tampered += 1;
        if stage.report_forged(kind, forgery).await? {
            tally.tampered_accepted += 1;
            eprintln!("accepted: {}", forgery.what);
            stage.submit(kind).await?;
        }
        if number % FORGED_BETWEEN == FORGED_BETWEEN - 1 {
            genuine(&mut stage, kind, tally).await?;
        }
    }
    genuine(&mut stage, kind, tally).await?;
    stage.end().await
}

async fn genuine(stage: &mut Stage, kind: Kind, tally: &mut Tally) -> anyhow::Result<()> {
    tally.genuine += 1;
    if stage.report_genuine(kind).await? {
        stage.submit(kind).await?;
    } else {
        tally.genuine_rejected += 1;
        eprintln!("refused: a genuine result");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_forgeries_is_refused_and_every_genuine_result_accepted() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mut tally = Tally::default();
        runtime.block_on(report_all(KeyAlgorithm::EcdsaP256, Kind::Tree, 90, &mut tally)).unwrap();
        assert!(tally.tampered >= 60 && tally.genuine >= 8, "{tally:?}");
        assert_eq!((tally.tampered_accepted, tally.genuine_rejected), (0, 0), "{tally:?}");
    }
}
