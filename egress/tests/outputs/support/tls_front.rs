//! TLS in front of a server, with a certificate of a private authority.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A certificate for 127.0.0.1 and the authority that signed it.
pub(crate) struct TlsFront {
    ca_file: PathBuf,
    config: Arc<ServerConfig>,
}

impl TlsFront {
    pub(crate) fn make(directory: &Path) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::CommonName, "A private authority");
        let ca_file = directory.join("ca.pem");
        std::fs::write(&ca_file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self {
            ca_file,
            config: Arc::new(config),
        }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.ca_file.clone()
    }

    /// Serves TLS in front of the local port `to`, until the process ends; returns its own port.
    pub(crate) fn serve(&self, to: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = self.config.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let tls = ServerConnection::new(config.clone()).unwrap();
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                thread::spawn(move || carry(tls, client, server));
            }
        });
        port
    }
}

fn carry(mut tls: ServerConnection, mut client: TcpStream, mut server: TcpStream) {
    client.set_nonblocking(true).unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(2)))
        .unwrap();
    let mut buffer = [0; 16 << 10];
    loop {
        match tls.read_tls(&mut client) {
            Ok(0) => return,
            Err(e) if e.kind() != ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
        if tls.process_new_packets().is_err() {
            let _ = tls.write_tls(&mut client);
            return;
        }
        while let Ok(length @ 1..) = tls.reader().read(&mut buffer) {
            server.write_all(&buffer[..length]).unwrap();
        }
        match server.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => tls.writer().write_all(&buffer[..length]).unwrap(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        while tls.wants_write() && tls.write_tls(&mut client).is_ok() {}
    }
}
