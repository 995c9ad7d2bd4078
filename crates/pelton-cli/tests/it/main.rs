//! Tests of the program: one binary, a module for each command or subject.

mod clients;
mod commands;
mod config;
mod configured;
mod doctor;
mod documents;
mod front;
mod gateways;
mod plans;
mod replay;
mod run;
mod sealed;
mod settings;
mod support;
mod up;

#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    pelton::memory::audit::Counting::new(std::alloc::System);
