//! What goes out: taps on shards, subscriptions, messages, and answers of views.

pub(crate) mod encode;
pub(crate) mod event;
pub(crate) mod gather;
pub(crate) mod handler;
pub(crate) mod pattern;
pub(crate) mod subscribers;
pub(crate) mod subscriptions;
pub(crate) mod tap;
pub(crate) mod view_reader;
pub(crate) mod view_requests;
pub(crate) mod watermark;
