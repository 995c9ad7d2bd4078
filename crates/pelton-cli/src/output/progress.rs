//! The progress bar: on standard error, and only if that is a terminal. It looks at the counters of the run and is
//! never waited for.

use crate::weblog::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is known of the end.
pub enum End {
    /// So many bytes.
    Bytes(u64),
    /// So long.
    After(Duration),
    /// Nothing.
    Unknown,
}

/// Runs `work` with a bar that shows how far it is.
pub fn watched<T>(end: &End, progress: &Progress, work: impl FnOnce() -> T) -> T {
    if !stderr().is_terminal() {
        return work();
    }
    let (length, template) = match end {
        End::Bytes(bytes) => {
            (Some(*bytes), "  {bar:36} {binary_bytes} of {binary_total_bytes}, {msg} lines, {eta} left")
        }
        End::After(span) => {
            (Some(span.as_millis() as u64), "  {bar:36} {elapsed} of {len:.dim}, {msg} lines")
        }
        End::Unknown => (None, "  {spinner} {binary_bytes}, {msg} lines, {elapsed}"),
    };
    let template = match end {
        End::After(span) => template.replace("{len:.dim}", &format!("{}s", span.as_secs())),
        _ => template.to_string(),
    };
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    // A template of ours that cannot be read is no reason not to work: the bar then has its usual look.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━━╌"));
    }
    let begun = Instant::now();
    let done = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bar.set_position(match end {
                    End::After(_) => begun.elapsed().as_millis() as u64,
                    _ => progress.bytes(),
                });
                bar.set_message(crate::output::format::count(progress.lines()));
                bar.tick();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    });
    bar.finish_and_clear();
    result
}
