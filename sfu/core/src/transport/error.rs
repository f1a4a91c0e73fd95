//! Why a packet was dropped.

use thiserror::Error;

/// Why a packet could not be used. Counted by [`PacketError::reason`] and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Not parseable.
    #[error("malformed packet")]
    Malformed,
    /// The authentication failed, or the packet was seen before.
    #[error("packet failed authentication or was replayed")]
    Unauthentic,
    /// It came before the keys were known.
    #[error("packet came before the keys")]
    NoKeys,
    /// A limit against floods was reached.
    #[error("peer exceeded a limit")]
    OverBudget,
}

impl PacketError {
    /// Returns a stable word for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthentic => "unauthentic",
            Self::NoKeys => "no_keys",
            Self::OverBudget => "over_budget",
        }
    }
}
