//! What all transports of one SFU have in common.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use rtc_crypto::{RTCCrypto, RTCCryptoProvider, providers::AwsLcRsProvider};

use super::{dtls::DtlsConfig, sctp::SctpConfig};

/// What all transports of one SFU share: the DTLS certificate, the crypto provider, the candidates.
pub struct Shared {
    provider: Arc<AwsLcRsProvider>,
    dtls: DtlsConfig,
    sctp: SctpConfig,
    candidates: Vec<SocketAddr>,
    tcp_candidates: Vec<SocketAddr>,
}

impl Shared {
    /// Generates a certificate. `advertise` become the host candidates of every answer, best first.
    pub fn new(advertise: &[SocketAddr]) -> Self {
        let provider = Arc::new(AwsLcRsProvider::default());
        Self {
            dtls: DtlsConfig::new(&provider),
            sctp: SctpConfig::new(),
            provider,
            candidates: advertise.to_vec(),
            tcp_candidates: Vec::new(),
        }
    }

    /// Adds candidates at which the server accepts TCP connections (RFC 6544), for peers without UDP.
    #[must_use]
    pub fn with_tcp(mut self, advertise: &[SocketAddr]) -> Self {
        self.tcp_candidates = advertise.to_vec();
        self
    }

    pub(super) fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }

    pub(super) fn dtls(&self) -> &DtlsConfig {
        &self.dtls
    }

    pub(super) fn sctp(&self) -> &SctpConfig {
        &self.sctp
    }

    pub(super) fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    pub(super) fn tcp_candidates(&self) -> &[SocketAddr] {
        &self.tcp_candidates
    }

    /// Returns the certificate's fingerprint as SDP writes it (RFC 8122 §5).
    pub(super) fn fingerprint(&self) -> String {
        let mut text = String::with_capacity(95);
        for (index, byte) in self.dtls.fingerprint().iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            let _ = write!(text, "{separator}{byte:02X}");
        }
        text
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}
