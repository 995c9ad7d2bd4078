//! Channels, and who has subscribed to which.
#![forbid(unsafe_code)]

/// What can be subscribed to: streams first, then views, in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChannelId(pub u16);

impl ChannelId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One subscription of one connection.
#[derive(Debug)]
pub(super) struct Subscription {
    /// As the client wrote it: a channel's name or a pattern.
    pub name: Box<[u8]>,
    pub is_pattern: bool,
    /// What it matches, and how many messages of each are lost and not told yet.
    pub channels: Vec<(ChannelId, u64)>,
}

/// All subscriptions of a connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub all: Vec<Subscription>,
}
