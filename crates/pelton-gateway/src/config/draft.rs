//! A configuration of a gateway from a few answers: the engine's draft, `[gateway]`, and a stream for each class.

use crate::config::load::{streams, views};
use crate::config::settings::{EVENT, GATEWAY, Options};
use crate::config::stream::Stream;
use pelton::config::{Answers, Notes, Rows, Table, write};
use pelton::engine::{Plan, PlanError, PlanErrors, Severity};
use pelton::host::Host;

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
        let mut options = self.options.clone();
        let mut streams = streams(std::mem::take(&mut options.streams));
        let mut views = views(std::mem::take(&mut options.views));
        let plan = options.plan.clone();
        let mut gateway = Rows { name: "gateway", rows: GATEWAY, of: options };
        let tables: &[&mut dyn Table] = &[&mut gateway, &mut streams, &mut views];
        let first = self.options.streams.first().map_or("", |stream| stream.name.as_str());
        write(&plan, tables, &self.notes) + &EXAMPLE.replace("STREAM", &first.escape_debug().to_string())
    }
}
