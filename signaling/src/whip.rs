//! `/whip/{room}`: publishing by WHIP (RFC 9725), for OBS, GStreamer and others without our pages.

use axum::Router;
use sfu::Role;

use crate::{Service, http_session};

pub(crate) fn routes() -> Router<Service> {
    http_session::routes("/whip", Role::Publisher)
}
