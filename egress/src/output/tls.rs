//! TLS towards servers.

use std::{
    io,
    net::TcpStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::dial::left;

/// Shakes hands before `deadline`.
///
/// # Errors
/// A [`rustls::Error`] inside when the server's certificate is not trusted, or when it does not speak TLS.
pub(super) fn connect(
    stream: &mut TcpStream,
    host: &str,
    ca_file: Option<&Path>,
    deadline: Instant,
) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = config(ca_file)?;
    let mut tls = ClientConnection::new(config, name).map_err(invalid)?;
    while tls.is_handshaking() {
        let patience = Some(left(deadline)?);
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        tls.complete_io(stream)?;
    }
    Ok(tls)
}

/// Made once: reading the system's certificates takes some 20 ms.
fn config(ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    static MADE: Mutex<Option<Arc<ClientConfig>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) = &*made {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = ca_file {
        for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(invalid)?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(made.insert(Arc::new(config)).clone())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
