//! What a build signs, under the verifiers that people have: OpenSSL, Go, and cosign where the bench has installed it. The
//! bench runs all verifiers over all alterations.

use meridian_integration::bench::trust::verifiers::{
    cells::{Alteration, Cell, Verifier},
    measure,
    peers::Peers,
};

#[test]
fn stock_verifiers_take_what_a_build_signs_and_refuse_it_once_it_is_altered() {
    // Each start of cosign takes a while, so it is asked less here.
    let is_wanted = |cell: &Cell| {
        matches!(cell.verifier, Verifier::OpenSsl | Verifier::Go)
            || matches!(cell.alteration, Alteration::Genuine | Alteration::ArtifactBit)
    };
    let outcome = measure::run(&Peers::at_hand(), is_wanted).unwrap();
    // Go's alone are so many: OpenSSL may be missing.
    assert!(outcome.cells >= 40, "only {} cells were run", outcome.cells);
    assert_eq!(outcome.surprises, Vec::<String>::new());
}
