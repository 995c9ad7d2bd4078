//! Tests of the measurements and of the load generator.

mod bench;
mod configured;
mod gateway_load;
