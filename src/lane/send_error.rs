//! A value that comes back because it was not accepted.

use super::claim::LaneClaim;
use super::spec::PublishError;
use crate::event::Outcome;

/// A value that was not published, and why.
///
/// ```
/// use pelton::{Class, Plan, Profile, handler};
/// use std::time::Duration;
///
/// let mut plan = Plan::new(Profile::Dev);
/// let class = plan.class(Class::strict("only"));
/// let engine = plan.start(String::new, |_| handler(|_, _| ()))?;
/// let mut tx = engine.attach()?;
/// engine.close();
/// let refused = tx.send(class, 7, "kept".to_string()).unwrap_err();
/// assert!(refused.error.is_closed());
/// assert_eq!(refused.value, "kept");
/// # engine.stop(Duration::from_secs(1))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendError<E> {
    /// Why.
    pub error: PublishError,
    /// The value, untouched.
    pub value: E,
}

impl<E> SendError<E> {
    /// Publishes the value in the slot that was claimed for it.
    #[inline(always)]
    pub(crate) fn unless_sent(
        claimed: Result<LaneClaim<'_, E>, PublishError>,
        value: E,
    ) -> Result<Outcome, SendError<E>> {
        match claimed {
            Ok(claim) => claim
                .send(value)
                .map(|()| Outcome::Accepted)
                .map_err(|(error, value)| SendError { error, value }),
            Err(error) => error.or_dropped().map_err(|error| SendError { error, value }),
        }
    }
}

impl<E> std::fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: std::fmt::Debug> std::error::Error for SendError<E> {}
