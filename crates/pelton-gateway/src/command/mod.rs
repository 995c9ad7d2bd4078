//! The commands: a table, what they run in, and one file for each group.

pub(crate) mod client_list;
pub(crate) mod context;
pub(crate) mod info;
pub(crate) mod multi;
pub(crate) mod pubsub;
pub(crate) mod session;
pub(crate) mod table;
pub(crate) mod view;
pub(crate) mod xadd;
