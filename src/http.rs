//! Joins every crate's routes and serves them.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowMethods, Any, CorsLayer},
    trace::{DefaultOnFailure, TraceLayer},
};
use tracing::Level;

use crate::{operations, operations::Operations, pages, tls::Certificate};

/// Returns the routes of the whole server.
pub(crate) fn routes(operations: Operations) -> Router {
    let signaling = operations.signaling.clone();
    let egress_api = operations
        .egress
        .api_routes()
        .route_layer(middleware::from_fn_with_state(
            signaling.clone(),
            authorize_egress,
        ))
        // Tokens, not cookies: any page may ask, with the headers it needs.
        .layer(
            CorsLayer::new()
                .allow_origin(Any)
                .allow_methods(AllowMethods::mirror_request())
                .allow_headers(AllowHeaders::mirror_request()),
        );
    let thumbnails = operations
        .egress
        .thumbnail_routes()
        .route_layer(middleware::from_fn_with_state(signaling.clone(), find_room))
        .layer(CorsLayer::new().allow_origin(Any));
    Router::new()
        .merge(signaling.routes())
        .merge(egress_api)
        .merge(thumbnails)
        .merge(operations.egress.hls_routes())
        .merge(operations.egress.recording_routes())
        .merge(operations::routes(operations))
        .fallback(pages::serve)
        .layer(CatchPanicLayer::new())
        // Whoever answers with a failure has logged its cause; being full or stopping is none.
        .layer(TraceLayer::new_for_http().on_failure(DefaultOnFailure::new().level(Level::DEBUG)))
}

/// Lets a request for a room's outputs pass when its token grants `egress` there.
async fn authorize_egress(
    State(signaling): State<signaling::Service>,
    Path(path): Path<HashMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Response {
    let slug = path.get("room").map(String::as_str).unwrap_or_default();
    match signaling
        .authorize(request.headers(), slug, signaling::Grant::Egress)
        .await
    {
        Ok(room) => {
            let trusted = signaling.authorize_owner(request.headers()).is_ok();
            let until_unix_s = signaling.expiry(request.headers());
            request.extensions_mut().insert(egress::Caller {
                trusted,
                until_unix_s,
            });
            request.extensions_mut().insert(egress::Room {
                id: room.id,
                slug: room.slug,
            });
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Tells a public route of a room which room it is, if there is one.
async fn find_room(
    State(signaling): State<signaling::Service>,
    Path(path): Path<HashMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Response {
    let slug = path.get("room").map(String::as_str).unwrap_or_default();
    if let Some(room) = signaling.find_room(slug).await {
        request.extensions_mut().insert(egress::Room {
            id: room.id,
            slug: room.slug,
        });
    }
    next.run(request).await
}

/// A bound listener, so that the address is known before anything runs.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: std::net::TcpListener,
    certificate: Option<Certificate>,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// When it is taken or not allowed; says what to do.
    pub(crate) fn bind(
        address: SocketAddr,
        certificate: Option<Certificate>,
    ) -> anyhow::Result<Self> {
        let socket = std::net::TcpListener::bind(address).with_context(|| {
            format!("listen on {address} (is another server running? choose with --http ADDR:PORT)")
        })?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            certificate,
        })
    }

    /// Returns the address it listens on.
    ///
    /// # Errors
    /// Never for a bound socket.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Returns `https` or `http`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.certificate.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// Serves until cancelled, then gives open requests `drain` to finish.
    ///
    /// # Errors
    /// When accepting connections fails for good.
    pub(crate) async fn serve(
        self,
        routes: Router,
        drain: Duration,
        cancel: CancellationToken,
    ) -> anyhow::Result<()> {
        let handle = axum_server::Handle::new();
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        let stopper = async {
            cancel.cancelled().await;
            handle.graceful_shutdown(Some(drain));
            std::future::pending::<()>().await;
        };
        let tls = self.certificate.as_ref().map(Certificate::served);
        let renewal = async {
            if let Some(certificate) = self.certificate {
                certificate.follow().await;
            }
            std::future::pending::<()>().await;
        };
        let served = async {
            match tls {
                Some(tls) => {
                    axum_server::from_tcp_rustls(self.socket, tls)?
                        .handle(handle.clone())
                        .serve(service)
                        .await
                }
                None => {
                    axum_server::from_tcp(self.socket)?
                        .handle(handle.clone())
                        .serve(service)
                        .await
                }
            }
        };
        tokio::select! {
            served = served => served.context("serve HTTP"),
            () = stopper => unreachable!("waits for ever"),
            () = renewal => unreachable!("goes on for ever"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_is_documented() {
        let docs = [
            include_str!("../docs/api.md"),
            include_str!("../docs/composition.md"),
            include_str!("../docs/outputs.md"),
        ]
        .concat();
        let types = [
            include_str!("../web/sdk/src/generated/egress.ts"),
            include_str!("../web/sdk/src/generated/protocol.ts"),
        ]
        .concat();
        let declared = types.lines().filter_map(|line| {
            let (name, codes) = line.strip_prefix("export type ")?.split_once(" = ")?;
            name.ends_with("Code").then_some(codes)
        });
        let codes: Vec<&str> = declared
            .flat_map(|codes| codes.split('"').skip(1).step_by(2))
            .collect();
        assert!(codes.len() > 60, "{codes:?}");
        for code in codes {
            assert!(docs.contains(&format!("`{code}`")), "{code} is in no page");
        }
    }
}
