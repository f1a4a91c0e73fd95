//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): sessions over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{
    Client, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION},
};
use url::Url;

/// An HTTP client with a token.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    token: Option<String>,
}

/// A session that the server has made.
#[derive(Debug)]
pub(crate) struct Session {
    /// The answer.
    pub(crate) sdp: String,
    /// Where it can be ended.
    location: Option<Url>,
}

impl Http {
    /// Creates a client.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(token: Option<String>) -> anyhow::Result<Self> {
        // Installed already by an earlier client.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder()
            .timeout(TIMEOUT)
            // Viewers are strangers to each other: each has a connection of its own, and leaves it soon.
            .pool_max_idle_per_host(0)
            .build()
            .context("set up HTTP")?;
        Ok(Self { client, token })
    }

    /// Posts an offer.
    ///
    /// # Errors
    /// When the server refuses, with its words.
    pub(crate) async fn post(&self, url: &Url, offer: String) -> anyhow::Result<Session> {
        let mut request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/sdp");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request
            .body(offer)
            .send()
            .await
            .with_context(|| format!("post to {url}"))?;
        let status = response.status();
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| url.join(location.to_str().ok()?).ok());
        let body = response.text().await.context("read the answer")?;
        if status != StatusCode::CREATED && status != StatusCode::OK {
            bail!("{url} answered {status}: {}", body.trim());
        }
        Ok(Session {
            sdp: body,
            location,
        })
    }

    /// Ends a session, if the server said where.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn end(&self, session: &Session) -> anyhow::Result<()> {
        let Some(location) = &session.location else {
            return Ok(());
        };
        let mut request = self.client.delete(location.clone());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.send().await.context("end the session")?;
        response.error_for_status().context("end the session")?;
        Ok(())
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
