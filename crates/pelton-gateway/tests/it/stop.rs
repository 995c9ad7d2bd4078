//! Stops: in time whatever shards and clients do, with replies written and every event accounted for.

use crate::support::{small, viewed};
use pelton::{Class, Context, Event};
use pelton_gateway::{End, Record, Server, ServerReport};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use pelton_views::View;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Clients that publish until their connection ends: what each was told.
fn publish_until_the_end(site: &mut Site, is_drained: bool, stop: impl FnOnce(&mut Server) -> ServerReport) {
    const CLIENTS: usize = 6;
    let clients: Vec<_> = (0..CLIENTS).map(|_| site.client()).collect();
    let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(at, mut client)| {
            let running = running.clone();
            std::thread::spawn(move || {
                let (mut tally, mut n) = (Tally::default(), 0);
                loop {
                    if !client.try_send(&xadds("s", &at.to_string(), n, 64)) {
                        break;
                    }
                    n += 64;
                    for _ in 0..64 {
                        let Some(reply) = client.next() else { return tally };
                        client.note("s", &reply, &mut tally);
                    }
                    if n == 640 {
                        running.fetch_add(1, Ordering::Relaxed);
                    }
                }
                while let Some(reply) = client.next() {
                    client.note("s", &reply, &mut tally);
                }
                tally
            })
        })
        .collect();
    while running.load(Ordering::Relaxed) < CLIENTS {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut report = stop(&mut site.server);
    assert_closed(&report.engine);
    let mut told = BTreeSet::new();
    for thread in threads {
        told.extend(thread.join().unwrap().of("s").ids);
    }
    let seen: BTreeSet<_> =
        report.engine.outputs::<Seen>().into_iter().flatten().map(|(_, id, _, _)| id).collect();
    let total = report.engine.ledger.total();
    assert_eq!(total.accepted, report.gateway.streams[0].accepted);
    assert_eq!(seen.len() as u64, total.handled);
    // What is not handled in a hurry was accepted all the same.
    let unseen = told.difference(&seen).count() as u64;
    assert!(unseen <= total.in_flight, "{unseen} ids were given to clients and not accepted: {total:?}");
    assert!(told.len() as u64 <= total.accepted);
    is_drained.then(|| assert!(report.engine.drained && total.in_flight == 0, "{total:?}"));
    assert_eq!(report.gateway.connections(), 0);
}

#[test]
fn every_id_returned_before_a_stop_was_accepted() {
    let _dog = watchdog();
    for threads in [1, 2] {
        let mut site = Site::open(options(2, threads, [class("s", 256)]));
        publish_until_the_end(&mut site, true, |server| server.stop(DEADLINE).unwrap());
    }
}

#[test]
fn forced_stop_accounts_for_everything() {
    let _dog = watchdog();
    let mut site = Site::open(options(2, 2, [class("s", 256)]));
    publish_until_the_end(&mut site, false, |server| {
        server.force_stop().now();
        server.stop(DEADLINE).unwrap()
    });
}

#[test]
fn stop_flushes_replies_to_a_slow_reader() {
    let _dog = watchdog();
    let mut site = Site::open(options(1, 1, [class("s", 1_024)]));
    let mut client = Client::narrow(&site.address);
    let echo = "x".repeat(64 << 10);
    client.send(&request(&["ECHO", &echo]).repeat(16));
    site.until("all is answered", |counts| counts.commands == 16);
    let reader = std::thread::spawn(move || {
        let replies = client.rest();
        replies.iter().filter(|reply| reply.text().len() == 64 << 10).count()
    });
    let report = site.server.stop(DEADLINE).unwrap();
    assert!(report.engine.ledger.is_closed());
    assert_eq!(reader.join().unwrap(), 16);
    assert_eq!(report.gateway.ended(End::Stopped), 1);
}

#[test]
fn stop_is_bounded_whatever_shards_and_clients_do() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let _dog = watchdog();
    let mut options = viewed(1, [View::count("all").over("s")]);
    options.plan.class(class("unused", 64));
    let mut site = Site::closed(options);
    // One reads nothing, one waits for room, some ask for a view: nobody lets the server go.
    let mut deaf = Client::narrow(&site.address);
    deaf.send(&request(&["ECHO", &"x".repeat(32 << 10)]).repeat(20));
    let mut blocked = site.client();
    blocked.send(&xadds("s", "a", 0, 1_000));
    site.until("it waits", |counts| counts.waits == 1);
    let mut asking: Vec<_> = (0..4).map(|_| site.client()).collect();
    asking.iter_mut().for_each(|client| client.send(&request(&["PELTON.VIEW", "all"])));
    site.until("all is said", |counts| counts.commands == 20 + 256 + 4);
    let begun = Instant::now();
    let report = site.server.stop(DEADLINE).unwrap();
    let took = begun.elapsed();
    site.door.open();
    assert_closed(&report.engine);
    assert!(!report.engine.drained);
    assert_eq!(report.engine.ledger.total().in_flight, 256);
    let most = DEADLINE + pelton::engine::STOP_GRACE + Duration::from_secs(1);
    assert!(took < most, "{took:?}, and at most {most:?}");
}

#[test]
fn force_stop_ends_a_stop_that_waits_for_a_shard() {
    let _dog = watchdog();
    let mut site = Site::closed(options(1, 1, [class("s", 64)]));
    let mut client = site.client();
    client.send(&xadds("s", "a", 0, 10));
    let mut tally = Tally::default();
    client.take("s", 10, &mut tally);
    let hurry = site.server.force_stop();
    let begun = Instant::now();
    let stopping = std::thread::spawn(move || {
        let report = site.server.stop(Duration::from_secs(50)).unwrap();
        (site, report)
    });
    assert_eq!(client.next(), None);
    hurry.now();
    let (site, report) = stopping.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    site.door.open();
    assert_closed(&report.engine);
    assert_eq!((report.engine.ledger.total().in_flight, report.gateway.streams[0].accepted), (10, 10));
}

#[test]
fn stop_waits_for_shards_until_its_deadline() {
    struct Slow(u64);
    impl pelton::Handler<Record> for Slow {
        type Output = u64;
        fn on_event(&mut self, _: &mut Event<'_, Record>, _: &mut Context<'_, Record>) -> pelton::Verdict {
            self.0 += 1;
            pelton::Verdict::Done
        }
        fn on_stop(self, _: &mut Context<'_, Record>) -> u64 {
            std::thread::sleep(2 * pelton::engine::STOP_GRACE);
            self.0
        }
    }
    let _dog = watchdog();
    let mut server = Server::start_with(small(Class::block), |_| Slow(0)).unwrap();
    let mut client = Client::new(&server.addresses()[0].address);
    client.send(&xadd("small", "a", 1));
    id(&client.read().text());
    let mut report = server.stop(DEADLINE).unwrap();
    assert_closed(&report.engine);
    assert_eq!(report.engine.outputs::<u64>(), [1]);
}
