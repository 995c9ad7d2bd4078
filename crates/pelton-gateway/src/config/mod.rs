//! Settings: options, their table, checks, what they cost, files.

pub(crate) mod draft;
pub(crate) mod footprint;
pub(crate) mod lint;
pub(crate) mod load;
pub(crate) mod options;
pub(crate) mod settings;
pub(crate) mod stream;
pub(crate) mod validate;
