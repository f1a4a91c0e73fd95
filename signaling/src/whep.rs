//! `/whep/{room}`: watching by WHEP (draft-ietf-wish-whep), for players without our pages.

use axum::Router;
use sfu::Role;

use crate::{Service, http_session};

pub(crate) fn routes() -> Router<Service> {
    http_session::routes("/whep", Role::Viewer)
}
