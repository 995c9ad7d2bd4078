//! What the program prints: pages for people, JSON for programs, problems with their places, and files.

pub mod exit;
pub mod files;
pub mod format;
pub(crate) mod json;
pub(crate) mod masked;
pub mod page;
pub(crate) mod problems;
pub(crate) mod progress;
pub(crate) mod text;
