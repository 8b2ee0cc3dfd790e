//! What a build signs, under the verifiers that people have: those that are on this machine already. The bench installs
//! the others.

use meridian_integration::bench::trust::verifiers::{measure, peers::Peers};

#[test]
fn stock_verifiers_take_what_a_build_signs_and_refuse_it_once_it_is_altered() {
    let outcome = measure::run(&Peers::at_hand()).unwrap();
    assert!(outcome.cells >= 10, "only {} cells were run", outcome.cells);
    assert_eq!(outcome.surprises, Vec::<String>::new());
}
