//! HTTPS by rustls: from files, which may be renewed meanwhile, or with a certificate of the server's own making.

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::config::Tls;

/// A certificate with its key, as files have them.
#[derive(Debug)]
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    served: RustlsConfig,
    /// What the files had when they were last looked at.
    seen: Vec<u8>,
    /// What was served last.
    used: Vec<u8>,
}

impl Certificate {
    /// # Errors
    /// When a file is missing or not a PEM certificate or key, or they do not belong together.
    async fn load(cert: PathBuf, key: PathBuf) -> io::Result<Self> {
        let content = read(&cert, &key).await?;
        let served = RustlsConfig::from_pem_file(&cert, &key).await?;
        Ok(Self {
            cert,
            key,
            served,
            seen: content.clone(),
            used: content,
        })
    }

    /// Returns what to serve with; it changes as the files do.
    pub(crate) fn served(&self) -> RustlsConfig {
        self.served.clone()
    }

    /// Looks for a renewed certificate, again and again. Never returns.
    pub(crate) async fn follow(mut self) {
        let mut turns = interval(LOOK_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.look().await;
        }
    }

    /// Serves what the files have now. What cannot be used is not served, and told once.
    async fn look(&mut self) {
        // The two are not written at the same time: what was just changed is looked at again before it is used.
        let content = read(&self.cert, &self.key).await.unwrap_or_default();
        let settled = content == self.seen;
        self.seen.clone_from(&content);
        if !settled || content == self.used {
            return;
        }
        self.used = content;
        let (cert, key) = (self.cert.display(), self.key.display());
        match self
            .served
            .reload_from_pem_file(&self.cert, &self.key)
            .await
        {
            Ok(()) => info!(%cert, "renewed certificate is served"),
            Err(error) => warn!(
                %error, %cert, %key,
                "the changed certificate cannot be used; the one before is served on. Put a certificate chain and its \
                 key there, as PEM; they are looked at twice a minute"
            ),
        }
    }
}

/// Returns the certificate to serve HTTPS with, or `None` for plain HTTP.
///
/// `addresses` are put into a self-signed certificate, which is kept in `data_dir` so that a browser
/// asks for trust only once.
///
/// # Errors
/// When a file is missing or not a PEM certificate or key.
pub(crate) async fn load(
    tls: &Tls,
    data_dir: &Path,
    addresses: &[IpAddr],
) -> anyhow::Result<Option<Certificate>> {
    let (cert, key) = match tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert, key } => (cert.clone(), key.clone()),
        Tls::SelfSigned => self_signed(data_dir, addresses)?,
    };
    // Several crates bring rustls providers along; without a choice it panics. Err: already chosen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let files = (cert.display().to_string(), key.display().to_string());
    let certificate = Certificate::load(cert, key).await;
    let certificate = certificate
        .with_context(|| format!("read the certificate {} and its key {}", files.0, files.1))?;
    Ok(Some(certificate))
}

async fn read(cert: &Path, key: &Path) -> io::Result<Vec<u8>> {
    Ok([tokio::fs::read(cert).await?, tokio::fs::read(key).await?].concat())
}

fn self_signed(data_dir: &Path, addresses: &[IpAddr]) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (cert, key) = (
        data_dir.join("self-signed.crt"),
        data_dir.join("self-signed.key"),
    );
    let names: Vec<String> = std::iter::once("localhost".into())
        .chain(addresses.iter().map(IpAddr::to_string))
        .collect();
    let made_for = data_dir.join("self-signed.names");
    let names_line = names.join(" ");
    let current = fs::read_to_string(&made_for).is_ok_and(|kept| kept == names_line);
    if current && cert.is_file() && key.is_file() {
        return Ok((cert, key));
    }
    let made = rcgen::generate_simple_self_signed(names).context("make a certificate")?;
    fs::create_dir_all(data_dir)?;
    fs::write(&cert, made.cert.pem()).with_context(|| format!("write {}", cert.display()))?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options
        .open(&key)
        .with_context(|| format!("write {}", key.display()))?;
    file.write_all(made.signing_key.serialize_pem().as_bytes())?;
    fs::write(&made_for, names_line)?;
    Ok((cert, key))
}

/// A renewal is served after two looks at most.
const LOOK_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use axum::{Router, routing::get};
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        let first = write(&cert, &key);
        let files = Tls::Files {
            cert: cert.clone(),
            key: key.clone(),
        };
        let loaded = load(&files, folder.path(), &[]).await.unwrap();
        let mut certificate = loaded.unwrap();
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = axum_server::from_tcp_rustls(socket, certificate.served()).unwrap();
        let routes = Router::new().route("/", get(|| async {}));
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(routes.into_make_service()));
        assert_eq!(shown(port).await, first);

        let second = write(&cert, &key);
        certificate.look().await;
        assert_eq!(shown(port).await, first, "it may be only half written");
        certificate.look().await;
        assert_eq!(shown(port).await, second);

        // Of another key, no certificate at all, and gone.
        let other = folder.path().join("b.crt");
        write(&other, &folder.path().join("b.key"));
        fs::copy(&other, &cert).unwrap();
        for broken in [None, Some("none"), Some("")] {
            if let Some(text) = broken {
                fs::write(&cert, text).unwrap();
            }
            for _ in 0..3 {
                certificate.look().await;
                assert_eq!(shown(port).await, second, "{broken:?}");
            }
        }
        fs::remove_file(&cert).unwrap();
        for _ in 0..3 {
            certificate.look().await;
            assert_eq!(shown(port).await, second);
        }
        let third = write(&cert, &key);
        for _ in 0..2 {
            certificate.look().await;
        }
        assert_eq!(shown(port).await, third);
    }

    /// Puts a new certificate there, and returns it.
    fn write(cert: &Path, key: &Path) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(cert, made.cert.pem()).unwrap();
        fs::write(key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    /// Returns the certificate that a new connection is shown.
    async fn shown(port: u16) -> Vec<u8> {
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .tls_info(true)
            .build()
            .unwrap();
        let answer = client.get(format!("https://localhost:{port}/")).send();
        let answer = answer.await.unwrap();
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        info.peer_certificate().unwrap().to_vec()
    }
}
