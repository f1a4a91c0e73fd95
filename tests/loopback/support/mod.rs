//! What the tests are made of: the server, peers, media, an RTMP server, and how to wait.

pub(crate) mod channel;
pub(crate) mod hls_rules;
pub(crate) mod http;
pub(crate) mod output;
pub(crate) mod peer;
pub(crate) mod probe;
#[expect(dead_code, reason = "the tests of outputs use all of it")]
#[path = "../../../egress/tests/outputs/support/proxy.rs"]
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod relay;
pub(crate) mod rtmp;
#[path = "../../../egress/tests/outputs/support/s3_server.rs"]
pub(crate) mod s3_server;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod stream;
pub(crate) mod wait;
