//! Replays the inputs that the fuzz targets keep.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
};

use flate2::read::GzDecoder;
use sfu_core::fuzz::TARGETS;

#[test]
fn kept_inputs_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut names: Vec<_> = fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        TARGETS.map(|(name, _)| name),
        "one corpus per target"
    );
    for (name, target) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            target(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name}");
    }
}

/// Runs have found them, each for what no other does in the code; `.ci/fuzz` begins with them, too.
#[test]
fn found_inputs_are_survived() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found.tar.gz");
    let mut found = tar::Archive::new(GzDecoder::new(File::open(path).unwrap()));
    let targets = BTreeMap::from(TARGETS);
    let mut counts = BTreeMap::new();
    for entry in found.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let folder = path.parent().unwrap().to_str().unwrap();
        let (name, target) = targets.get_key_value(folder).unwrap();
        let mut input = Vec::new();
        entry.read_to_end(&mut input).unwrap();
        target(&input);
        *counts.entry(*name).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), TARGETS.len(), "{counts:?}");
}
