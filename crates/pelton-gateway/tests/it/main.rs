//! Tests of the gateway: one binary, a module for each subject.

mod blocking;
mod commands;
mod config;
mod faults;
mod messages;
mod publishing;
mod resp;
mod settings;
mod stop;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod unauthenticated;
mod view_requests;
mod views;
mod windows;

#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    pelton::memory::audit::Counting::new(std::alloc::System);
