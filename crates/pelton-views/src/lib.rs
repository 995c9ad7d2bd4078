//! Views: counts, rates, sums, extremes, means, quantiles, tops, distinct values and last values of events, by key or of
//! all, over windows or since start.
//!
//! # Mechanism
//! A [`View`] declares what is measured. Each shard keeps a [`Tally`] of it and gives every event to [`Tally::observe`];
//! nothing else writes to it, so there is nothing to synchronise. A reader makes a tally of its own and sends it from shard
//! to shard ([`pelton::Engine::ask`]), where [`Tally::add`] takes in what that shard has, or [`Tally::add_part`] a part of
//! it, so that the shard's events do not wait. Then the reader calls [`Tally::read`].
//!
//! ```text
//! View ─▶ Tally on each shard ◀─observe─ events       Fields: how a view looks into an event
//!           │ add, at an ask
//!           └▶ Tally of the reader ─read─▶ Reading: the rows of one window
//! ```
//!
//! The room knows events by their [`Fields`] alone, and nothing of where they come from: it serves any [`pelton::Handler`].
//!
//! # Example
//! ```
//! use pelton_views::{Answer, Tally, View, Which};
//! use std::time::Duration;
//!
//! let view = View::count("requests").by("status").tumbling(Duration::from_secs(10));
//! let mut tally = Tally::new(&view);
//! tally.observe(&[(&b"status"[..], &b"200"[..]), (b"path", b"/")], 12_000);
//! tally.observe(&[(&b"status"[..], &b"404"[..])], 13_000);
//! tally.observe(&[(&b"status"[..], &b"200"[..])], 19_999);
//! let window = tally.read(Which::Closed, None, None, 20_000)?;
//! assert_eq!((window.start_ms, window.end_ms, window.is_open), (10_000, 20_000, false));
//! assert_eq!(window.lines[0].key.as_deref(), Some(&b"200"[..]));
//! assert_eq!(window.lines[0].answer, Answer::Count(2));
//! # Ok::<(), pelton_views::ReadError>(())
//! ```
//!
//! # What is exact
//! | measure | the answer |
//! |---|---|
//! | count, rate, sum, min, max, mean | exact in numbers of nine places ([`Decimal`]); rate and mean are rounded in the ninth |
//! | quantiles | of values that are rounded to `places`, halves up, from 0 to `value_max`: never too low, too high by less than 10^-digits |
//! | top | exact while there is room for all values; else too low by `rest` at most |
//! | distinct | standard error 1.04 / √registers: 1.6 % with 4,096 |
//! | last | exact, to the millisecond: of several at the same one, the one that a shard saw last |
//!
//! Keys are exact while there is room for all of them; else `past` says how many events a row may lack.
//!
//! A closed window changes no more on a shard that has seen its end. What is read of several shards may still grow: by what a
//! shard has yet to handle, as an event of arrival time is measured at the time that it was given, and by what a shard whose
//! events lag behind has not counted as late. A reading of a closed window is final when all shards have handled what was
//! accepted before its end (and, in event time, before its lateness).
//!
//! # Limits
//! A view's memory is laid out at start, for all its keys and panes: [`Tally::bytes`].
//!
//! # What the choice of keys and values can do
//! Keys and values usually come from outside. They are hashed with a secret of the process ([`HashSecret`]): keys that are
//! chosen to collide take no longer than others, and values that are chosen for it do not raise a distinct count. A
//! publisher that can also read a distinct count after each of its values can select those that did not raise it, and so
//! keep it low.
//!
//! Estimates of distinct values depend on the secret, so they differ from process to process, within the stated error. All
//! other answers are the same in each. [`Tally::with_secret`] fixes it, for replays whose readings are compared.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod names;

mod decimal;
mod view;
mod table;
mod shape;
mod pane;
mod reading;
mod tally;
mod merge;

pub use decimal::{Decimal, Read};
pub use merge::Progress;
pub use names::HashSecret;
pub use pane::Counters;
pub use reading::{Answer, Line, QUANTILES, ReadError, Reading, Totals, Which};

pub use table::{ROOM_MAX, VIEW};

pub use tally::{Fields, Part, Tally};
pub use view::{Measure, PANES_MAX, PastKeys, RING_MAX, View};
