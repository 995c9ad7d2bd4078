//! Tests of the gateway: one binary, a module for each subject.

mod commands;
mod config;
mod faults;
mod resp;
mod server;
mod settings;
#[cfg(feature = "tls")]
mod tls;
mod unauthenticated;
mod views;

#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    pelton::memory::audit::Counting::new(std::alloc::System);
