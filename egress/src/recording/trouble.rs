//! Why the storage does not take a file, in words that name no key.

use std::{error::Error, io};

use object_store::client::HttpError;
use thiserror::Error;

use crate::status::StorageCode;

/// Why an upload has not gone on.
#[derive(Debug, Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the storage has {has:?} bytes of {of}")]
    Size { has: Option<u64>, of: u64 },
}

impl UploadError {
    /// Returns what the matter is, for machines.
    pub(super) fn code(&self) -> StorageCode {
        match self {
            Self::Store(error) => code_of(error),
            Self::Io(_) | Self::Size { .. } => StorageCode::StorageFailed,
        }
    }

    /// Returns whether the storage has answered, and not as if it had a bad day.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self.code(),
            StorageCode::StorageDenied | StorageCode::StorageBucketMissing
        )
    }

    /// Returns what may be logged. What a storage answers to a refused request has the keys' id, and what was signed
    /// with them, in it: of that only the word for the error is taken.
    pub(super) fn reason(&self) -> String {
        let Self::Store(error) = self else {
            return self.to_string();
        };
        if let Some(http) = find::<HttpError>(error) {
            return innermost(http).to_string();
        }
        if let Some(io) = find::<io::Error>(error) {
            return io.to_string();
        }
        let text = error.to_string();
        let named = text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once('<'));
        match named {
            Some((word, _)) if word.chars().all(|c| c.is_ascii_alphanumeric()) => word.to_owned(),
            Some(_) | None => "the storage refused the request".to_owned(),
        }
    }
}

fn code_of(error: &object_store::Error) -> StorageCode {
    let denied = matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    );
    if denied {
        StorageCode::StorageDenied
    } else if matches!(error, object_store::Error::NotFound { .. }) {
        // Of what is written, only the bucket can be missing.
        StorageCode::StorageBucketMissing
    } else if find::<HttpError>(error).is_some() {
        StorageCode::StorageUnreachable
    } else {
        StorageCode::StorageFailed
    }
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last
}

/// Returns what people are told.
pub(super) fn advice(code: StorageCode) -> &'static str {
    match code {
        StorageCode::StorageDenied => {
            "The storage refuses the server's keys, or they may not write there. Nothing is lost: the files are kept \
             here and are sent once the keys are right."
        }
        StorageCode::StorageBucketMissing => {
            "The storage has no such bucket. Nothing is lost: the files are kept here and are sent once there is one."
        }
        StorageCode::StorageUnreachable => {
            "The storage cannot be reached, or breaks off. Nothing is lost: the files are kept here and are sent \
             once it answers."
        }
        StorageCode::StorageFailed => {
            "The storage does not take the files. Nothing is lost: they are kept here, and it is tried again. See the \
             server's log."
        }
    }
}
