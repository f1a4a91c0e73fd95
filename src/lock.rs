//! Keeps a second server away from a data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use anyhow::Context as _;
/// A data folder that no other server uses. It is free again when this is dropped, or the process ends in any way.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the folder, which must exist.
    ///
    /// # Errors
    /// When another server uses it, or it cannot be written to; says what to do.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "another Fanlight is running with the data folder {}: end it, or give this one a folder of its \
                 own with --data-dir",
                folder.display()
            ),
            // Some network file systems have no locks; the server works there nonetheless.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "the data folder cannot be locked")
            }
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::take(folder.path()).unwrap();
        let refused = DataLock::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("--data-dir"), "{refused}");
        drop(first);
        DataLock::take(folder.path()).unwrap();
    }
}
