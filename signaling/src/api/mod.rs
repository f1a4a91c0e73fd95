//! The HTTP API: `/api/rooms`, and what belongs to a room: its look, its stage, its tokens.

pub(crate) mod body;
mod images;
mod participants;
mod rooms;
mod routes;
mod stage;
mod tokens;

pub(crate) use routes::routes;
