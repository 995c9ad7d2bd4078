//! Tests of the engine through its public face: one binary, a module for each subject. Subjects that need an allocator,
//! or a process, of their own have their own binaries beside it.

#[cfg(feature = "async")]
mod async_producer;
mod classes;
#[cfg(feature = "config")]
mod config;
mod engine;
mod failure;
mod hugepages;
mod lane;
mod lifecycle;
mod mesh;
mod model;
mod producers;
mod ring;
mod settings;
mod shards;
mod stop;
mod wrap;

#[cfg(feature = "audit")]
#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    pelton::memory::audit::Counting::new(std::alloc::System);
