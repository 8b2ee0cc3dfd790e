//! Crashes by the hundred, in a world without a clock: see `meridian_integration::simulation`.

use meridian_integration::simulation::world::simulate;

#[test]
fn crashes_at_any_write_lose_nothing_and_double_nothing() {
    for seed in 0..3 {
        let verdict = simulate(seed, 120);
        assert_eq!((verdict.lost, verdict.doubled), (0, 0), "seed {seed}: {:#?}", verdict.findings);
        assert!(verdict.findings.is_empty(), "seed {seed}: {:#?}", verdict.findings);
        assert!(verdict.done > 20, "seed {seed}: hardly anything was built: {verdict:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let (one, two) = (simulate(7, 40), simulate(7, 40));
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
}
