//! The HTTP API: `/api/rooms`, and the tokens of a room.

pub(crate) mod body;
mod participants;
mod rooms;
mod routes;
mod stage;
mod tokens;

pub(crate) use routes::routes;
