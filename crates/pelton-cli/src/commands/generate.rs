//! `pelton generate`: a made-up log.

use crate::args::GenerateArgs;
use crate::failure::Failure;
use crate::output::files;
use crate::weblog::generate::GENERATED_LINE_BYTES_MAX;
use crate::weblog::{Generator, Settings};
use std::io::{self, BufWriter, Write};

/// Large enough that system calls do not count.
const BUFFER_BYTES: usize = 256 << 10;

pub fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let settings = Settings {
        seed: args.seed,
        events: args.events,
        clients: args.clients,
        skew: args.skew,
        error_share: args.errors,
        paths: args.paths,
    };
    let generator = Generator::new(&settings).map_err(|error| Failure::Settings(vec![error.to_string()]))?;
    match &args.output {
        None => write(generator, io::stdout().lock()).map_err(Failure::output),
        Some(path) => {
            let file = files::create(path, args.force)?;
            write(generator, file).map_err(|error| files::failed(path, &error))
        }
    }
}

fn write(mut generator: Generator, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut line = Vec::with_capacity(GENERATED_LINE_BYTES_MAX + 1);
    while generator.next_line(&mut line) {
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}
