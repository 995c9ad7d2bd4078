//! A value that comes back because it was not accepted.
#![forbid(unsafe_code)]

use super::claim::LaneClaim;
use super::spec::Refusal;
use crate::event::Outcome;

/// A value that was not accepted, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned<E> {
    /// Why.
    pub refusal: Refusal,
    /// The value, untouched.
    pub value: E,
}

impl<E> Returned<E> {
    /// Publishes the value in the slot that was claimed for it.
    #[inline(always)]
    pub(crate) fn unless_sent(
        claimed: Result<LaneClaim<'_, E>, Refusal>,
        value: E,
    ) -> Result<Outcome, Returned<E>> {
        match claimed {
            Ok(claim) => claim
                .send(value)
                .map(|()| Outcome::Accepted)
                .map_err(|(refusal, value)| Returned { refusal, value }),
            Err(refusal) => refusal.or_dropped().map_err(|refusal| Returned { refusal, value }),
        }
    }
}

impl<E> std::fmt::Display for Returned<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.refusal.fmt(f)
    }
}

impl<E: std::fmt::Debug> std::error::Error for Returned<E> {}
