//! `pelton init`: a configuration from a few answers.

use crate::failure::Failure;
use crate::output::files;
use crate::output::format::{clean, printable, wrap};
use crate::output::page::{self, Page, WIDTH};
use crate::settings::answers::{Answers, QUESTIONS};
use crate::settings::config_args::InitArgs;
use crate::settings::gateway;
use pelton::engine::{PlanError, PlanErrors, RawValue, Setting};
use pelton::host::Host;
use std::io::{self, BufRead, IsTerminal, Write};

/// How often a question is asked again before somebody who answers it like this is left alone.
const TRIES_MAX: u32 = 5;

pub fn run(args: &InitArgs) -> Result<(), Failure> {
    // Before anybody is asked: nobody answers for nothing.
    if let Some(path) = &args.output {
        files::check_is_free(path, args.force)?;
    }
    let answers = answers(args)?;
    let host = (!args.no_host).then(Host::look);
    let refuse = |errors: PlanErrors| Failure::plan(&errors);
    let (text, warnings) = if args.gateway {
        let draft = gateway::draft(&answers, host.as_ref()).map_err(refuse)?;
        (draft.write(), draft.warnings)
    } else {
        let draft = answers.draft(host.as_ref()).map_err(refuse)?;
        (draft.write(), draft.warnings)
    };
    match &args.output {
        None => {
            let mut page = Page::stdout();
            page.raw(text.trim_end())?;
            page.flush()?;
        }
        Some(path) => {
            files::write(path, args.force, &text)?;
            let file = path.display();
            let serves = if args.gateway {
                format!("; `pelton run --config {file}` serves it")
            } else {
                String::new()
            };
            tell(&format!("{file} is written; `pelton check` and `pelton explain` take it{serves}"));
        }
    }
    for warning in &warnings {
        tell(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Says something beside the output, in as many lines as it takes where it is read.
fn tell(text: &str) {
    let text = text.split('\n').map(printable).collect::<Vec<_>>().join("\n");
    for line in wrap(&text, page::width().min(WIDTH)) {
        // There is nobody left to tell if this fails.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Those that were given, and, where somebody is there to be asked, the others.
fn answers(args: &InitArgs) -> Result<Answers, Failure> {
    let mut answers = if args.gateway { gateway::answers() } else { Answers::default() };
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut wrong = Vec::new();
    for row in QUESTIONS {
        match args.answers.options.iter().rfind(|(key, _)| key == row.info.key) {
            Some((_, text)) => {
                if let Err(sentence) = take(row, &mut answers, text) {
                    wrong.push(sentence);
                }
            }
            // A usual payload is asked for where there are any.
            None if asks
                && wrong.is_empty()
                && !(row.info.key == "payload_usual_bytes" && answers.payload_bytes == 0)
                // An event of a gateway is its record.
                && !(row.info.key == "event_bytes" && args.gateway) =>
            {
                ask(row, &mut answers)?;
            }
            None => {}
        }
    }
    if wrong.is_empty() { Ok(answers) } else { Err(Failure::Settings(wrong)) }
}

/// Takes one answer.
fn take(row: &Setting<Answers>, answers: &mut Answers, text: &str) -> Result<(), String> {
    let told = |limit: String, works: String| {
        PlanError::new(row.info.key, format!("'{}'", clean(text, 60)), limit, works).to_string()
    };
    let value = row
        .info
        .kind
        .read(&RawValue::Bare(text))
        .map_err(|invalid| told(invalid.expected, invalid.suggestion))?;
    let before = answers.clone();
    row.set(answers, value);
    answers.check_classes().map_err(|errors| {
        // Rates of classes are held against that of all, which may not have been told yet.
        *answers = before;
        errors.to_string()
    })
}

fn ask(row: &Setting<Answers>, answers: &mut Answers) -> Result<(), Failure> {
    let input = |error: io::Error| Failure::Run(format!("no answer could be read: {error}"));
    let start = row.get(answers);
    let unit = if row.info.unit.is_empty() { String::new() } else { format!("{}, ", row.info.unit) };
    tell("\n");
    tell(&format!("{} ({unit}{})", row.info.what, row.info.kind));
    tell(&format!("It decides: {}", row.info.trades));
    for _ in 0..TRIES_MAX {
        let mut err = io::stderr();
        let _ = write!(err, "{} [{start}]: ", row.info.key).and_then(|()| err.flush());
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).map_err(input)? == 0 {
            return Err(Failure::Run("the answers ended early; options in their place would work".into()));
        }
        match line.trim() {
            "" => return Ok(()),
            text => match take(row, answers, text) {
                Ok(()) => return Ok(()),
                Err(sentence) => tell(&sentence),
            },
        }
    }
    Err(Failure::Settings(vec![format!(
        "{} was not answered; options in its place would work",
        row.info.key
    )]))
}
