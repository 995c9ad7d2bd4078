//! What is special about a gateway: its tables, its draft from a few answers (the engine's, `[gateway]`, and a stream for
//! each class), and the costs of its settings.

use crate::settings::answers::Answers;
use crate::settings::cost::cost_of;
use crate::settings::explain::Explained;
use crate::settings::write::{Notes, write};
use pelton::config::{Rows, Table};
use pelton::engine::{CLASS, ENGINE, Plan, PlanError, PlanErrors, Setting, Severity};
use pelton::host::Host;
use pelton_gateway::{EVENT, GATEWAY, Options, Stream, streams, views};
use pelton_views::VIEW;

/// What stands below the streams: a view, for whoever takes the marks away.
const EXAMPLE: &str = r#"
# What the shards keep of a stream while it passes, read with PELTON.VIEW: a table for each.
# `pelton explain` tells of all its settings.
# [[view]]
# name = "per_user"
# stream = "STREAM"
# measure = "count"
# by = "user"
"#;

/// A gateway that follows from answers.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// Its options; the plan among them.
    pub options: Options,
    /// The arithmetic, by setting.
    pub notes: Notes,
    /// What the rules advise.
    pub warnings: Vec<PlanError>,
}

/// What the questions start from for a gateway: its record for an event, payloads of fields and values, a producer for its
/// thread, a class that refuses and one that waits.
#[must_use]
pub fn answers() -> Answers {
    Answers {
        event_bytes: EVENT.size() as u32,
        payload_bytes: 1_024,
        payload_usual_bytes: Some(128),
        producers: 1,
        classes: "orders:strict:reject,events:weighted:block".into(),
        ..Answers::default()
    }
}

/// The gateway that follows from answers. Its producers are gateway threads.
///
/// # Errors
/// [`PlanErrors`]: answers that contradict each other, or what a gateway is, or what the host has.
pub fn draft(answers: &Answers, host: Option<&Host>) -> Result<Drafted, PlanErrors> {
    // What taps take follows from the payloads, and capacities from what is left beside that.
    let reserve = |plan: Plan| options(answers, plan.clone()).reserve(plan);
    let drafted = answers.draft_over(host, &|plan| plan.with_scratch_bytes(0), &reserve)?;
    let options = options(answers, drafted.plan);
    let findings = options.findings();
    let (errors, advice): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(PlanErrors(errors));
    }
    let mut notes = drafted.notes;
    notes.insert("gateway: threads".into(), "as many as producers: each of them is one".into());
    notes.insert("gateway: listen".into(), "this machine alone reaches it".into());
    for stream in &options.streams {
        let note = "no order is kept; \"field:user\" would keep that of each user's events";
        notes.insert(format!("stream '{}': key", stream.name), note.into());
    }
    let warnings = drafted.warnings.into_iter().chain(advice).collect();
    Ok(Drafted { options, notes, warnings })
}

fn options(answers: &Answers, plan: Plan) -> Options {
    let mut options = Options::new(plan);
    let names = options.plan.classes().iter().map(|class| class.name());
    options.streams = names.map(|name| Stream::new(name, name)).collect();
    options.threads = answers.producers;
    options
}

impl Drafted {
    /// The options as a file, with the arithmetic in its comments.
    #[must_use]
    pub fn write(&self) -> String {
        let tables = tables(self.options.clone());
        let tables: Vec<&dyn Table> = tables.iter().map(|table| &**table).collect();
        let first = self.options.streams.first().map_or("", |stream| stream.name.as_str());
        write(&self.options.plan, &tables, &self.notes)
            + &EXAMPLE.replace("STREAM", &first.escape_debug().to_string())
    }
}

/// The tables of a gateway: `[gateway]`, each `[[stream]]` and each `[[view]]`.
#[must_use]
pub fn tables(mut options: Options) -> [Box<dyn Table>; 3] {
    let streams = streams(std::mem::take(&mut options.streams));
    let views = views(std::mem::take(&mut options.views));
    let gateway = Rows::one("gateway", GATEWAY, options);
    [Box::new(gateway), Box::new(streams), Box::new(views)]
}

/// Puts the costs of settings into what was explained of a gateway: it reserves memory for its threads, taps and views,
/// which follows from its own settings, and from some of the engine's and of the classes too.
pub fn price(options: &Options, all: &mut [Explained]) {
    // A pane of a millisecond would make more panes than there can be.
    let footprint = |new: &Options| {
        let mut views = new.views.iter().zip(&options.views);
        let is_sound = views.all(|(new, old)| new == old || new.findings().is_empty());
        is_sound.then(|| new.reserve(new.plan.clone()).footprint_of(EVENT).total_bytes())
    };
    for told in all {
        let key = told.info.key;
        let cost = match told.table() {
            ("", None) => {
                row(ENGINE, key).and_then(|row| cost_of(row, options, |all| Some(&mut all.plan), footprint))
            }
            ("gateway", None) => {
                row(GATEWAY, key).and_then(|row| cost_of(row, options, |all| Some(all), footprint))
            }
            ("class", Some(name)) => row(CLASS, key).and_then(|row| {
                cost_of(
                    row,
                    options,
                    |all| all.plan.classes_mut().iter_mut().find(|class| class.name() == name),
                    footprint,
                )
            }),
            ("view", Some(name)) => row(VIEW, key).and_then(|row| {
                cost_of(row, options, |all| all.views.iter_mut().find(|view| view.name == name), footprint)
            }),
            _ => None,
        };
        told.cost_bytes = cost.unwrap_or(told.cost_bytes);
    }
}

fn row<T>(rows: &'static [Setting<T>], key: &str) -> Option<&'static Setting<T>> {
    rows.iter().find(|row| row.info.key == key)
}
