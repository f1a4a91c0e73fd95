//! The storage that finished files go to, spoken to by the S3 protocol.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use object_store::{
    GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    multipart::{MultipartStore, PartId},
    path::Path as Key,
};

use super::entry::{Entry, Finished};
use crate::config::S3Config;

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    store: Arc<AmazonS3>,
    prefix: String,
}

/// An object, or a part of it.
pub(crate) struct Fetched<S> {
    pub(crate) range: std::ops::Range<u64>,
    pub(crate) size: u64,
    pub(crate) bytes: S,
}

impl Remote {
    /// Reads the settings; the keys may come from the environment or the machine's role. Connects to nothing.
    pub(crate) fn open(config: &S3Config) -> io::Result<Self> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_virtual_hosted_style_request(!config.path_style)
            // What is retried when is decided by the uploader.
            .with_retry(RetryConfig {
                max_retries: 1,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &config.endpoint {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain);
        }
        if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret.expose());
        }
        Ok(Self {
            store: Arc::new(builder.build().map_err(io::Error::other)?),
            prefix: config.prefix.clone(),
        })
    }

    /// Returns the name of a file in the bucket.
    pub(crate) fn key(&self, entry: &Entry, name: &str) -> Key {
        Key::from(format!("{}{}/{}/{name}", self.prefix, entry.slug, entry.id))
    }

    pub(crate) async fn begin(&self, key: &Key) -> object_store::Result<MultipartId> {
        self.store.create_multipart(key).await
    }

    pub(crate) async fn put_part(
        &self,
        key: &Key,
        upload: &MultipartId,
        number: usize,
        data: Vec<u8>,
    ) -> object_store::Result<String> {
        let part = self
            .store
            .put_part(key, upload, number, PutPayload::from(data));
        Ok(part.await?.content_id)
    }

    pub(crate) async fn complete(
        &self,
        key: &Key,
        upload: &MultipartId,
        parts: &[String],
    ) -> object_store::Result<()> {
        let parts = parts.iter().map(|id| PartId {
            content_id: id.clone(),
        });
        let completed = self
            .store
            .complete_multipart(key, upload, parts.collect());
        completed.await.map(drop)
    }

    pub(crate) async fn abort(&self, key: &Key, upload: &MultipartId) -> object_store::Result<()> {
        self.store.abort_multipart(key, upload).await
    }

    pub(crate) async fn put(&self, key: &Key, data: Vec<u8>) -> object_store::Result<()> {
        self.store.put(key, PutPayload::from(data)).await.map(drop)
    }

    /// Returns an object's size.
    pub(crate) async fn size(&self, key: &Key) -> object_store::Result<u64> {
        Ok(self.store.head(key).await?.size)
    }

    pub(crate) async fn delete(&self, key: &Key) -> object_store::Result<()> {
        match self.store.delete(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    pub(crate) async fn get(
        &self,
        entry: &Entry,
        file: &Finished,
        range: Option<GetRange>,
    ) -> object_store::Result<Fetched<impl Stream<Item = io::Result<Bytes>> + use<>>> {
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let key = self.key(entry, &file.name);
        let got = self.store.get_opts(&key, options).await?;
        Ok(Fetched {
            range: got.range.clone(),
            size: got.meta.size,
            bytes: got.into_stream().map_err(io::Error::other),
        })
    }
}
