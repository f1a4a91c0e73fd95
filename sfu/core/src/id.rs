//! Newtypes for everything that is counted or addressed, so that two of them cannot be swapped.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// Identifies a room. Assigned by signaling.
    RoomId(u64)
);
id!(
    /// Identifies a participant within one server. Assigned by signaling.
    ParticipantId(u64)
);
id!(
    /// Identifies one peer (a participant's WebRTC transport). Assigned by the SFU and never reused.
    PeerId(u64)
);
id!(
    /// Identifies a publication. Assigned by the SFU and never reused.
    PublicationId(u64)
);
id!(
    /// Identifies a subscription. Assigned by the SFU and never reused.
    SubscriptionId(u64)
);
id!(
    /// Identifies a tap. Assigned by the SFU and never reused.
    TapId(u64)
);
id!(
    /// Synchronisation source of an RTP stream (RFC 3550 §5.1).
    Ssrc(u32)
);
id!(
    /// RTP payload type, 7 bits (RFC 3550 §5.1).
    Pt(u8)
);

/// Identifies an m-line within an SDP (RFC 5888, RFC 9143).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mid(pub String);
