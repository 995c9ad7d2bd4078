//! What does a lane cost for payloads of 32 to 256 bytes, beside the same bytes through a bare shared ring?
//!
//! The bare ring: the producer copies payload after payload into shared memory and raises a flag every 64 KiB; there are no
//! slots, no lengths, no keys and no ledger, and the first event waits for the last of its block. Nothing that hands the
//! same bytes over can do with less. The lane publishes one by one, each payload with its slot.
//!
//! Both copy from the same source, into rings of as many bytes; both consumers look at every byte with the same code,
//! and check the order.
#![allow(unsafe_code, reason = "a bare ring to compare with")]

use crossbeam_utils::CachePadded;
use pelton::class::{Class, Stamp};
use pelton::lane::lane;
use pelton::park::Pacer;
use pelton::shard::pin;
use pelton_bench::answer::{Limit, Point, Table, Unit};
use pelton_bench::event::per_event_ns;
use pelton_bench::rounds::{Peer, alternate};
use pelton_bench::{bench_settings, machine};
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes between two flags of the bare ring.
const BLOCK: usize = 64 << 10;
/// Blocks of the bare ring.
const BLOCKS: usize = 4;
/// Bytes of both rings.
const RING: usize = BLOCK * BLOCKS;
const BYTES_MAX: usize = 256;

/// What ours may take of the bare ring's time, and what it should.
const LIMIT: f64 = 1.5;
const GOAL: f64 = 1.2;

/// What payloads are copied from: bytes of whatever.
fn source() -> [u8; BYTES_MAX] {
    std::array::from_fn(|at| (at * 7) as u8)
}

/// Writes a payload down: the bytes as they come, and the sequence in front of them. In this order: a sequence written
/// into the source would hold up the copy, which loads in wider words than were just stored.
#[inline(always)]
fn write(payload: &mut [u8], source: &[u8], i: u64) {
    payload.copy_from_slice(source);
    payload[..8].copy_from_slice(&i.to_ne_bytes());
}

/// The consumer of both: every byte, and the order.
#[derive(Default)]
struct Reader {
    next: u64,
    sum: u64,
    wrong: u64,
}

impl Reader {
    #[inline(always)]
    fn see(&mut self, payload: &[u8]) {
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        self.wrong += u64::from(word(&payload[..8]) != self.next);
        self.sum = payload.chunks_exact(8).fold(self.sum, |sum, bytes| sum.wrapping_add(word(bytes)));
        self.next += 1;
    }

    /// Every payload came, in order, and none was torn.
    fn finish(&self, events: u64, bytes: usize) {
        let mut reader = Reader::default();
        let mut payload = [0; BYTES_MAX];
        write(&mut payload[..bytes], &source()[..bytes], 0);
        reader.see(&payload[..bytes]);
        let sequences = (0..events).fold(0u64, u64::wrapping_add);
        let expected = reader.sum.wrapping_mul(events).wrapping_add(sequences);
        assert_eq!((self.next, self.wrong, self.sum), (events, 0, expected));
    }
}

/// Runs both sides, each on its CPU; nanoseconds an event.
fn between(
    cpus: [usize; 2],
    events: u64,
    bytes: usize,
    receive: impl FnOnce(&mut Reader) + Send + 'static,
    send: impl FnOnce(&[u8]),
) -> f64 {
    let ready = Arc::new(Barrier::new(2));
    let other = ready.clone();
    let consumer = thread::spawn(move || {
        pin(cpus[1]);
        let mut reader = Reader::default();
        other.wait();
        receive(&mut reader);
        (Instant::now(), reader)
    });
    pin(cpus[0]);
    let source = source();
    ready.wait();
    let start = Instant::now();
    send(&source[..bytes]);
    let (end, reader) = consumer.join().expect("the consumer panicked");
    reader.finish(events, bytes);
    per_event_ns(start, end, events)
}

fn pelton(cpus: [usize; 2], events: u64, bytes: usize) -> f64 {
    let class =
        Class::strict("only").with_capacity(1_024).with_payload_bytes(RING as u32).with_stamp(Stamp::Never);
    let (mut tx, mut rx) = lane(&class, || ()).expect("a lane");
    let receive = move |reader: &mut Reader| {
        let mut pace = Pacer::up_to(64);
        while reader.next < events {
            let found = rx.poll(64, |event| reader.see(event.payload()));
            pace.after(found);
        }
        assert!(rx.counts().is_closed());
    };
    between(cpus, events, bytes, receive, |source| {
        for i in 0..events {
            let mut claim = tx
                .claim(i)
                .with_payload(source.len())
                .acquire_timeout(Duration::MAX)
                .expect("the lane is open");
            write(claim.payload_mut(), source, i);
            claim.publish().unwrap();
        }
    })
}

/// Shared bytes, and how many blocks of them were written and read.
struct Bare {
    bytes: Box<[UnsafeCell<u8>]>,
    written: CachePadded<AtomicU64>,
    read: CachePadded<AtomicU64>,
}

// SAFETY: a block belongs to the writer until `written` counts it, to the reader from then on until `read` counts it.
unsafe impl Sync for Bare {}

impl Bare {
    fn new() -> Self {
        let bytes = (0..RING).map(|_| UnsafeCell::new(0)).collect();
        Bare { bytes, written: CachePadded::default(), read: CachePadded::default() }
    }

    /// The bytes from `at` on, of a payload that ends within its block.
    fn at(&self, at: usize, bytes: usize) -> *mut u8 {
        let from = at % RING;
        UnsafeCell::raw_get(self.bytes[from..from + bytes].as_ptr())
    }

    /// Waits until the writer has a block.
    fn wait_for_room(&self, block: u64) {
        // Acquire; pairs with `release`: the reader has read what will be overwritten.
        while block - self.read.load(Ordering::Acquire) >= BLOCKS as u64 {
            spin_loop();
        }
    }

    fn raise(&self, blocks: u64) {
        // Release; pairs with `wait_for`.
        self.written.store(blocks, Ordering::Release);
    }

    fn wait_for(&self, blocks: u64) {
        // Acquire; pairs with `raise`.
        while self.written.load(Ordering::Acquire) < blocks {
            spin_loop();
        }
    }

    fn release(&self, blocks: u64) {
        // Release; pairs with `wait_for_room`.
        self.read.store(blocks, Ordering::Release);
    }
}

fn bare(cpus: [usize; 2], events: u64, bytes: usize) -> f64 {
    let ring = Arc::new(Bare::new());
    let other = ring.clone();
    let each = (BLOCK / bytes) as u64;
    let receive = move |reader: &mut Reader| {
        for block in 0..events.div_ceil(each) {
            other.wait_for(block + 1);
            while reader.next < events.min((block + 1) * each) {
                let at = other.at(reader.next as usize * bytes, bytes);
                // SAFETY: the bytes lie within the ring, and `wait_for` gave the block to the reader.
                reader.see(unsafe { std::slice::from_raw_parts(at, bytes) });
            }
            other.release(block + 1);
        }
    };
    between(cpus, events, bytes, receive, |source| {
        for block in 0..events.div_ceil(each) {
            ring.wait_for_room(block);
            for i in block * each..events.min((block + 1) * each) {
                let at = ring.at(i as usize * bytes, bytes);
                // SAFETY: the bytes lie within the ring, and `wait_for_room` gave the block to the writer alone.
                write(unsafe { std::slice::from_raw_parts_mut(at, bytes) }, source, i);
            }
            ring.raise(block + 1);
        }
    })
}

fn main() {
    let settings = bench_settings();
    let events = settings.events.unwrap_or(2_000_000);
    let cpus = machine::choose();
    let [first, second, ..] = cpus[..] else { panic!("this bench needs two CPUs") };
    let cpus = [first, second];
    println!(
        "payload: {}, CPUs {cpus:?}; {} rounds after a warm-up, {events} events each",
        machine::model().unwrap_or_default(),
        settings.rounds
    );
    let mut points = Vec::new();
    for bytes in [32, 64, 128, 256] {
        let peers = vec![
            Peer::ours("pelton lane, one by one", move || pelton(cpus, events, bytes)),
            Peer::baseline("bare bytes, a flag every 64 KiB", move || bare(cpus, events, bytes)),
        ];
        let label = format!("{bytes} bytes");
        let runs = alternate(settings.rounds, &label, peers, &mut |_| ()).expect("every run ends well");
        let limit = Limit::ratio("lane / bare bytes", &runs[0], &runs[1], LIMIT, GOAL);
        points.push(Point::new(bytes as f64, label, &runs, [limit]));
    }
    let table = Table {
        what: "A payload from one thread to another".into(),
        unit: Unit::NsPerEvent,
        axis: Some("bytes of a payload".into()),
        points,
    };
    print!("{table}");
}
