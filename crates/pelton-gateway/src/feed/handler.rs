//! What the shards do with an event: the service's own handler first, then views, then subscribers.
//!
//! # Mechanism
//! A publisher chooses how many fields an event has. So the views of a stream do not look for theirs one by one: one pass
//! over the payload finds the fields that any of them needs ([`FieldIndex`]), and ends when it has all. A field that stands
//! there twice is the first.

use crate::feed::event::Record;
use crate::feed::tap::ShardTaps;
use crate::feed::watermark::Watermarks;
use crate::resp::Bulks;
use crate::server::state::Shared;
use pelton::event::{ShardId, Verdict};
use pelton::shard::{Context, Event, Handler};
use pelton_views::{Part, Tally, Totals, View};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The fields of an event that the views of a stream need.
struct FieldIndex {
    /// Sorted, each once.
    names: Box<[Box<[u8]>]>,
    /// The lengths of the names, a bit for each, modulo 64.
    lengths: u64,
    /// By name: where the value begins and ends in the payload; [`ABSENT`] where there is none.
    found: Box<[(usize, usize)]>,
}

const ABSENT: (usize, usize) = (usize::MAX, usize::MAX);

impl FieldIndex {
    fn new<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        let names: BTreeSet<Box<[u8]>> = names.map(|name| name.as_bytes().into()).collect();
        let names: Box<[_]> = names.into_iter().collect();
        FieldIndex {
            lengths: names.iter().fold(0, |all, name| all | 1 << (name.len() % 64)),
            found: vec![ABSENT; names.len()].into(),
            names,
        }
    }

    /// Finds the fields of an event.
    #[inline]
    fn look(&mut self, payload: &[u8]) {
        self.found.fill(ABSENT);
        let mut left = self.found.len();
        let mut bulks = Bulks::new(payload);
        while left > 0
            && let (Some(name), Some(value)) = (bulks.next(), bulks.next())
        {
            if self.lengths & 1 << (name.len() % 64) == 0 {
                continue;
            }
            if let Ok(at) = self.names.binary_search_by(|own| (**own).cmp(name))
                && self.found[at] == ABSENT
            {
                // The end of the line lies between the value and what is not gone over yet.
                let end = payload.len() - bulks.rest().len() - b"\r\n".len();
                self.found[at] = (end - value.len(), end);
                left -= 1;
            }
        }
    }

    /// The value of the name at this place.
    #[inline]
    fn get<'a>(&self, at: usize, payload: &'a [u8]) -> Option<&'a [u8]> {
        let (begin, end) = self.found[at];
        payload.get(begin..end)
    }

    /// The place of a name; 0 of one that nothing needs.
    fn place(&self, name: Option<&String>) -> usize {
        let at = name.and_then(|name| self.names.binary_search_by(|own| (**own).cmp(name.as_bytes())).ok());
        at.unwrap_or(0)
    }
}

/// The views of a stream.
struct StreamViews {
    fields: FieldIndex,
    /// Of each view its place among all, and of its parts (key, value, time) the places in `fields`.
    views: Vec<(usize, [usize; 3])>,
}

impl StreamViews {
    fn new(stream: &str, views: &[View]) -> Self {
        let own = || views.iter().enumerate().filter(|(_, view)| view.stream == stream);
        let names = own().flat_map(|(_, view)| [&view.by, &view.field, &view.time]).flatten();
        let fields = FieldIndex::new(names);
        let places =
            |view: &View| [&view.by, &view.field, &view.time].map(|name| fields.place(name.as_ref()));
        let views = own().map(|(at, view)| (at, places(view))).collect();
        StreamViews { fields, views }
    }

    /// Gives an event to all of them.
    #[inline]
    fn observe(&mut self, tallies: &mut [Tally], payload: &[u8], now_ms: u64) {
        if !self.views.is_empty() {
            self.fields.look(payload);
        }
        for (view, [key, value, time]) in &self.views {
            let place = |part| match part {
                Part::Key => *key,
                Part::Value => *value,
                Part::Time => *time,
            };
            tallies[*view].observe_looked(|part, _| self.fields.get(place(part), payload), now_ms);
        }
    }
}

/// What the views of all shards that have ended were given, by their order of declaration.
#[derive(Clone)]
pub(crate) struct FinalTotals(Arc<Mutex<Vec<Totals>>>);

impl FinalTotals {
    pub fn new(views: usize) -> Self {
        FinalTotals(Arc::new(Mutex::new(vec![Totals::default(); views])))
    }

    fn add(&self, tallies: &[Tally]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().zip(tallies).for_each(|(all, tally)| all.add(&tally.totals()));
    }

    pub fn all(&self) -> Vec<Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The handler of a shard of a gateway's engine. `H` is the service's own.
pub(crate) struct GatewayHandler<H> {
    own: H,
    /// By stream.
    views: Vec<StreamViews>,
    tallies: Vec<Tally>,
    taps: ShardTaps,
    shard: ShardId,
    watermarks: Arc<Watermarks>,
    final_totals: FinalTotals,
}

impl<H> GatewayHandler<H> {
    pub fn new(
        own: H,
        shared: &Shared,
        taps: ShardTaps,
        shard: ShardId,
        watermarks: Arc<Watermarks>,
        final_totals: FinalTotals,
    ) -> Self {
        let views = &shared.options.views;
        GatewayHandler {
            own,
            views: shared.streams.iter().map(|stream| StreamViews::new(&stream.name, views)).collect(),
            tallies: views.iter().map(Tally::new).collect(),
            taps,
            shard,
            watermarks,
            final_totals,
        }
    }

    /// The service's own handler.
    pub fn own(&mut self) -> &mut H {
        &mut self.own
    }

    /// The tally of a view, by its order of declaration.
    pub fn tally(&self, view: usize) -> &Tally {
        &self.tallies[view]
    }
}

impl<H: Handler<Record>> Handler<Record> for GatewayHandler<H> {
    type Output = H::Output;

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Record>, context: &mut Context<'_, Record>) -> Verdict {
        // As it came: the service may write into its slot.
        let record = **event;
        let verdict = self.own.on_event(event, context);
        // What comes again is counted then. An event that the service emits may name a stream that is none.
        if let (Verdict::Done, Some(views)) = (verdict, self.views.get_mut(usize::from(record.stream))) {
            let payload = event.payload();
            views.observe(&mut self.tallies, payload, record.id.ms);
            self.taps.offer(&record, payload);
        }
        verdict
    }

    fn on_batch_end(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_batch_end(context);
        self.watermarks.note(self.shard, &self.tallies);
        self.taps.end_batch();
    }

    fn on_start(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_start(context);
    }

    fn on_idle(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_idle(context);
    }

    fn on_drain(&mut self, context: &mut Context<'_, Record>) -> bool {
        self.own.on_drain(context)
    }

    fn on_stop(self, context: &mut Context<'_, Record>) -> H::Output {
        self.final_totals.add(&self.tallies);
        self.own.on_stop(context)
    }
}

/// A service that has nothing of its own to do.
pub(crate) fn nothing(_: ShardId) -> impl Handler<Record, Output = ()> {
    |_: &mut Event<'_, Record>, _: &mut Context<'_, Record>| ()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::pair;

    fn payload(fields: &[(String, String)]) -> Vec<u8> {
        let bulk = |text: &String| format!("${}\r\n{text}\r\n", text.len());
        fields.iter().flat_map(|(name, value)| (bulk(name) + &bulk(value)).into_bytes()).collect()
    }

    #[test]
    fn fields_found_in_one_pass_match_single_lookups() {
        let views = [
            View::sum("a", "amount").over("s").by("user"),
            View::count("b").over("s").event_time("at", std::time::Duration::ZERO),
            View::last("c", "").over("s").by("x".repeat(65)),
            View::count("d").over("other").by("elsewhere"),
        ];
        let mut own = StreamViews::new("s", &views);
        assert_eq!(own.views.len(), 3);
        let field = |name: &str, n: usize| (name.to_string(), format!("{name}{n}"));
        let unknown = |n: usize| (format!("f{n}"), "amount".to_string());
        let long = "x".repeat(65);
        let events: Vec<Vec<(String, String)>> = vec![
            vec![],
            vec![field("amount", 1)],
            vec![field("user", 1), field("at", 2), field("amount", 3), field(&long, 4), field("", 5)],
            // Twice: the first counts. Names of the same length, or of one that is the same modulo 64.
            vec![field("user", 1), field("user", 2), field("resu", 3), field("x", 4), field("amount", 5)],
            (0..500).map(unknown).chain([field("at", 6), field(&long, 7)]).collect(),
        ];
        for event in &events {
            let payload = payload(event);
            own.fields.look(&payload);
            for (at, name) in own.fields.names.iter().enumerate() {
                assert_eq!(own.fields.get(at, &payload), pair(&payload, name), "{event:?}");
            }
            // A payload that is cut has what stands before the cut.
            let cut = &payload[..payload.len() / 2];
            own.fields.look(cut);
            for (at, name) in own.fields.names.iter().enumerate() {
                assert_eq!(own.fields.get(at, cut), pair(cut, name), "{event:?}");
            }
        }
    }
}
