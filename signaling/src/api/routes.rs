//! Joins the routes of the API.

use axum::{
    Router,
    routing::{delete, get, post, put},
};

use super::{images, participants, rooms, stage, tokens};
use crate::{Problem, Service, http_session, protocol::ErrorCode};

pub(crate) fn routes() -> Router<Service> {
    Router::new()
        .route(
            "/api/rooms",
            get(rooms::list).post(rooms::create).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}",
            get(rooms::get).patch(rooms::change).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/images/{kind}",
            get(images::get)
                .put(images::put)
                .delete(images::remove)
                .fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/invites",
            post(stage::invite).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/featured",
            put(stage::feature).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/participants",
            get(participants::list).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/participants/{identity}/stats",
            get(participants::stats).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/participants/{identity}",
            delete(stage::remove).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/tokens",
            post(tokens::create).fallback(wrong_method),
        )
        .layer(http_session::cors())
}

async fn wrong_method() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "This address does not take this method.",
    )
}
