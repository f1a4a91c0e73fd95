//! The storage that finished files go to, spoken to by the S3 protocol.

use std::{fs, io, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::http::Method;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use object_store::{
    Certificate, ClientOptions, CredentialProvider, GetOptions, GetRange, MultipartId, ObjectStore,
    ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential},
    multipart::{MultipartStore, PartId},
    path::Path as Key,
    signer::Signer as _,
};

use super::entry::{Entry, Finished};
use crate::config::{Config, S3Config};

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// A request as a whole has a time limit.
    to: Arc<AmazonS3>,
    /// A download may take long, but not rest for long.
    from: Arc<AmazonS3>,
    prefix: String,
    /// Whether links lead to the storage itself.
    pub(crate) redirects: bool,
}

/// An object, or a part of it.
pub(crate) struct Fetched<S> {
    pub(crate) range: Range<u64>,
    pub(crate) size: u64,
    pub(crate) bytes: S,
}

impl Remote {
    /// Reads the settings. Connects to nothing.
    pub(crate) fn open(s3: &S3Config, config: &Config) -> io::Result<Self> {
        let mut options = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
        if let Some(file) = &config.tls_ca_file {
            let bundle = Certificate::from_pem_bundle(&fs::read(file)?);
            for certificate in bundle.map_err(io::Error::other)? {
                options = options.with_root_certificate(certificate);
            }
        }
        let limit = Duration::from_secs(s3.timeout_seconds);
        let to = options.clone().with_timeout(limit);
        let from = options.with_timeout_disabled().with_read_timeout(limit);
        let open = |options| Ok::<_, io::Error>(Arc::new(build(s3, options)?));
        Ok(Self {
            to: open(to)?,
            from: open(from)?,
            prefix: s3.prefix.clone(),
            redirects: s3.redirect_links,
        })
    }

    /// Returns the name of a file in the bucket.
    pub(super) fn key(&self, entry: &Entry, name: &str) -> Key {
        Key::from(format!("{}{}/{}/{name}", self.prefix, entry.slug, entry.id))
    }

    pub(super) async fn begin(&self, key: &Key) -> object_store::Result<MultipartId> {
        self.to.create_multipart(key).await
    }

    pub(super) async fn put_part(
        &self,
        key: &Key,
        upload: &MultipartId,
        number: usize,
        data: Vec<u8>,
    ) -> object_store::Result<String> {
        let part = self
            .to
            .put_part(key, upload, number, PutPayload::from(data));
        Ok(part.await?.content_id)
    }

    pub(super) async fn complete(
        &self,
        key: &Key,
        upload: &MultipartId,
        parts: &[String],
    ) -> object_store::Result<()> {
        let parts = parts.iter().map(|id| PartId {
            content_id: id.clone(),
        });
        let completed = self.to.complete_multipart(key, upload, parts.collect());
        completed.await.map(drop)
    }

    /// Forgets an upload. One that the storage does not know is forgotten.
    pub(super) async fn abort(&self, key: &Key, upload: &MultipartId) -> object_store::Result<()> {
        match self.to.abort_multipart(key, upload).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    pub(super) async fn put(&self, key: &Key, data: Vec<u8>) -> object_store::Result<()> {
        self.to.put(key, PutPayload::from(data)).await.map(drop)
    }

    /// Returns an object's size; `None` when there is none.
    pub(super) async fn size(&self, key: &Key) -> object_store::Result<Option<u64>> {
        match self.to.head(key).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete(&self, key: &Key) -> object_store::Result<()> {
        match self.to.delete(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Returns a link to a file that the storage itself answers.
    pub(super) async fn link(
        &self,
        entry: &Entry,
        file: &Finished,
        valid: Duration,
    ) -> object_store::Result<String> {
        let key = self.key(entry, &file.name);
        let url = self.from.signed_url(Method::GET, &key, valid).await?;
        Ok(url.into())
    }

    pub(super) async fn get(
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
        let got = self.from.get_opts(&key, options).await?;
        Ok(Fetched {
            range: got.range.clone(),
            size: got.meta.size,
            bytes: got.into_stream().map_err(io::Error::other),
        })
    }
}

fn build(s3: &S3Config, options: ClientOptions) -> io::Result<AmazonS3> {
    let mut options = options;
    let mut builder = AmazonS3Builder::from_env();
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
        options = options.with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(file) = &s3.credentials_file {
        builder = builder.with_credentials(Arc::new(KeyFile(file.clone())));
    }
    let built = builder
        .with_client_options(options)
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        // Servers of one's own seldom have a name for each bucket.
        .with_virtual_hosted_style_request(s3.endpoint.is_none())
        // What is retried when is decided by the uploader.
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        })
        .build();
    built.map_err(io::Error::other)
}

/// Keys in a file, which is read for each request: new ones are taken up at once.
#[derive(Debug)]
struct KeyFile(PathBuf);

#[async_trait]
impl CredentialProvider for KeyFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let text = tokio::fs::read_to_string(&self.0).await;
        let credential = text.and_then(|text| {
            let no_keys = || io::Error::other("the file has no keys");
            parse_keys(&text).ok_or_else(no_keys)
        });
        match credential {
            Ok(credential) => Ok(Arc::new(credential)),
            Err(error) => Err(object_store::Error::Unauthenticated {
                path: self.0.display().to_string(),
                source: error.into(),
            }),
        }
    }
}

/// Reads the first keys of a file such as `~/.aws/credentials`.
fn parse_keys(text: &str) -> Option<AwsCredential> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| key.trim() == name)?;
        Some(found.1.trim().to_owned()).filter(|value| !value.is_empty())
    };
    Some(AwsCredential {
        key_id: value("aws_access_key_id")?,
        secret_key: value("aws_secret_access_key")?,
        token: value("aws_session_token"),
    })
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_read() {
        let text = "[default]\naws_access_key_id = id\naws_secret_access_key=a=b\n";
        let keys = parse_keys(text).unwrap();
        assert_eq!(
            (keys.key_id.as_str(), keys.secret_key.as_str()),
            ("id", "a=b")
        );
        assert_eq!(keys.token, None);
        for text in [
            "",
            "aws_access_key_id = id",
            "aws_access_key_id =\naws_secret_access_key = b",
        ] {
            assert!(parse_keys(text).is_none(), "{text}");
        }
    }
}
