//! What all clients of this process share: a certificate and the settings of the handshake.

use std::{fmt::Write, sync::Arc};

use anyhow::Context;
use aws_lc_rs::digest;
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc_dtls::{
    config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    extension::extension_use_srtp::SrtpProtectionProfile,
};

/// A certificate for everybody: making one for each client would cost more than its connection.
pub(crate) struct Identity {
    pub(super) provider: Arc<AwsLcRsProvider>,
    pub(super) config: Arc<HandshakeConfig>,
    /// As in `a=fingerprint`.
    pub(super) fingerprint: String,
}

impl Identity {
    /// Makes a certificate.
    ///
    /// # Errors
    /// When the libraries refuse.
    pub(crate) fn new() -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(AwsLcRsProvider::default());
        let certificate =
            Certificate::generate_self_signed(vec!["bench".to_owned()], provider.crypto())
                .context("make a certificate")?;
        let encoded = certificate
            .certificate
            .first()
            .context("encode the certificate")?;
        let mut fingerprint = String::new();
        for byte in digest::digest(&digest::SHA256, encoded).as_ref() {
            let separator = if fingerprint.is_empty() { "" } else { ":" };
            write!(fingerprint, "{separator}{byte:02X}")?;
        }
        let crypto: Arc<dyn RTCCryptoProvider> = provider.clone();
        // The order of Chromium: a server that does not look for itself ends up with HMAC-SHA1.
        let config = ConfigBuilder::default()
            .with_crypto_provider(crypto)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            ])
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .build(true, None)
            .context("settle the handshake")?;
        Ok(Arc::new(Self {
            provider,
            config: Arc::new(config),
            fingerprint,
        }))
    }
}
