//! The committed TypeScript types are what the Rust types generate. `UPDATE_TYPES=1` rewrites them.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{fmt::Write as _, fs, path::Path};

use egress::status;
use ts_rs::TS;

const COMMITTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../web/sdk/src/generated/egress.ts"
);

#[test]
fn committed_types_match_the_rust_types() {
    let config = ts_rs::Config::new().with_large_int("number");
    let mut generated = String::from(
        "// Made from egress/src/status by `UPDATE_TYPES=1 cargo test -p egress`. Do not edit.\n",
    );
    macro_rules! declare {
        ($($name:ident),* $(,)?) => {
            $(declare::<status::$name>(&mut generated, &config);)*
        };
    }
    declare!(
        Request,
        Source,
        Track,
        Preset,
        PresetName,
        CustomPreset,
        Layout,
        Destination,
        Degraded,
        DegradedReason,
        Platform,
        Job,
        JobList,
        JobState,
        DestinationStatus,
        PastFailure,
        Change,
        DestinationChange,
        DestinationType,
        DestinationState,
        FailureCode,
        ProblemBody,
        ErrorCode,
        Needed,
        Free,
        Instead,
        RecordingOptions,
        ThumbnailOptions,
        Thumbnail,
        ThumbnailList,
        Recording,
        RecordingFile,
        RecordingTrack,
        RecordingState,
        RecordingList,
        StorageTrouble,
        StorageCode,
        HlsTokenRequest,
        HlsToken,
    );
    compare(Path::new(COMMITTED), &generated);
}

#[test]
fn the_pages_know_the_same_platforms() {
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/app/src/platforms.ts");
    let pages = fs::read_to_string(pages).unwrap();
    for platform in status::Platform::ALL {
        let name = serde_json::to_string(&platform).unwrap().replace('"', "'");
        let (_, entry) = pages.split_once(&format!("id: {name},")).unwrap();
        let url = format!("url: '{}',", platform.url());
        let entry = entry.lines().take(3).collect::<String>();
        assert!(entry.contains(&url), "{name} is not at {url} in the pages");
    }
    let named = pages.matches("    id: '").count();
    assert_eq!(named, status::Platform::ALL.len() + 1, "all but “custom”");
}

/// Appends `/** docs */ export type … = …;`.
fn declare<T: TS + 'static>(to: &mut String, config: &ts_rs::Config) {
    let docs = T::docs().unwrap_or_default();
    let _ = write!(to, "\n{docs}export {}\n", T::decl(config));
}

fn compare(committed: &Path, generated: &str) {
    if std::env::var_os("UPDATE_TYPES").is_some() {
        fs::create_dir_all(committed.parent().unwrap()).unwrap();
        fs::write(committed, generated).unwrap();
    }
    let found = fs::read_to_string(committed).unwrap_or_default();
    assert!(
        found == generated,
        "{} differs from the Rust types: run `UPDATE_TYPES=1 cargo test -p egress` and commit it",
        committed.display()
    );
}
