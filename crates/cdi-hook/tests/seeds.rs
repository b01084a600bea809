//! The fuzz targets over their seeds, and over what is near them.
#![allow(clippy::unwrap_used)]

mod targets;

use std::fs;
use std::path::Path;

use targets::TARGETS;

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_holds_on_its_seeds() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "{name} has {} seeds", seeds.len());
        seeds.iter().for_each(|seed| target(seed));
    }
}

#[test]
fn every_target_holds_on_seeds_that_are_cut_or_of_which_a_byte_is_another() {
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            for at in 0..seed.len() {
                target(&seed[..at]);
                let mut changed = seed.clone();
                changed[at] ^= 0x80 >> (at % 8);
                target(&changed);
            }
        }
    }
}
