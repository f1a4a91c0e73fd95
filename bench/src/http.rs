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
        // Of who answered: the server may have sent us on to another one (RFC 9725 §4.5).
        let base = response.url();
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| base.join(location.to_str().ok()?).ok());
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[tokio::test]
    async fn sessions_are_ended_where_the_offer_was_answered() {
        let (base, server) = serve([
            "307 Temporary Redirect\r\nLocation: /near/whep",
            "201 Created\r\nLocation: session/7",
            "200 OK",
        ]);
        let http = Http::new(None).unwrap();
        let session = http
            .post(&base.join("whep").unwrap(), "offer".to_owned())
            .await
            .unwrap();
        http.end(&session).await.unwrap();
        let asked = server.join().unwrap();
        assert_eq!(
            asked,
            [
                "POST /whep offer",
                "POST /near/whep offer",
                "DELETE /near/session/7 "
            ]
        );
    }

    #[tokio::test]
    async fn refused_farewells_are_told() {
        let (base, server) = serve(["201 Created\r\nLocation: /whep", "405 Method Not Allowed"]);
        let http = Http::new(None).unwrap();
        let session = http.post(&base, String::new()).await.unwrap();
        assert!(http.end(&session).await.is_err());
        server.join().unwrap();
    }

    /// Gives these answers in turn. Returns the address, and in the end what was asked.
    fn serve<const N: usize>(answers: [&'static str; N]) -> (Url, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let answer = |answer: &str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let lines = reader.by_ref().lines().map(Result::unwrap);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let len = head
                    .iter()
                    .find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
                reader.read_exact(&mut body).unwrap();
                let end = "Content-Length: 0\r\nConnection: close";
                write!(stream, "HTTP/1.1 {answer}\r\n{end}\r\n\r\n").unwrap();
                let asked = head[0].trim_end_matches("HTTP/1.1");
                format!("{asked}{}", String::from_utf8(body).unwrap())
            };
            answers.into_iter().map(answer).collect()
        });
        (Url::parse(&base).unwrap(), server)
    }
}
