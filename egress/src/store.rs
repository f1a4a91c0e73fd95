//! The jobs that go on after a restart of the server, on disk.
//!
//! One file a job, sealed (AES-256-GCM) with a key of its own file, which only the server's user can read: a
//! copy of the folder without the key tells no stream key.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use serde::{Deserialize, Serialize};

use crate::{status::Destination, wish::Wish};

/// What is known of a job that has to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) room: u64,
    pub(crate) slug: String,
    pub(crate) created_at_ms: u64,
    pub(crate) next_number: usize,
    /// What was asked for, without the destinations.
    #[serde(default)]
    pub(crate) wish: Wish,
    pub(crate) destinations: Vec<RecordedDestination>,
    /// The idempotency key of its request, and that request's fingerprint.
    pub(crate) idempotency: Option<(String, Vec<u8>)>,
}

#[cfg(test)]
impl Record {
    /// That of a job which sends nowhere.
    pub(crate) fn sample() -> Self {
        Self {
            id: "eg_1".to_owned(),
            room: 1,
            slug: "room".to_owned(),
            created_at_ms: 0,
            next_number: 1,
            wish: Wish::default(),
            destinations: Vec::new(),
            idempotency: None,
        }
    }
}

/// A destination of a recorded job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedDestination {
    pub(crate) number: usize,
    /// Whether it was asked for by somebody who may reach this network.
    #[serde(default)]
    pub(crate) trusted: bool,
    /// Whether it was live.
    pub(crate) proved: bool,
    pub(crate) requested: Destination,
}

/// The folder of records.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    key: RandomizedNonceKey,
}

impl Store {
    /// Opens the folder, making it and its key if need be.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let jobs = folder.join("jobs");
        fs::create_dir_all(&jobs)?;
        let key = read_or_make_key(&folder.join("key"))?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(io::Error::other)?;
        Ok(Self { folder: jobs, key })
    }

    /// Writes or replaces a job's record. A crash leaves the old or the new one.
    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(record)?;
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(record.id.as_bytes()), &mut bytes)
            .map_err(io::Error::other)?;
        let unfinished = self.folder.join(format!("{}.new", record.id));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(nonce.as_ref())?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path(&record.id))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Forgets a job.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns all jobs, the oldest first, and the names of files that cannot be read.
    pub(crate) fn load(&self) -> io::Result<(Vec<Record>, Vec<String>)> {
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".job") else {
                continue;
            };
            match fs::read(self.path(id))
                .ok()
                .and_then(|bytes| self.unseal(id, bytes))
            {
                Some(record) => records.push(record),
                None => unreadable.push(name),
            }
        }
        records.sort_by_key(|record| record.created_at_ms);
        Ok((records, unreadable))
    }

    fn unseal(&self, id: &str, mut bytes: Vec<u8>) -> Option<Record> {
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(id.as_bytes()), sealed)
            .ok()?;
        let record: Record = serde_json::from_slice(plain).ok()?;
        (record.id == id).then_some(record)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.job"))
    }
}

/// Returns the key in a file, making one that only the server's user can read if there is none.
pub(crate) fn read_or_make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if !path.exists() {
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key).map_err(io::Error::other)?;
        // Written whole under another name, so that a crash leaves no half key.
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
    }
    let key = fs::read(path)?;
    key.try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the key is not of 32 bytes"))
}

const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::status::StreamKey;

    fn record(id: &str, created_at_ms: u64) -> Record {
        Record {
            id: id.into(),
            room: 3,
            slug: "room".into(),
            created_at_ms,
            next_number: 2,
            wish: Wish::default(),
            destinations: vec![RecordedDestination {
                number: 1,
                trusted: true,
                proved: true,
                requested: Destination::Rtmp {
                    platform: None,
                    url: "rtmp://host/app".into(),
                    key: StreamKey::from("hush-hush".to_owned()),
                },
            }],
            idempotency: None,
        }
    }

    #[test]
    fn records_come_back_and_the_files_tell_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&record("b", 2)).unwrap();
        store.save(&record("a", 1)).unwrap();
        store.save(&record("gone", 0)).unwrap();
        store.remove("gone").unwrap();
        store.remove("gone").unwrap();
        let file = folder.path().join("jobs/a.job");
        let bytes = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hush"));
        for path in [file, folder.path().join("key")] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let again = Store::open(folder.path()).unwrap();
        let (records, unreadable) = again.load().unwrap();
        assert_eq!(records, [record("a", 1), record("b", 2)]);
        assert!(unreadable.is_empty());
    }

    #[test]
    fn what_was_tampered_with_is_named_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&record("a", 1)).unwrap();
        let jobs = folder.path().join("jobs");
        fs::copy(jobs.join("a.job"), jobs.join("renamed.job")).unwrap();
        fs::write(jobs.join("short.job"), "x").unwrap();
        let (records, mut unreadable) = store.load().unwrap();
        unreadable.sort();
        assert_eq!(records.len(), 1);
        assert_eq!(unreadable, ["renamed.job", "short.job"]);
    }
}
