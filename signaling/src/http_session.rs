//! What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) have in common: a media session as an HTTP resource.

use std::{fmt::Write, sync::Arc};

use aws_lc_rs::digest;
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, patch, post},
};
use sfu::Role;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::{
    Problem, Service,
    api::body,
    auth::{Grant, bearer},
    clock::unix_seconds,
    directory::{Owner, Resource},
    protocol::{ErrorCode, IceServer},
    service::MediaOffer,
    token::random_word,
    turn::ice_servers,
};

/// Builds the routes of one of the two protocols. `path` is `/whip` or `/whep`.
pub(crate) fn routes(path: &'static str, role: Role) -> Router<Service> {
    let offer = move |State(service): State<Service>,
                      Path(slug): Path<String>,
                      request: Request| async move {
        create(&service, path, role, &slug, request).await
    };
    let change =
        move |State(service): State<Service>,
              Path(place): Path<(String, String)>,
              request: Request| async move { change(&service, role, &place, request).await };
    let end =
        move |State(service): State<Service>,
              Path(place): Path<(String, String)>,
              headers: HeaderMap| async move { delete(&service, role, &place, &headers).await };
    let collection: MethodRouter<Service> = post(offer);
    let resource: MethodRouter<Service> = patch(change).delete(end);
    // CORS answers OPTIONS by itself: what may be sent (RFC 9725 §4.2, RFC 5789 §3.1) is added outside of it.
    let describe = |header, value| {
        middleware::from_fn(move |request, next| {
            describe(HeaderName::clone(&header), value, request, next)
        })
    };
    let collection = Router::new()
        .route(
            &format!("{path}/{{room}}"),
            collection.fallback(wrong_method),
        )
        .layer(cors())
        .layer(describe(ACCEPT_POST, SDP));
    let resource = Router::new()
        .route(
            &format!("{path}/{{room}}/{{session}}"),
            resource.fallback(wrong_method),
        )
        .layer(cors())
        .layer(describe(ACCEPT_PATCH, SDP_FRAGMENT));
    collection.merge(resource)
}

async fn create(
    service: &Service,
    path: &'static str,
    role: Role,
    slug: &str,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let claims = service.claims(&parts.headers)?;
    let member = Arc::new(service.admit(claims.as_ref(), slug, None)?);
    member.allow(match role {
        Role::Publisher => Grant::Stage,
        Role::Viewer => Grant::Subscribe,
    })?;
    body::expect_type(&parts.headers, SDP)?;
    let offer = MediaOffer {
        role,
        sdp: read(service, body).await?,
        // Who plays by WHEP does not publish in the same place, even with the same token.
        own: true,
    };
    service.check_capacity()?;
    let room = service.room(slug, member.makes_rooms()).await?;

    let id = random_word("");
    let owner = Owner::Resource(id.clone());
    let answer = service
        .negotiate(room, Arc::clone(&member), owner, offer)
        .await?;
    let etag = format!("\"{}\"", answer.ice_ufrag);
    let resource = Resource {
        peer: answer.peer,
        room,
        role,
        etag: etag.clone(),
        identity: member.identity.clone(),
        token: bearer(&parts.headers)?.map(token_digest),
    };
    service.directory().add_resource(id.clone(), resource);
    metrics::counter!("fanlight_joins_total").increment(1);
    tracing::info!(room = %slug, identity = %member.identity, ?role, "joined over HTTP");

    let mut response = (StatusCode::CREATED, answer.sdp).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT));
    insert_text(headers, header::LOCATION, &format!("{path}/{slug}/{id}"));
    insert_text(headers, header::ETAG, &etag);
    if role == Role::Viewer {
        // It has nothing more to say for long, and a connection that rests takes 10 KB.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    for server in ice_servers(service.config(), &member.identity, unix_seconds()) {
        for link in links(&server) {
            insert_text(headers, header::LINK, &link);
        }
    }
    Ok(response)
}

/// Trickled candidates are accepted and not needed: the server learns addresses from checks (ICE-lite). With
/// `If-Match: *`, new credentials begin a new ICE session (RFC 9725 §4.3.3).
async fn change(
    service: &Service,
    role: Role,
    place: &(String, String),
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let resource = find(service, role, place, &parts.headers)?;
    body::expect_type(&parts.headers, SDP_FRAGMENT)?;
    let restarts = check_tag(&parts.headers, &resource.etag)?;
    let fragment = read(service, body).await?;
    let is_line = |line: &str| line.as_bytes().get(1) == Some(&b'=') || line.is_empty();
    if !fragment.lines().all(is_line) {
        return Err(Problem::new(
            ErrorCode::SdpInvalid,
            "The body is not an SDP fragment.",
        ));
    }
    if !restarts {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let Some(restart) = service.restart_ice(resource.peer, fragment).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let etag = format!("\"{}\"", restart.ufrag);
    service.directory().change_etag(&place.1, &etag);
    let mut response = restart.fragment.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP_FRAGMENT));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    insert_text(headers, header::ETAG, &etag);
    Ok(response)
}

/// Returns whether a request asks for a new ICE session, whatever the present one is.
fn check_tag(headers: &HeaderMap, etag: &str) -> Result<bool, Problem> {
    let Some(tags) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(
            ErrorCode::PreconditionRequired,
            "Send the session's entity tag in If-Match (RFC 9725, section 4.3.1).",
        ));
    };
    let tags = tags.to_str().unwrap_or_default();
    // With quotes too, as in the RFC's example.
    if tags.trim().trim_matches('"') == "*" {
        return Ok(true);
    }
    if tags.split(',').any(|tag| tag.trim() == etag) {
        return Ok(false);
    }
    Err(Problem::new(
        ErrorCode::IceSessionMismatch,
        "The entity tag is not that of this session's ICE session.",
    ))
}

async fn delete(
    service: &Service,
    role: Role,
    place: &(String, String),
    headers: &HeaderMap,
) -> Result<StatusCode, Problem> {
    let resource = find(service, role, place, headers)?;
    service.directory().remove_resource(&place.1);
    service.stop_peer(resource.peer).await;
    Ok(StatusCode::OK)
}

/// Returns the session, when the request may touch it: with the very token that made it, expired or not, or
/// with a valid one of the same identity or of an administrator.
fn find(
    service: &Service,
    role: Role,
    (slug, id): &(String, String),
    headers: &HeaderMap,
) -> Result<Resource, Problem> {
    let found = {
        let directory = service.directory();
        directory.resource(id).cloned().filter(|resource| {
            let room = directory.room(resource.room);
            resource.role == role && room.is_some_and(|room| room.slug() == slug)
        })
    };
    let unknown = || {
        Problem::new(
            ErrorCode::SessionUnknown,
            "There is no such session, or it has ended.",
        )
    };
    let resource = found.ok_or_else(unknown)?;
    let Some(expected) = &resource.token else {
        return Ok(resource);
    };
    if bearer(headers)?.is_some_and(|token| &token_digest(token) == expected) {
        return Ok(resource);
    }
    let Some(claims) = service.claims(headers)? else {
        return Err(Problem::new(
            ErrorCode::TokenMissing,
            "Send the token that this session was made with.",
        ));
    };
    let member = service.admit(Some(&claims), slug, None)?;
    if member.identity == resource.identity || member.grants.admin {
        return Ok(resource);
    }
    Err(Problem::new(
        ErrorCode::NotAllowed,
        "This session was made with another token.",
    ))
}

async fn read(service: &Service, body: Body) -> Result<String, Problem> {
    let bytes = body::read(body, service.config().max_body_bytes).await?;
    String::from_utf8(bytes)
        .map_err(|_| Problem::new(ErrorCode::SdpInvalid, "The body is not UTF-8 text."))
}

async fn wrong_method() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "Send an SDP offer with POST; change or end the session at its Location with PATCH or DELETE.",
    )
}

/// Says in answers to OPTIONS what may be sent.
async fn describe(
    header: HeaderName,
    value: &'static str,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if asked {
        response
            .headers_mut()
            .insert(header, HeaderValue::from_static(value));
    }
    response
}

/// Lets pages of any origin in: permission is in the token, never in the origin.
pub(crate) fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            header::LOCATION,
            header::ETAG,
            header::LINK,
            header::WWW_AUTHENTICATE,
            header::RETRY_AFTER,
            ACCEPT_PATCH,
        ])
        .max_age(std::time::Duration::from_secs(3600))
}

/// Writes ICE servers as `Link` values (RFC 9725 §4.6).
fn links(server: &IceServer) -> impl Iterator<Item = String> {
    server.urls.iter().map(|url| {
        let mut link = format!("<{url}>; rel=\"ice-server\"");
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            let _ = write!(
                link,
                "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
            );
        }
        link
    })
}

fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let value = HeaderValue::from_str(text).expect("made of checked parts: visible ASCII");
    headers.append(name, value);
}

fn token_digest(token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, token.as_bytes())
        .as_ref()
        .to_vec()
}

const SDP: &str = "application/sdp";
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
