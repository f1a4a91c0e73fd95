//! Why a job is not started or changed.

use thiserror::Error;

use crate::{admission::Shortage, destination::DestinationError};

/// Why a job was not started or changed.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("Give at least one destination")]
    NoDestinations,
    #[error("At most {0} destinations can be given")]
    TooManyDestinations(usize),
    #[error("Destination {number}: {reason}")]
    Destination {
        number: usize,
        reason: DestinationError,
    },
    #[error(
        "HLS, recordings and thumbnails have no address or key that could be changed. Send {{}} to try again, or \
         remove this destination and add another one"
    )]
    NoAddress,
    #[error("The identity of the participant must be 1 to 128 characters")]
    Source,
    #[error(
        "This preset cannot be used: width and height are even, 64 to 3840, with 1 to 60 frames/s, 100000 to \
         20000000 bit/s and a keyframe every 500 to 10000 ms; and the stage is always composed, so that it has no \
         pass_through"
    )]
    Preset,
    #[error(
        "A layout arranges several people, and this output shows one picture. Leave the layout out, or send \
         everybody on stage: {{\"source\": {{\"type\": \"stage\"}}}}"
    )]
    Layout,
    #[error(
        "An output that passes the picture through cannot become a composed one, nor the other way round. Start \
         another one"
    )]
    PresetFixed,
    #[error("An output of sound alone has no picture to take thumbnails of")]
    NoPicture,
    #[error("Destination {0}: this output sends to that address with that key already")]
    Duplicate(usize),
    #[error(
        "Destination {number}: the output {job} of this room sends to that address with that key already, and a \
         server takes one of them. End that one, or take the destination out of it, first"
    )]
    SentElsewhere { number: usize, job: String },
    #[error("This output has no destination “{0}”")]
    UnknownDestination(String),
    #[error("This room has an HLS output already. End it before starting another one")]
    HlsActive,
    #[error(
        "There is no room for this: it needs about {} % of a processor core, and {} % are free; {} more outputs can \
         run on this server, and {} in this room. {}ry again when another one has ended",
        .0.needed_percent, .0.free.cpu_percent, .0.free.jobs, .0.free.jobs_in_room, instead(.0)
    )]
    Capacity(Shortage),
    #[error("This idempotency key came with a different request before")]
    KeyReused,
    #[error("The room has no such output, or it ended long ago")]
    UnknownJob,
    #[error("This output is over. Start a new one")]
    Over,
    #[error(
        "There is no room for a recording: the disk is full, or recordings have reached their limit. Delete \
         some, then try again"
    )]
    DiskFull,
    #[error("The server is stopping")]
    Stopping,
    #[error("The output cannot be written to the data folder, so it would not survive a restart")]
    Store,
}

/// Says what would fit, and begins what is said next.
fn instead(shortage: &Shortage) -> String {
    match shortage.instead {
        Some((preset, percent)) => {
            let preset = preset.as_str();
            format!("With the preset “{preset}” ({percent} %) it would fit; or t")
        }
        None => "T".to_owned(),
    }
}
