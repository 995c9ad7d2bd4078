//! The final report: where every event went, and what it cost.

use crate::class::ClassId;
use crate::event::{Failure, Rejection, ShardId};
#[cfg(feature = "latency")]
use crate::latency::ClassLatency;
use crate::ledger::{Counts, Ledger};
use crate::memory::footprint::Footprint;
use crate::memory::huge::HugePages;
use crate::memory::seal::Sealed;
use crate::shard::{Placement, Quarantine, ShardExit};
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// One class in the report.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ClassReport {
    /// The class.
    pub class: ClassId,
    /// Its name.
    pub name: String,
    /// Its ledger.
    pub counts: Counts,
    /// Its latencies, over all shards.
    #[cfg(feature = "latency")]
    pub latency: ClassLatency,
}

/// One shard in the report.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Where it ran.
    pub placement: Placement,
    /// Whether a host drives it ([`crate::Plan::host_driven`]). The stop does not wait for such a shard.
    pub hosted: bool,
    /// Whether it has ended, and what it left is in this report: it stopped in time, or its host has
    /// [added](Report::add) it. Otherwise it is still in its handler, and keeps its memory, or it is still its host's; its
    /// output, quarantine, allocations and last latencies are missing.
    pub stopped: bool,
    /// Its ledger.
    pub counts: Counts,
    /// Panics of its handler.
    pub quarantine: Option<Quarantine>,
    /// Allocations on its thread between its start and its stop; `None` where nobody counts them.
    pub allocations: Option<u64>,
    /// What its thread did with the heap from [`crate::Engine::seal`] to its stop; `None` where it was not sealed.
    pub sealed: Option<Sealed>,
    /// What became of the wish for huge pages, as it was at the stop; `None` where the plan did not ask for them.
    pub huge_pages: Option<HugePages>,
    /// Requests that its scratch arena refused.
    pub scratch_refused: u64,
    /// How often it slept.
    pub parks: u64,
    /// Lost wake-ups: how often the shard, or a producer of one of its lanes, slept for 100 ms, then had something to do, and
    /// was not woken for it in 100 ms more. More than 0 is a fault of Pelton, or a thread that the system kept from running
    /// for that long.
    pub rescues: u64,
    /// Wakers of waiting tasks that panicked when they were woken. Such a task may never hear of its room.
    #[cfg(feature = "async")]
    pub waker_panics: u64,
}

/// What [`crate::Engine::stop`] gives.
pub struct Report {
    /// Every lane's counts; see [`Ledger::is_closed`].
    pub ledger: Ledger,
    /// By class.
    pub classes: Vec<ClassReport>,
    /// By shard.
    pub shards: Vec<ShardReport>,
    /// Whether everything that was accepted left its lane before the deadline, and every handler held nothing back after
    /// that ([`on_drain`](crate::Handler::on_drain)). What a handler emits from `on_idle` or `on_batch_end` while the
    /// engine stops may be refused as `closed`.
    pub drained: bool,
    /// From start to stop.
    pub elapsed: Duration,
    /// The memory that was planned.
    pub footprint: Footprint,
    pub(super) outputs: Vec<Option<Box<dyn Any + Send>>>,
}

impl Report {
    /// Adds what a shard left that a host drove: its output, quarantine, allocations, and the latencies that it measured
    /// last. The shards of an engine's own threads are in the report already.
    ///
    /// See [`Plan::host_driven`](crate::Plan::host_driven) for an example.
    ///
    /// # Panics
    /// If the shard is not one of this engine's, or is in the report already.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # plan.class(Class::strict("only"));
    /// let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// let shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// let mut report = engine.stop(Duration::ZERO)?;
    /// assert!(!report.shards[0].stopped);
    /// report.add(shard.finish());
    /// assert!(report.shards[0].stopped && report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add<T: Send + 'static>(&mut self, end: ShardExit<T>) {
        self.take_in(end.boxed());
    }

    /// Adds what a shard left.
    pub(super) fn take_in(&mut self, end: ShardExit<Box<dyn Any + Send>>) {
        let (at, shards) = (end.shard.index(), self.shards.len());
        assert!(at < shards, "{} is not one of this engine's {shards}", end.shard);
        let row = &mut self.shards[at];
        assert!(!row.stopped, "{} is in the report already", end.shard);
        row.stopped = true;
        row.quarantine = Some(end.quarantine);
        row.allocations = end.allocations;
        row.sealed = end.sealed;
        row.scratch_refused = end.scratch_refused;
        #[cfg(feature = "latency")]
        self.classes.iter_mut().zip(&end.latency).for_each(|(class, more)| class.latency.add(more));
        self.outputs[at] = end.output;
    }

    /// Takes the output of one shard's handler. `None` if it was taken, is of another type, or there is none.
    ///
    /// ```
    /// # use pelton::{Class, Context, Event, Handler, Plan, Profile, ShardId, Verdict};
    /// # use std::time::Duration;
    /// struct Count(u64);
    /// impl Handler<u64> for Count {
    ///     type Output = u64;
    ///     fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
    ///         self.0 += 1;
    ///         Verdict::Done
    ///     }
    ///     fn on_stop(self, _: &mut Context<'_, u64>) -> u64 {
    ///         self.0
    ///     }
    /// }
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// let engine = plan.start(|| 0u64, |_| Count(0))?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// let mut report = engine.stop(Duration::from_secs(10))?;
    /// assert_eq!(report.output::<String>(ShardId(0)), None);      // of another type: it stays
    /// assert_eq!(report.output::<u64>(ShardId(0)), Some(1));
    /// assert_eq!(report.outputs::<u64>(), []);                    // it has been taken
    /// assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn output<T: 'static>(&mut self, shard: ShardId) -> Option<T> {
        let output = self.outputs.get_mut(shard.index())?;
        match output.take()?.downcast() {
            Ok(output) => Some(*output),
            Err(other) => {
                *output = Some(other);
                None
            }
        }
    }

    /// Takes the outputs of all shards that have one of this type, in their order.
    pub fn outputs<T: 'static>(&mut self) -> Vec<T> {
        (0..self.outputs.len()).filter_map(|shard| self.output(ShardId(shard as u16))).collect()
    }

    /// Allocations on all shards' threads; `None` where nobody counts them.
    ///
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// let report = engine.stop(Duration::from_secs(1))?;
    /// match report.allocations() {
    ///     Some(allocations) => println!("{allocations} allocations on the shards' threads"),
    ///     None => println!("not counted: pelton::memory::audit::Counting is not the global allocator"),
    /// }
    /// assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocations(&self) -> Option<u64> {
        self.shards.iter().map(|shard| shard.allocations).sum()
    }

    /// Lost wake-ups over all shards; see [`ShardReport::rescues`].
    ///
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// # engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// let report = engine.stop(Duration::from_secs(1))?;
    /// if report.rescues() > 0 {
    ///     eprintln!("{} wake-ups were lost", report.rescues());
    /// }
    /// # assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rescues(&self) -> u64 {
        self.shards.iter().map(|shard| shard.rescues).sum()
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("drained", &self.drained)
            .field("elapsed", &self.elapsed)
            .field("classes", &self.classes.iter().map(|c| (&c.name, c.counts)).collect::<Vec<_>>())
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// The ledger as a table, then what is worth a second look.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, c: &Counts| {
            writeln!(
                f,
                "{name:<16} {:>13} {:>13} {:>11} {:>13} {:>9} {:>9} {:>9}",
                c.offered,
                c.accepted,
                c.rejected_total(),
                c.handled,
                c.expired,
                c.failed_total(),
                c.in_flight
            )
        };
        writeln!(
            f,
            "{:<16} {:>13} {:>13} {:>11} {:>13} {:>9} {:>9} {:>9}",
            "class", "offered", "accepted", "rejected", "handled", "expired", "failed", "in flight"
        )?;
        for class in &self.classes {
            row(f, &class.name, &class.counts)?;
        }
        let total = self.ledger.total();
        row(f, "total", &total)?;
        for reason in Rejection::ALL.into_iter().filter(|reason| total.rejected_for(*reason) > 0) {
            writeln!(f, "rejected ({}): {}", reason.name(), total.rejected_for(reason))?;
        }
        for reason in Failure::ALL.into_iter().filter(|reason| total.failed_for(*reason) > 0) {
            writeln!(f, "failed ({}): {}", reason.name(), total.failed_for(reason))?;
        }
        let closed = if self.ledger.is_closed() { "closed" } else { "NOT CLOSED" };
        write!(f, "ledger {closed}")?;
        if !self.drained {
            write!(f, "; not drained within the deadline")?;
        }
        #[cfg(feature = "async")]
        for shard in self.shards.iter().filter(|shard| shard.waker_panics > 0) {
            write!(f, "; {} wakers panicked on {}", shard.waker_panics, shard.placement.shard)?;
        }
        for shard in self.shards.iter().filter(|shard| !shard.stopped && !shard.hosted) {
            write!(f, "; {} did not stop in time", shard.placement.shard)?;
        }
        for shard in &self.shards {
            if let Some(refused) = shard.huge_pages.as_ref().and_then(|huge| huge.refused.as_ref()) {
                write!(f, "\n{}: no huge pages: {refused}", shard.placement.shard)?;
            }
            if let Some(sealed) = shard.sealed.as_ref().filter(|sealed| sealed.allocations > 0) {
                write!(f, "\n{}, sealed: {sealed}", shard.placement.shard)?;
            }
        }
        Ok(())
    }
}
