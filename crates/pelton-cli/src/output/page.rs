//! The page: where all text goes, and what it looks like.
//!
//! Headings are bold, lines and notes dim, and only where a terminal is at the other end (and `NO_COLOR` is not set):
//! in a pipe the text is the same without them. Every write can fail, since a reader may go away. What a command found
//! counts all the same: its verdict comes before what became of the page, as in `verdict(&report).and(written)`.

use crate::failure::Failure;
use crate::output::format::{printable, wrap};
use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::Path;

/// Light: a line below the head, space between the columns.
const LIGHT: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none());

/// Columns of a text that no terminal bounds, and the most of everything that is laid out here.
pub const WIDTH: usize = 100;

/// Columns before what is said about a name.
const FACT: usize = 16;

/// Lines for people, on standard output or kept as a text.
pub struct Page {
    out: Out,
    colours: bool,
    columns: usize,
}

/// Where a page goes.
enum Out {
    Stdout(BufWriter<StdoutLock<'static>>),
    /// To be printed later.
    Text(Vec<u8>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::Stdout(out) => out.write(bytes),
            Out::Text(text) => text.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::Stdout(out) => out.flush(),
            Out::Text(_) => Ok(()),
        }
    }
}

/// Prints a page: all that `fill` puts on it has gone out at the end.
pub fn print(fill: impl FnOnce(&mut Page) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut page = Page::stdout();
    fill(&mut page)?;
    page.flush()
}

/// A page as text, laid out for standard output and not printed yet.
pub fn text(fill: impl FnOnce(&mut Page) -> Result<(), Failure>) -> Result<String, Failure> {
    let stdout = io::stdout();
    let (colours, columns) = (has_colours(&stdout), columns(&stdout));
    let mut page = Page { out: Out::Text(Vec::new()), colours, columns };
    fill(&mut page)?;
    match page.out {
        Out::Text(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Out::Stdout(_) => Ok(String::new()),
    }
}

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Less important than the rest.
    Dim,
    /// A warning.
    Alarm,
    /// Something is as it should be.
    Good,
    /// Something is wrong.
    Bad,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Ink::Plain => "",
            Ink::Bold => "\u{1b}[1m",
            Ink::Dim => "\u{1b}[2m",
            Ink::Alarm => "\u{1b}[33m",
            Ink::Good => "\u{1b}[32m",
            Ink::Bad => "\u{1b}[31m",
        }
    }
}

/// A table in the making: the first columns hold words, all others figures.
pub struct Rows {
    table: Table,
    words: usize,
    sum: bool,
}

impl Rows {
    /// `words` columns are aligned to the left, the others to the right.
    pub fn new<const N: usize>(words: usize, head: [&str; N]) -> Self {
        Self::with_head(words, head.into_iter().map(str::to_string))
    }

    /// The same, with a head that is known only now.
    pub fn with_head(words: usize, head: impl Iterator<Item = String>) -> Self {
        let mut table = Table::new();
        table.load_style(LIGHT).set_header(head.collect::<Vec<String>>());
        // What is too wide for the page goes on in the next line of its cell.
        table.set_content_arrangement(ContentArrangement::Dynamic);
        Rows { table, words, sum: false }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.table.add_row(cells.into_iter().map(Into::into).collect::<Vec<String>>());
        self
    }

    /// The row that was added last is the sum of those above.
    pub fn last_is_sum(&mut self) -> &mut Self {
        self.sum = true;
        self
    }
}

/// Whether what is written there may have colours.
pub fn has_colours(to: &impl IsTerminal) -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    to.is_terminal() && !no_colour
}

/// Columns of the terminal, within what is easily read; [`WIDTH`] without one.
pub fn width() -> usize {
    terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0).clamp(40, 120))
}

/// Columns of what is laid out there: those of the terminal, where there is one and it has fewer than [`WIDTH`].
pub fn columns(to: &impl IsTerminal) -> usize {
    if to.is_terminal() { width().min(WIDTH) } else { WIDTH }
}

/// A text within so many columns: what its first line begins with, and what all others do.
pub fn hanging(columns: usize, first: &str, others: &str, text: &str) -> Vec<String> {
    let taken = first.chars().count().max(others.chars().count());
    let lines = wrap(text, columns.saturating_sub(taken)).into_iter().enumerate();
    lines.map(|(at, line)| format!("{}{line}", if at == 0 { first } else { others })).collect()
}

impl Page {
    /// A page on standard output, as wide as the terminal.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let (colours, columns) = (has_colours(&stdout), columns(&stdout));
        Page { out: Out::Stdout(BufWriter::new(stdout.lock())), colours, columns }
    }

    /// Whether there is colour.
    pub fn has_colours(&self) -> bool {
        self.colours
    }

    /// Columns.
    pub fn width(&self) -> usize {
        width()
    }

    /// Columns of what is laid out.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Prints a line.
    ///
    /// # Errors
    /// [`Failure`] where the output cannot be written.
    pub fn line(&mut self, ink: Ink, text: &str) -> Result<(), Failure> {
        self.parts(&[(ink, text)])
    }

    /// A line of parts, each in its ink.
    pub fn parts(&mut self, parts: &[(Ink, &str)]) -> Result<(), Failure> {
        let mut line = String::new();
        for (ink, text) in parts {
            if self.colours && *ink != Ink::Plain {
                line.extend([ink.code(), text, "\u{1b}[0m"]);
            } else {
                line.push_str(text);
            }
        }
        writeln!(self.out, "{line}").map_err(Failure::output)
    }

    /// Starts a section.
    pub fn title(&mut self, text: &str) -> Result<(), Failure> {
        self.line(Ink::Plain, "")?;
        self.line(Ink::Bold, text)
    }

    /// A sentence below a table.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        hanging(self.columns, "  ", "  ", text).iter().try_for_each(|line| self.line(Ink::Dim, line))
    }

    /// A file that was written, whole, so that its name can be copied.
    pub fn written(&mut self, file: &Path) -> Result<(), Failure> {
        self.line(Ink::Dim, &format!("  written: {}", printable(&file.display().to_string())))
    }

    /// Something to look at.
    pub fn alarm(&mut self, text: &str) -> Result<(), Failure> {
        hanging(self.columns, "  ! ", "    ", text).iter().try_for_each(|line| self.line(Ink::Alarm, line))
    }

    /// A name and what there is to say about it, if anything.
    pub fn fact(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let first = format!("  {name:<12}  ");
        let lines = hanging(self.columns, &first, &" ".repeat(FACT), text);
        lines.iter().try_for_each(|line| self.line(Ink::Plain, line))
    }

    /// Prints a table.
    ///
    /// # Errors
    /// [`Failure`] where the output cannot be written.
    pub fn table(&mut self, rows: &mut Rows) -> Result<(), Failure> {
        let words = rows.words;
        // Every line begins with a space.
        rows.table.set_width(self.columns as u16 - 1);
        for (at, column) in rows.table.column_iter_mut().enumerate() {
            column.set_padding((1, 1));
            column.set_cell_alignment(if at < words { CellAlignment::Left } else { CellAlignment::Right });
        }
        let lines: Vec<String> = rows.table.lines().map(|line| format!(" {}", line.trim_end())).collect();
        let last = lines.len() - 1;
        for (at, line) in lines.iter().enumerate() {
            let is_sum = rows.sum && at == last && at > 2;
            if is_sum {
                self.line(Ink::Dim, &lines[1])?;
            }
            self.line(if at < 2 { Ink::Dim } else { Ink::Plain }, line)?;
        }
        Ok(())
    }

    /// Text as it is, with an end of line.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.line(Ink::Plain, text)
    }

    /// Everything so far goes out: before a run, so that it can be read meanwhile, and at the end.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::output)
    }
}
