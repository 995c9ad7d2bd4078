//! What a connection that does nothing costs the server in resident memory: as it comes, and after one request.

use crate::args::Args;
use crate::failure::{Failure, failed};
use crate::link::Server;
use crate::wire;
use serde_json::json;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Memory is read until it has stood still for so long, but no longer than `--seconds`.
const STILL: Duration = Duration::from_millis(500);

pub fn run(args: &mut Args) -> Result<bool, Failure> {
    let server = Server::of(args);
    let connections: usize = args.number("connections", 1..=60_000)?.unwrap_or(1000);
    let seconds = Duration::from_secs(args.number("seconds", 1..=3600)?.unwrap_or(5));
    let pid: u32 = args
        .number("pid", 1..=u32::MAX)?
        .ok_or_else(|| Failure::Usage("idle needs --pid, the server's process".to_owned()))?;
    let stream = args.text("stream").unwrap_or_else(|| "mystream".to_owned());
    let payload_bytes = args.number("payload", 1..=1 << 20)?.unwrap_or(40);
    let frame = wire::xadd(&stream, payload_bytes, args.number("seed", 0..=u64::MAX)?.unwrap_or(1));
    args.all_known()?;

    let memory = |what: &str| settled(pid, seconds).map_err(failed(format!("{what}: /proc/{pid}/status")));
    // The server's code for a request is resident before anything is compared, and so is its first connection.
    let mut first = server.connect()?;
    first.ask(&frame).map_err(failed("the first request"))?;
    let before = memory("at first")?;
    let mut links = Vec::with_capacity(connections);
    for _ in 0..connections {
        links.push(server.connect()?);
    }
    // Its answer says that all those before it have been accepted.
    server.connect()?.ask(&frame).map_err(failed("the last request"))?;
    let opened = memory("with connections")?;
    let mut refused = 0;
    for link in &mut links {
        let said = link.ask(&frame).map_err(failed("a request"))?;
        refused += u64::from(!said.starts_with('$'));
    }
    let used = memory("after requests")?;
    let each = |now: u64| (now as f64 - before as f64) / connections as f64;
    if args.json {
        let told = json!({
            "mode": "idle", "address": server.address, "connections": connections, "payload_bytes": payload_bytes,
            "resident_bytes": { "before": before, "opened": opened, "used": used },
            "bytes_per_connection": { "opened": each(opened), "used": each(used) }, "refused": refused,
        });
        println!("{told}");
    } else {
        println!(
            "{connections} connections: {before} bytes resident before, {opened} with them, {used} after a request each"
        );
        println!("bytes per connection: {:.0} opened, {:.0} after a request", each(opened), each(used));
    }
    Ok(refused == 0)
}

/// The process's resident bytes, once they stand still.
fn settled(pid: u32, most: Duration) -> io::Result<u64> {
    let begun = Instant::now();
    let mut last = (resident(pid)?, begun);
    while last.1.elapsed() < STILL && begun.elapsed() < most {
        thread::sleep(Duration::from_millis(50));
        let now = resident(pid)?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(last.0)
}

fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS"))
}
