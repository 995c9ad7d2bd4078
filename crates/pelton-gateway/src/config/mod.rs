//! Settings: options, their table, checks, memory, files.

pub(crate) mod footprint;
pub(crate) mod lint;
pub(crate) mod load;
pub(crate) mod options;
pub(crate) mod settings;
pub(crate) mod stream;
pub(crate) mod validate;
