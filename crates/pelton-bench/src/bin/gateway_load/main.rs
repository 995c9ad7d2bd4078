//! Load for a server that speaks the Redis protocol, and a judge of what it answers: the gateway's, redis-server's, or
//! that of a server that answers a constant, which is here too.
//!
//! ```sh
//! cargo run --release -p pelton-bench --bin gateway_load -- many --address 127.0.0.1:6379 --connections 2000
//! ```
//!
//! Every mode ends by itself, reads every answer to what it has sent, and counts it: an id (and whether it is larger than
//! the one before on that connection), `-BUSY`, `-DROPPED`, another error, no answer. What is sent depends on the
//! arguments alone, the seed among them; the payloads of one run are all the same, as redis-benchmark's are.

mod args;
mod constant;
mod drive;
mod failure;
mod idle;
mod latency;
mod link;
mod wire;

use args::Args;
use failure::Failure;
use std::process::ExitCode;

/// What is printed without arguments, or with wrong ones.
const USAGE: &str = "\
usage: gateway_load MODE [--name value]…

modes
  pipeline   one connection, kept full: as many XADD as it takes
  many       connections that send --pipeline XADD each and wait for all answers, as redis-benchmark does; says how much
             the slowest connection got done beside the median
  flood      the same connections at a --rate, whatever the answers do (open loop); what the server does not take in
             time counts as held
  latency    one connection at a --rate; quantiles of the time from when a request was meant to go out to its answer
  idle       opens connections, and says what each costs the server's process --pid in resident memory
  constant   a server of one thread that answers every request with the same id; prints `listening tcp ADDRESS`

  --address ADDRESS   host:port, or a path of a Unix socket                              127.0.0.1:6379
  --password WORD     is sent first, by AUTH                                              none
  --stream NAME       the stream that is added to                                         mystream
  --payload BYTES     of the one field's value, 1 to 1048576                              40
  --seed N            of the payload's bytes                                              1
  --seconds N         for how long, 1 to 3600                                             5; constant: 120
  --requests N        stop after so many requests, if that is earlier                     none
  --connections N     1 to 60000                                                          many: 50; flood, idle: 1000
  --pipeline N        requests under way on a connection, at most, 1 to 1000000           many: 16; pipeline: 8192; flood: 64
  --rate N            requests a second, all connections together                         flood: 100000; latency: 1000
  --pid N             idle: the server's process                                          must be given
  --json              one object instead of text

exit codes: 0, every request was answered by an id, BUSY or DROPPED, in order; 1, not so; 2, wrong arguments";

fn main() -> ExitCode {
    let mut args = match Args::read(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(wrong) => return usage(&wrong),
    };
    let done = match args.mode.as_str() {
        "pipeline" | "many" | "flood" => drive::run(&mut args),
        "latency" => latency::run(&mut args),
        "idle" => idle::run(&mut args),
        "constant" => constant::run(&mut args),
        other => Err(Failure::Usage(format!("there is no mode '{other}'"))),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Usage(wrong)) => usage(&wrong),
        Err(Failure::Io(what, error)) => {
            eprintln!("gateway_load: {what}: {error}");
            ExitCode::from(1)
        }
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("gateway_load: {wrong}\n\n{USAGE}");
    ExitCode::from(2)
}
