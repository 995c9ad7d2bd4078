//! Channels, and what one connection has subscribed to.
//!
//! # Mechanism
//! A channel is a stream or a view: `stream:NAME` or `view:NAME`. All are declared, so a pattern becomes the list of the
//! channels that it matches when it is subscribed to, and no message is compared with a pattern. Each *pair* of a
//! subscription and a channel receives the messages of that channel. The pairs of a connection stand in one map, ordered by
//! channel and then by the time of the subscription: a message finds its pairs with one lookup, and what ends removes its
//! own pairs alone.
//!
//! # Bounds
//! A connection has at most [`SUBSCRIPTIONS_MAX`] subscriptions and [`PAIRS_MAX`] pairs. The second bounds what a message,
//! an unsubscription and the end of the connection cost, and the memory: some 50 bytes a pair, and the names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most channels and patterns that one connection subscribes to.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1_024;

/// The most pairs of a subscription and a channel that one connection has.
pub(crate) const PAIRS_MAX: usize = 4_096;

/// What can be subscribed to: streams first, then views, in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelId(pub u16);

impl ChannelId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A subscription as the client wrote it: the name of a channel, or a pattern.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub is_pattern: bool,
    pub text: Box<[u8]>,
}

/// A subscription and the channels that it stands for.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub name: Arc<Name>,
    pub channels: Box<[ChannelId]>,
}

/// A subscription as it receives the messages of one channel.
#[derive(Debug)]
pub(crate) struct Pair {
    pub name: Arc<Name>,
    /// Messages that were lost and not reported yet.
    pub lost: u64,
}

/// All subscriptions of a connection; see the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// Each with its number and its channels.
    by_name: BTreeMap<Arc<Name>, (u64, Box<[ChannelId]>)>,
    pairs: BTreeMap<(ChannelId, u64), Pair>,
    next: u64,
    /// A pair may have lost messages that were not reported.
    pub has_lost: bool,
    /// Messages that came while the array of an `EXEC` was being written.
    pub held: Vec<u8>,
}

impl Subscriptions {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds a subscription unless it is there; `begins` is called for each channel that no other one has. Returns whether it
    /// was added.
    pub fn add(&mut self, subscription: Subscription, mut begins: impl FnMut(ChannelId)) -> bool {
        let Subscription { name, channels } = subscription;
        if self.by_name.contains_key(&name) {
            return false;
        }
        for channel in &channels {
            if !self.hears(*channel) {
                begins(*channel);
            }
            self.pairs.insert((*channel, self.next), Pair { name: name.clone(), lost: 0 });
        }
        self.by_name.insert(name, (self.next, channels));
        self.next += 1;
        true
    }

    /// Removes a subscription if it is there; `ends` is called for each channel that no other one has. Returns whether it
    /// was there.
    pub fn remove(&mut self, name: &Name, mut ends: impl FnMut(ChannelId)) -> bool {
        let Some((number, channels)) = self.by_name.remove(name) else { return false };
        for channel in &channels {
            self.pairs.remove(&(*channel, number));
            if !self.hears(*channel) {
                ends(*channel);
            }
        }
        true
    }

    fn hears(&self, channel: ChannelId) -> bool {
        self.pairs.range(of(channel)).next().is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.by_name.keys()
    }

    /// The channels that any subscription has, each once.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> {
        let mut last = None;
        self.pairs
            .keys()
            .map(|(channel, _)| *channel)
            .filter(move |channel| last.replace(*channel) != Some(*channel))
    }

    /// The pairs of one channel, in the order of subscription.
    pub fn of(&mut self, channel: ChannelId) -> impl Iterator<Item = &mut Pair> {
        self.pairs.range_mut(of(channel)).map(|(_, pair)| pair)
    }

    /// All pairs, with their channels.
    pub fn each(&mut self) -> impl Iterator<Item = (ChannelId, &mut Pair)> {
        self.pairs.iter_mut().map(|((channel, _), pair)| (*channel, pair))
    }
}

/// The arguments of a `SUBSCRIBE` or `PSUBSCRIBE` that were looked up, before any of them is subscribed to.
#[derive(Debug, Default)]
pub(crate) struct PendingSubscriptions {
    /// One for each argument. Those that are there already have no channels.
    pub all: Vec<Subscription>,
    /// The names that are new.
    new: BTreeSet<Arc<Name>>,
    pairs: usize,
}

impl PendingSubscriptions {
    /// Whether a name is neither subscribed to nor chosen yet.
    pub fn is_new(&self, own: Option<&Subscriptions>, name: &Name) -> bool {
        !self.new.contains(name) && own.is_none_or(|own| !own.by_name.contains_key(name))
    }

    /// Chooses a name that is new, with its channels.
    ///
    /// # Errors
    /// The connection would have too many subscriptions or pairs.
    pub fn add(
        &mut self,
        own: Option<&Subscriptions>,
        name: Arc<Name>,
        channels: Vec<ChannelId>,
    ) -> Result<(), String> {
        self.pairs += channels.len();
        self.new.insert(name.clone());
        self.all.push(Subscription { name, channels: channels.into() });
        let (subscriptions, pairs) = own.map_or((0, 0), |own| (own.len(), own.pairs.len()));
        if subscriptions + self.new.len() > SUBSCRIPTIONS_MAX {
            return Err(format!("ERR a connection has at most {SUBSCRIPTIONS_MAX} subscriptions"));
        }
        if pairs + self.pairs > PAIRS_MAX {
            return Err(format!(
                "ERR a connection has at most {PAIRS_MAX} pairs of a subscription and a channel that it matches"
            ));
        }
        Ok(())
    }

    /// Chooses a name that is there already.
    pub fn add_again(&mut self, name: Arc<Name>) {
        self.all.push(Subscription { name, channels: [].into() });
    }
}

/// The places of a channel's pairs.
fn of(channel: ChannelId) -> std::ops::RangeInclusive<(ChannelId, u64)> {
    (channel, 0)..=(channel, u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, is_pattern: bool) -> Arc<Name> {
        Arc::new(Name { is_pattern, text: text.as_bytes().into() })
    }

    #[test]
    fn channel_begins_with_its_first_pair_and_ends_with_its_last() {
        let mut own = Subscriptions::default();
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for (text, is_pattern, channels) in
            [("a", false, &[0][..]), ("*", true, &[0, 1, 2]), ("a", true, &[0]), ("?", true, &[])]
        {
            let channels = channels.iter().map(|channel| ChannelId(*channel)).collect();
            let subscription = Subscription { name: name(text, is_pattern), channels };
            own.add(subscription, |channel| begun.push(channel.0));
        }
        assert_eq!((begun.as_slice(), own.len(), own.pairs.len()), (&[0, 1, 2][..], 4, 5));
        let heard: Vec<_> = own.of(ChannelId(0)).map(|pair| pair.name.text.clone()).collect();
        assert_eq!(heard, [Box::from(*b"a"), Box::from(*b"*"), Box::from(*b"a")]);
        for (text, is_pattern, left) in [("*", true, 2), ("a", false, 1), ("none", true, 1), ("a", true, 0)] {
            own.remove(&name(text, is_pattern), |channel| ended.push(channel.0));
            assert_eq!(own.pairs.len(), left);
        }
        assert_eq!((ended.as_slice(), own.len()), (&[1, 2, 0][..], 1));
    }
}
