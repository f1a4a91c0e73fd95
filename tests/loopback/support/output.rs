//! An egress job by its API.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::{http, rtmp::RtmpServer, server::Server, wait};

/// A requested output of a room.
pub(crate) struct Output<'a> {
    server: &'a Server,
    token: String,
    path: String,
}

impl<'a> Output<'a> {
    /// Requests an output, and checks the answer.
    pub(crate) async fn start(
        server: &'a Server,
        room: &str,
        token: &str,
        destinations: &Value,
    ) -> Self {
        Self::start_as(server, room, token, json!({}), destinations).await
    }

    /// Requests an output with what `wish` says besides its destinations.
    pub(crate) async fn start_as(
        server: &'a Server,
        room: &str,
        token: &str,
        mut wish: Value,
        destinations: &Value,
    ) -> Self {
        wish["destinations"] = destinations.clone();
        let response = request(server, room, Some(token), &wish).await;
        let job = http::json(response, StatusCode::CREATED).await;
        assert_eq!(job["room"], room);
        let count = |v: &Value| v.as_array().map(Vec::len);
        assert_eq!(count(&job["destinations"]), count(destinations), "{job}");
        let path = format!("/api/rooms/{room}/egress/{}", job["id"].as_str().unwrap());
        Self {
            server,
            token: token.to_owned(),
            path,
        }
    }

    /// Returns one that was started before, perhaps at an earlier run of the server.
    pub(crate) fn known(server: &'a Server, token: &str, path: &str) -> Self {
        Self {
            server,
            token: token.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Returns its path, for [`Self::known`].
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// Returns its state.
    pub(crate) async fn job(&self) -> Value {
        let response = http::client()
            .get(self.server.url(&self.path))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        http::json(response, StatusCode::OK).await
    }

    /// Waits until `holds`, and returns the state that it held for.
    pub(crate) async fn job_where(
        &self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        wait::within(limit, what, async || {
            let job = self.job().await;
            if holds(&job) { Ok(job) } else { Err(job) }
        })
        .await
    }

    /// Waits until destination `at` is in a state, and returns the destination.
    pub(crate) async fn destination(&self, at: usize, state: &str) -> Value {
        let what = format!("destination {at} is {state}");
        let is = |job: &Value| job["destinations"][at]["state"] == state;
        self.job_where(wait::PATIENCE, &what, is).await["destinations"][at].clone()
    }

    /// Waits until destination `at` has got this many more frames, and returns the state.
    pub(crate) async fn moves(&self, at: usize, frames: u64) -> Value {
        let count = |job: &Value| job["destinations"][at]["frames"].as_u64().unwrap();
        let seen = count(&self.job().await);
        let goes_on = |job: &Value| count(job) > seen + frames;
        self.job_where(wait::PATIENCE, "frames go on", goes_on)
            .await
    }

    /// Ends it and returns its last state.
    pub(crate) async fn end(&self) -> Value {
        let response = http::client()
            .delete(self.server.url(&self.path))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        self.job_where(wait::PATIENCE, "the job has ended", |job| {
            job["state"] == "ended"
        })
        .await
    }
}

/// Posts a request for outputs.
pub(crate) async fn request(
    server: &Server,
    room: &str,
    token: Option<&str>,
    body: &Value,
) -> Response {
    let mut request = http::client()
        .post(server.url(&format!("/api/rooms/{room}/egress")))
        .json(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

/// Returns a destination at an RTMP server.
pub(crate) fn rtmp(server: &RtmpServer, key: &str) -> Value {
    json!({"type": "rtmp", "url": server.url(), "key": key})
}
