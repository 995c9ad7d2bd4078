//! The commands: one a file, each with what it does and what it prints.

pub mod check;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod generate;
pub mod init;
pub mod replay;
pub mod run;
pub mod up;
