//! The settings of the questions that are asked: options, environment and file, read together.

use pelton::config::{Base, Origin, Rows, Scope, Sources, Table, resolve};
use pelton::engine::{ENGINE, Plan, PlanError, Profile};
use pelton_bench::{BENCH, MeasureError, Question, Settings, check};
use pelton_cli::failure::Failure;
use pelton_cli::settings::config::{COMMAND, Loaded, borrowed, others};
use pelton_cli::weblog::Options;

/// The settings as they were read, with where each came from.
pub struct Asked(Loaded);

impl Asked {
    /// Settings of a measurement, over those that the command starts from.
    pub fn read(sources: &Sources, settings: &mut Settings) -> Result<Asked, Failure> {
        let is_alone = sources.file.is_none();
        let plan = |profile| if is_alone { Options::base(profile) } else { Plan::new(profile) };
        let why = [("profile", "nothing but the way of an event is to be measured")];
        let base = Base { plan: &plan, profile: Some(Profile::Latency), fixed_classes: is_alone, why: &why };
        let mut bench = Rows::one("bench", BENCH, settings.clone());
        let mut others = others("");
        let mut tables: Vec<&mut dyn Table> = vec![&mut bench];
        tables.extend(borrowed(&mut others));
        let config = resolve(sources, &base, &mut tables, Scope::default());
        *settings = bench.into_one();
        Loaded::of(config, sources).map(Asked)
    }

    /// The settings of each question: what it has no use for is left out where it stands in a file for all, and wait and
    /// burst are the engine's where somebody has chosen that. With each question where its settings came from.
    pub fn settings(
        self,
        questions: &[Question],
        settings: &Settings,
    ) -> Result<Vec<(Question, Settings, String)>, Failure> {
        let asked: Vec<_> = questions.iter().map(|question| self.settings_of(*question, settings)).collect();
        let mut found: Vec<PlanError> = Vec::new();
        for (question, settings, _) in &asked {
            match check(&[*question], settings) {
                Ok(()) => {}
                Err(MeasureError::Settings(errors)) => {
                    let told = |new: &PlanError| {
                        found.iter().any(|old| (&old.setting, &old.value) == (&new.setting, &new.value))
                    };
                    let new: Vec<_> = errors.0.into_iter().filter(|error| !told(error)).collect();
                    found.extend(new);
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        if found.is_empty() { Ok(asked) } else { Err(self.0.refused(&found)) }
    }

    fn settings_of(&self, question: Question, settings: &Settings) -> (Question, Settings, String) {
        let (mut settings, start) = (settings.clone(), Settings::default());
        let profile = self.0.plan().profile();
        let is_chosen = !matches!(self.0.origins().of("profile"), Some(Origin::Command(_)));
        let whose = if is_chosen { self.0.origin("profile", None) } else { COMMAND.to_string() };
        let mut from = vec![format!("profile {profile} ({whose})")];
        for row in BENCH {
            let name = format!("bench: {}", row.info.key);
            let own = self.0.origins().of(&name);
            match (own, question.takes(row.info.key)) {
                (Some(origin), takes) if takes || matches!(origin, Origin::Option(_)) => {
                    from.push(format!("{} {} ({origin})", row.info.key, row.get(&settings)));
                }
                (Some(_), _) => row.set(&mut settings, row.get(&start)),
                // Those alone are the engine's too, and a shard's: its CPUs are not those of a measurement.
                (None, true) if ["wait", "burst_events"].contains(&row.info.key) => {
                    let named = self.0.origins().of(row.info.key).is_some();
                    let engine = ENGINE.iter().find(|engine| engine.info.key == row.info.key);
                    if let Some(engine) = engine.filter(|_| is_chosen || named) {
                        let value = engine.get(self.0.plan());
                        let origin = self.0.origin(row.info.key, Some(profile));
                        from.push(format!("{} {value} ({origin})", row.info.key));
                        row.set(&mut settings, value);
                    }
                }
                _ => {}
            }
        }
        (question, settings, from.join(", "))
    }
}

/// What a measurement that failed says.
pub fn failed(error: &MeasureError) -> Failure {
    match error {
        MeasureError::Settings(errors) => Failure::plan(errors),
        error => Failure::run(error),
    }
}
