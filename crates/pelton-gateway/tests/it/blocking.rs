//! Classes that block: a connection whose lane is full waits for room, in order and within the limit of its class, and
//! delays no other connection.

use crate::support::{error_of, small};
use pelton::Class;
use pelton::event::Rejection;
use pelton_gateway::{End, Options};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use std::time::Duration;

/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(150);

#[test]
fn blocked_connection_waits_while_others_are_served() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::block));
    let mut tally = Tally::default();
    let mut blocked = site.client();
    let mut pipeline = xadds("small", "a", 0, 10);
    pipeline.extend(request(&["ECHO", "behind"]));
    blocked.send(&pipeline);
    blocked.take("small", 4, &mut tally);
    site.until("it waits", |counts| counts.waits == 1);
    assert_eq!(blocked.within(MOMENT), None);
    // What it says meanwhile waits as well.
    blocked.send(&xadd("small", "a", 10));
    let mut other = site.client();
    for n in 0..100 {
        other.ping();
        other.send(&xadd("roomy", "b", n));
        other.take("roomy", 1, &mut tally);
    }
    assert_eq!(blocked.within(MOMENT), None);
    assert_eq!(site.server.counts().streams[0].accepted, 4);
    site.door.open();
    blocked.take("small", 6, &mut tally);
    assert_eq!(blocked.read().text(), "behind");
    blocked.take("small", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.gateway.streams[0].accepted, 11);
    assert_eq!(report.gateway.ended(End::Stopped), 2);
    assert_eq!(report.gateway.connections(), 0);
}

#[test]
fn blocked_client_is_woken_when_room_appears() {
    // A thread that nobody wakes sleeps for half a second each time.
    const TIMES: u64 = 250;
    let _dog = watchdog();
    let site = Site::closed(options(1, 1, [class("small", 1)]));
    let mut tally = Tally::default();
    let mut client = site.client();
    for time in 1..=TIMES {
        client.send(&xadds("small", "a", 2 * time, 2));
        client.take("small", 1, &mut tally);
        site.until("it waits", |counts| counts.waits == time);
        site.door.open();
        client.take("small", 1, &mut tally);
        assert!(site.server.engine().drain(DEADLINE));
        site.door.close();
    }
    site.settle(&tally);
}

#[test]
fn blocked_connections_resume_in_fifo_order() {
    const WAITING: u64 = 20;
    let _dog = watchdog();
    // One slot and one key: there is one lane, and room for one after the other.
    let site = Site::closed(options(1, 1, [class("small", 1)]));
    let mut tally = Tally::default();
    let mut first = site.client();
    first.send(&xadd("small", "all", 0));
    first.take("small", 1, &mut tally);
    let mut waiting: Vec<_> = (1..=WAITING)
        .map(|n| {
            let mut client = site.client();
            client.send(&xadd("small", "all", n));
            site.until("it waits", |counts| counts.waits == n);
            client
        })
        .collect();
    site.door.open();
    let mut last = None;
    for client in &mut waiting {
        let reply = client.read();
        client.note("small", &reply, &mut tally);
        let id = id(&reply.text());
        assert!(last < Some(id), "{id} after {last:?}");
        last = Some(id);
    }
    site.settle(&tally);
}

#[test]
fn block_limit_returns_busy_when_it_is_over() {
    let _dog = watchdog();
    let (options, time) = by_hand(small(|class| class.block_for(Duration::from_millis(60))));
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let (mut client, mut other) = (site.client(), site.client());
    let mut pipeline = xadds("small", "a", 0, 7);
    pipeline.extend(request(&["ECHO", "behind"]));
    client.send(&pipeline);
    client.take("small", 4, &mut tally);
    for n in 0..3 {
        site.until("it waits", |counts| counts.waits == n + 1);
        time.advance(Duration::from_millis(59));
        other.pass_a_round();
        assert_eq!(site.server.counts().streams[0].busy, n, "each waits for its own time");
        time.advance(Duration::from_millis(1));
        let reply = client.read();
        let text = error_of(&reply);
        assert_eq!(text, "BUSY class 'small' depth 4 of 4 at shard 0: timed_out");
        client.note("small", &reply, &mut tally);
    }
    assert_eq!(client.read().text(), "behind");
    site.door.open();
    client.send(&xadd("small", "a", 7));
    client.take("small", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.engine.ledger.total().rejected_for(Rejection::TimedOut), 3);
    assert_eq!((report.gateway.streams[0].busy, report.gateway.streams[0].accepted), (3, 5));
}

#[test]
fn blocked_client_that_half_closes_is_still_answered() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::block));
    let mut tally = Tally::default();
    let mut client = site.client();
    client.send(&xadds("small", "a", 0, 9));
    client.end();
    client.take("small", 4, &mut tally);
    site.until("it waits", |counts| counts.waits == 1);
    assert_eq!(client.within(MOMENT), None);
    site.door.open();
    client.take("small", 5, &mut tally);
    assert_eq!(client.next(), None);
    site.until("it has left", |counts| counts.ended(End::Client) == 1);
    site.settle(&tally);
}

#[test]
fn blocked_client_that_vanishes_publishes_nothing_more() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::block));
    let mut tally = Tally::default();
    let mut first = site.client();
    first.send(&xadds("small", "a", 0, 4));
    first.take("small", 4, &mut tally);
    let mut gone = std::net::TcpStream::connect(&site.address).unwrap();
    std::io::Write::write_all(&mut gone, &xadds("small", "b", 0, 3)).unwrap();
    site.until("it waits", |counts| counts.waits == 1);
    reset(gone);
    site.until("it is let go", |counts| counts.ended(End::Broken) == 1);
    site.door.open();
    first.send(&xadd("small", "a", 4));
    first.take("small", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.gateway.streams[0].accepted, 5);
}

#[test]
fn half_closed_blocked_client_does_not_wait_forever() {
    let _dog = watchdog();
    let mut options = small(Class::block);
    options.stall = Duration::from_secs(1);
    let (options, time) = by_hand(options);
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let (mut gone, mut other) = (site.client(), site.client());
    gone.send(&xadds("small", "a", 0, 10));
    gone.take("small", 4, &mut tally);
    site.until("it waits", |counts| counts.waits == 1);
    gone.end();
    time.advance(Duration::from_secs(1));
    other.pass_a_round();
    assert_eq!(site.server.counts().ended(End::Stalled), 0);
    // Its shard takes nothing, and will not before it is gone.
    let second = (&time, Duration::from_secs(1));
    site.until_later(second, "it is ended", |counts| counts.ended(End::Stalled) == 1);
    site.door.open();
    let report = site.settle(&tally);
    assert_eq!(report.gateway.streams[0].accepted, 4);
}

#[test]
fn transaction_waits_for_room_and_may_exceed_a_read() {
    let _dog = watchdog();
    let site = Site::closed(Options { read_budget_bytes: 4_096, ..small(Class::block) });
    let mut tally = Tally::default();
    let mut client = site.client();
    let adds: Vec<_> = (0..300).flat_map(|n| xadd("small", "a", n)).collect();
    client.send(&[request(&["MULTI"]), adds, request(&["EXEC"]), request(&["ECHO", "behind"])].concat());
    for n in 0..=300 {
        assert_eq!(client.read().text(), if n == 0 { "OK" } else { "QUEUED" });
    }
    site.until("it waits", |counts| counts.waits == 1);
    assert_eq!(site.server.counts().streams[0].accepted, 4);
    site.door.open();
    let answers = client.read();
    assert_eq!(answers.items().len(), 300);
    answers.items().iter().for_each(|reply| client.note("small", reply, &mut tally));
    assert_eq!(client.read().text(), "behind");
    // One that is larger than a frame may be is given up while it is said.
    let frame = site.server.counts().streams[0].accepted;
    let large = request(&["ECHO", &"x".repeat(60_000)]);
    client.send(&request(&["MULTI"]));
    assert_eq!(client.read().text(), "OK");
    let mut said = 0;
    loop {
        client.send(&large);
        let reply = client.read();
        if let Reply::Error(text) = reply {
            assert!(text.starts_with("ERR a transaction of more than frame_max_bytes"), "{text}");
            break;
        }
        said += large.len();
        assert!(said < 64 << 20, "it never ends");
    }
    assert!(client.ask(&["EXEC"]).is_error("EXECABORT "));
    assert_eq!(site.server.counts().streams[0].accepted, frame);
    site.settle(&tally);
}
