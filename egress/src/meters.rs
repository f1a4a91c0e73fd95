//! What egress counts for operators, in words.

use metrics::{counter, describe_counter};

/// Describes the meters, and shows them from the start.
pub(crate) fn describe() {
    for (name, help) in METERS {
        describe_counter!(name, help);
        counter!(name).increment(0);
    }
}

/// Counts destinations that were given up.
pub(crate) const FAILED: &str = "fanlight_egress_failed_total";

const METERS: [(&str, &str); 6] = [
    (
        FAILED,
        "Destinations that were given up: somebody has to do something",
    ),
    (
        "fanlight_thumbnails_total",
        "Pictures made of live rooms on request",
    ),
    (
        "fanlight_egress_thumbnails_total",
        "Pictures that outputs have kept",
    ),
    (
        "fanlight_egress_thumbnails_missed_total",
        "Pictures of outputs that could not be decoded, or that too much was waiting before",
    ),
    (
        "fanlight_recording_upload_failures_total",
        "Attempts to send recordings to the storage that failed; each is made again",
    ),
    (
        "fanlight_still_worker_failures_total",
        "Times that the process that decodes pictures hung or died",
    ),
];
