//! Makes a picture of a keyframe that a worker has taken, and keeps it.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Album, Albums, jpeg};
use crate::{
    link::{Failure, Pictured, ThumbnailTarget},
    status::FailureCode,
    still::Picture,
};

/// A picture that is to be made.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) album: Arc<Album>,
    pub(crate) target: ThumbnailTarget,
    pub(crate) taken_at_ms: u64,
    /// A keyframe behind its configuration.
    pub(crate) body: Bytes,
    /// The length of the configuration.
    pub(crate) configuration: usize,
}

impl Albums {
    /// Makes and keeps a picture; returns what became of it. Takes as long as pictures of others that wait.
    pub(crate) async fn develop(self, order: Order) -> Pictured {
        let Order {
            album,
            target,
            taken_at_ms,
            mut body,
            configuration,
        } = order;
        if configuration > body.len() {
            return miss();
        }
        // To decode what cannot be kept would be in vain.
        let (checked, min_free_bytes) = (album.clone(), self.min_free_bytes);
        match spawn_blocking(move || checked.check(min_free_bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Pictured::Refused(failure(&error)),
            Err(_) => return miss(),
        }
        let data = body.split_off(configuration);
        let picture = Picture::AccessUnit {
            avcc: body.into(),
            data: data.into(),
        };
        let Some(jpeg) = self.stills.decode(picture, target.width).await else {
            return miss();
        };
        let Some(size) = jpeg::size(&jpeg) else {
            return miss();
        };
        let bytes = jpeg.len() as u64;
        let keep = move || album.add(&jpeg, size, taken_at_ms, target.keep);
        match spawn_blocking(keep).await {
            Ok(Ok(())) => {
                metrics::counter!("fanlight_egress_thumbnails_total").increment(1);
                Pictured::Kept(bytes)
            }
            Ok(Err(error)) => Pictured::Refused(failure(&error)),
            Err(_) => miss(),
        }
    }
}

fn miss() -> Pictured {
    metrics::counter!("fanlight_egress_thumbnails_missed_total").increment(1);
    Pictured::Missed
}

fn failure(error: &io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::StorageFull || kind == io::ErrorKind::QuotaExceeded {
        return Failure {
            code: FailureCode::DiskFull,
            message: "The disk is full. The thumbnails taken until now are kept. Delete recordings or free space: \
                      it then goes on by itself."
                .to_owned(),
        };
    }
    Failure {
        code: FailureCode::Internal,
        message: format!(
            "Thumbnails cannot be written: {error}. Let the server write in the folder egress/thumbnails of its data \
             folder: it then goes on by itself."
        ),
    }
}
