//! A real S3 server, which keeps objects as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    s3_error,
    service::S3ServiceBuilder,
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

pub(crate) const KEY_ID: &str = "fanlight-key-id";
pub(crate) const SECRET: &str = "fanlight-secret-key";

/// Runs until dropped.
pub(crate) struct S3Server {
    pub(crate) port: u16,
    root: TempDir,
    _tasks: JoinSet<()>,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        builder.set_access(Buckets(root.path().to_owned()));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                connections.spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self {
            port,
            root,
            _tasks: tasks,
        }
    }

    pub(crate) fn make_bucket(&self) {
        fs::create_dir(self.root.path().join("talks")).unwrap();
    }

    /// Returns the objects in the bucket, and the parts of those that are not complete.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        files(&self.root.path().join("talks"))
    }

    /// Returns how many parts of incomplete objects there are.
    pub(crate) fn parts(&self) -> usize {
        let all = files(self.root.path()).into_iter();
        let is_part = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.contains(".part-")
        };
        all.filter(is_part).count()
    }
}

/// Refuses what belongs into a bucket that is missing; the files' server itself would make one for an object.
struct Buckets(PathBuf);

#[async_trait::async_trait]
impl S3Access for Buckets {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let credentials = context.credentials();
        credentials.ok_or_else(|| s3_error!(AccessDenied))?;
        match context.s3_path().get_bucket_name() {
            Some(bucket) if !self.0.join(bucket).is_dir() => Err(s3_error!(NoSuchBucket)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Writes a file of keys as `~/.aws/credentials` is one.
pub(crate) fn write_keys(path: &Path, secret: &str) {
    let text =
        format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {secret}\n");
    fs::write(path, text).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
