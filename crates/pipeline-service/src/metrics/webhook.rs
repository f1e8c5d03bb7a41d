//! What becomes of webhooks.

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookResult {
    /// It is stored.
    Accepted,
    /// It came before.
    Duplicate,
    /// It is about no stream of the source.
    Ignored,
    /// It is not proved, too large, or too slow.
    Refused,
    /// The vendor has to send it again.
    Busy,
}

impl HookResult {
    pub(super) const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Ignored,
        Self::Refused,
        Self::Busy,
    ];

    /// The result as metrics have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Busy => "busy",
        }
    }
}
