//! HTTPS by rustls: from files, or with a certificate of the server's own making.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;

use crate::config::Tls;

/// Returns the TLS setup, or `None` for plain HTTP.
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
) -> anyhow::Result<Option<RustlsConfig>> {
    let (cert, key) = match tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert, key } => (cert.clone(), key.clone()),
        Tls::SelfSigned => self_signed(data_dir, addresses)?,
    };
    // Several crates bring rustls providers along; without a choice it panics. Err: already chosen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = RustlsConfig::from_pem_file(&cert, &key)
        .await
        .with_context(|| {
            format!(
                "read the certificate {} and its key {}",
                cert.display(),
                key.display()
            )
        })?;
    Ok(Some(config))
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
