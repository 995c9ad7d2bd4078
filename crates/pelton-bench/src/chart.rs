//! Charts as SVG, for people who would rather look than read.
//!
//! # Mechanism
//! A [`Chart`] is a title, two axes and some lines; its `Display` is the picture. It draws itself: what a chart library
//! would take off our hands is little beside what it would not, such as an axis of nines and names at the ends of their
//! lines instead of a legend. The card is white, with a border of its own, so a page may be light or dark.
//!
//! Names are set beside the last point of each line and pushed apart where they would overlap.

use super::answer::{Answer, Point, Table, Unit};
use super::rounds::Role;
use super::scale::{Axis, Kind, Scale, Span, has_place, written};
use hdrhistogram::Histogram;
use std::fmt::{self, Write};

/// The size of the picture, and what is left free around the plot; the right margin grows with the names.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 78.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 62.0;
const NAME_GAP: f64 = 17.0;

/// Our own lines, the other libraries', and what nothing can beat. Told apart without red and green alone.
const OURS: [&str; 3] = ["#0b57d0", "#6f42c1", "#1aa3b8"];
const PEERS: [&str; 6] = ["#d1495b", "#e08a00", "#2e8b57", "#8a5a44", "#c2569b", "#7a7f00"];
const BASELINES: [&str; 3] = ["#6e7781", "#9aa4ae", "#b6bec6"];

/// One line: a name and its points in the order of the x axis. What is not a finite number is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Stands at its end.
    pub name: String,
    /// Decides upon its colour; baselines are dashed.
    pub role: Role,
    /// (x, y)
    pub points: Vec<(f64, f64)>,
    /// (x, low, high): the interval around each point; may be empty.
    pub band: Vec<(f64, f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What is shown, in a few words.
    pub title: String,
    /// Where and how it was measured.
    pub subtitle: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// Ours first: later ones are drawn below earlier ones.
    pub lines: Vec<Line>,
    /// A place on the x axis that is pointed out, and what is said of it.
    pub mark: Option<(f64, String)>,
}

impl Chart {
    /// Of a table with a sweep: a line with its interval for each contender.
    pub fn sweep(table: &Table, subtitle: impl Into<String>) -> Self {
        let names = table.points.first().map_or(&[][..], |point| &point.figures);
        let line = |(at, first): (usize, &super::answer::Figure)| Line {
            name: first.peer.clone(),
            role: first.role,
            points: table.points.iter().map(|point| (point.at, point.figures[at].estimate.median)).collect(),
            band: table
                .points
                .iter()
                .map(|point| (point.at, point.figures[at].estimate.low, point.figures[at].estimate.high))
                .collect(),
        };
        let kind = match table.unit {
            Unit::Ns | Unit::NsPerEvent => Kind::Nanos,
            Unit::EventsPerS => Kind::Rate,
            Unit::Times => Kind::Plain,
        };
        let per = if table.unit == Unit::NsPerEvent { "time for each event" } else { table.unit.name() };
        Chart {
            title: table.what.clone(),
            subtitle: subtitle.into(),
            x: Axis {
                label: table.axis.clone().unwrap_or_default(),
                scale: Scale::Linear,
                kind: Kind::Plain,
            },
            y: Axis { label: per.into(), scale: Scale::Linear, kind },
            lines: names.iter().enumerate().map(line).collect(),
            mark: None,
        }
    }

    /// Of one contender in several tables over the same sweep: a line for each table, and its knee.
    fn knee(peer: &str, knee: f64, tables: &[&Table], subtitle: String) -> Self {
        let of = |point: &Point| point.figures.iter().find(|figure| figure.peer == peer).map(|f| f.estimate);
        let line = |table: &&Table| {
            let figures = table.points.iter().filter_map(|point| Some((point.at, of(point)?)));
            Line {
                // What is behind the comma is the only thing in which the tables differ.
                name: table.what.rsplit(", ").next().unwrap_or(&table.what).into(),
                role: Role::Ours,
                points: figures.clone().map(|(at, estimate)| (at, estimate.median)).collect(),
                band: figures.map(|(at, estimate)| (at, estimate.low, estimate.high)).collect(),
            }
        };
        Chart {
            title: format!("Latency over the rate: {peer}"),
            subtitle,
            x: Axis {
                label: "million events a second, open loop".into(),
                scale: Scale::Linear,
                kind: Kind::Plain,
            },
            y: Axis { label: "from due to handled".into(), scale: Scale::Log, kind: Kind::Nanos },
            lines: tables.iter().map(line).collect(),
            mark: Some((knee, format!("knee: {knee} M/s"))),
        }
    }

    /// Of distributions of nanoseconds: latency over the nines of its percentile. Each line ends where fewer than ten
    /// events are left above it, since what is further out is chance.
    pub fn percentiles<'a>(
        title: impl Into<String>,
        subtitle: impl Into<String>,
        distributions: impl IntoIterator<Item = (&'a str, Role, &'a Histogram<u64>)>,
    ) -> Self {
        let line = |(name, role, histogram): (&str, Role, &Histogram<u64>)| {
            let last = 1.0 - 10.0 / histogram.len().max(10) as f64;
            let steps = histogram.iter_quantiles(super::hgrm::STEPS_PER_HALF);
            let points = steps
                .map(|step| (step.quantile_iterated_to(), step.value_iterated_to() as f64))
                .take_while(|(quantile, _)| *quantile <= last);
            Line { name: name.into(), role, points: points.collect(), band: Vec::new() }
        };
        Chart {
            title: title.into(),
            subtitle: subtitle.into(),
            x: Axis { label: "share of all events".into(), scale: Scale::Nines, kind: Kind::Share },
            y: Axis { label: "latency".into(), scale: Scale::Log, kind: Kind::Nanos },
            lines: distributions.into_iter().map(line).collect(),
            mark: None,
        }
    }
}

/// Text for XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About how wide a text of 13 pixels is; there is no font to ask.
fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * 7.5
}

/// Pushes places apart until none is nearer than `gap` to the next; they keep their order, and stay between the ends
/// while there is room.
fn spread(wanted: &[f64], gap: f64, from: f64, to: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = vec![0.0; wanted.len()];
    let mut least = from;
    for at in &order {
        places[*at] = wanted[*at].max(least);
        least = places[*at] + gap;
    }
    let mut most = to;
    for at in order.iter().rev() {
        places[*at] = places[*at].min(most);
        most = places[*at] - gap;
    }
    places
}

/// The pictures of an answer, each with a name that will do for a file: its distributions if it has some, where ours
/// bend if it has knees, and its sweeps.
pub fn charts(answer: &Answer) -> Vec<(String, Chart)> {
    let Answer { question, machine, settings, tables, distributions, knees, .. } = answer;
    let subtitle = format!("{} rounds; {}, CPUs {:?}", settings.rounds, machine.model, machine.cpus);
    let mut all = Vec::new();
    if let Some(first) = distributions.first() {
        let lines = distributions.iter().map(|each| (each.peer.as_str(), each.role, &each.waits_ns));
        let title = format!("Latency from the time that an event was due, at {}", first.at);
        all.push((question.to_string(), Chart::percentiles(title, subtitle.clone(), lines)));
    }
    let swept: Vec<&Table> = tables.iter().filter(|table| table.axis.is_some()).collect();
    for (peer, knee) in knees {
        let name = format!("{question}-{}", file_name(peer));
        all.push((name, Chart::knee(peer, *knee, &swept, subtitle.clone())));
    }
    let unknown = if knees.is_empty() { &swept[..] } else { &[] };
    for (at, table) in unknown.iter().enumerate() {
        let number = if at == 0 { String::new() } else { format!("-{}", at + 1) };
        all.push((format!("{question}{number}"), Chart::sweep(table, subtitle.clone())));
    }
    all
}

/// A name of letters, digits and hyphens alone.
pub fn file_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// A line with what it looks like.
struct Drawn<'a> {
    line: &'a Line,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

impl Chart {
    fn colours(&self) -> Vec<&'static str> {
        let mut used = [0; 3];
        let colour = |line: &Line| {
            let (kind, palette) = match line.role {
                Role::Ours => (0, &OURS[..]),
                Role::Peer => (1, &PEERS[..]),
                Role::Baseline => (2, &BASELINES[..]),
            };
            used[kind] += 1;
            palette[(used[kind] - 1) % palette.len()]
        };
        self.lines.iter().map(colour).collect()
    }

    fn axes(&self, out: &mut String, x: &Span, y: &Span) -> fmt::Result {
        for tick in y.ticks() {
            let (at, text) = (y.place(tick), written(tick, self.y.kind));
            writeln!(out, r##"<path d="M{:.1} {at:.1}H{:.1}" stroke="#e3e8ee"/>"##, x.start, x.end)?;
            writeln!(
                out,
                r##"<text x="{:.1}" y="{:.1}" class="t" text-anchor="end">{text}</text>"##,
                x.start - 10.0,
                at + 4.0
            )?;
        }
        for tick in x.ticks() {
            let (at, text) = (x.place(tick), written(tick, self.x.kind));
            writeln!(out, r##"<path d="M{at:.1} {:.1}V{:.1}" stroke="#eef1f5"/>"##, y.start, y.end)?;
            writeln!(
                out,
                r##"<text x="{at:.1}" y="{:.1}" class="t" text-anchor="middle">{text}</text>"##,
                y.start + 21.0
            )?;
        }
        writeln!(out, r##"<path d="M{:.1} {:.1}H{:.1}" stroke="#8c959f"/>"##, x.start, y.start, x.end)?;
        let middle = (x.start + x.end) / 2.0;
        writeln!(
            out,
            r##"<text x="{middle:.1}" y="{:.1}" class="a" text-anchor="middle">{}</text>"##,
            HEIGHT - 17.0,
            escaped(&self.x.label)
        )?;
        let (across, down) = (22.0, (y.start + y.end) / 2.0);
        writeln!(
            out,
            r##"<text x="{across}" y="{down:.1}" class="a" text-anchor="middle" transform="rotate(-90 {across} {down:.1})">{}</text>"##,
            escaped(&self.y.label)
        )
    }

    fn mark(&self, out: &mut String, x: &Span, y: &Span) -> fmt::Result {
        let Some((value, text)) = &self.mark else { return Ok(()) };
        let at = x.place(*value);
        let (anchor, beside) = if at > (x.start + x.end) / 2.0 { ("end", -7.0) } else { ("start", 7.0) };
        writeln!(
            out,
            r##"<path d="M{at:.1} {:.1}V{:.1}" stroke="#57606a" stroke-dasharray="2 4"/>"##,
            y.start, y.end
        )?;
        writeln!(
            out,
            r##"<text x="{:.1}" y="{:.1}" class="m" text-anchor="{anchor}">{}</text>"##,
            at + beside,
            y.end + 13.0,
            escaped(text)
        )
    }
}

fn path(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.into_iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
    }
    path
}

impl Drawn<'_> {
    fn band(&self, out: &mut String, x: &Span, y: &Span) -> fmt::Result {
        let band = self.line.band.iter().filter(|(at, low, high)| x.has(*at) && y.has(*low) && y.has(*high));
        let above = band.clone().map(|(at, _, high)| (x.place(*at), y.place(*high)));
        let below = band.rev().map(|(at, low, _)| (x.place(*at), y.place(*low)));
        let outline = path(above.chain(below));
        if outline.is_empty() {
            return Ok(());
        }
        writeln!(out, r##"<path d="{outline}Z" fill="{}" fill-opacity=".13"/>"##, self.colour)
    }

    fn curve(&self, out: &mut String) -> fmt::Result {
        let (width, dashes) = match self.line.role {
            Role::Ours => (2.8, ""),
            Role::Peer => (1.9, ""),
            Role::Baseline => (1.6, r##" stroke-dasharray="5 4""##),
        };
        let (colour, curve) = (self.colour, path(self.points.iter().copied()));
        writeln!(
            out,
            r##"<path d="{curve}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"{dashes}/>"##
        )?;
        // Where there are few, each point is a figure that was measured.
        if self.points.len() <= 24 {
            for (x, y) in &self.points {
                writeln!(
                    out,
                    r##"<circle cx="{x:.1}" cy="{y:.1}" r="{:.1}" fill="{colour}"/>"##,
                    width + 0.4
                )?;
            }
        }
        Ok(())
    }

    /// The name at `place`, with a leader to the line's end where that is elsewhere.
    fn name(&self, out: &mut String, edge: f64, place: f64) -> fmt::Result {
        let Some((x, y)) = self.points.last() else { return Ok(()) };
        let (colour, from) = (self.colour, edge + 16.0);
        let leader = path([(x + 5.0, *y), (from - 3.0, place)]);
        writeln!(out, r##"<path d="{leader}" fill="none" stroke="{colour}" stroke-opacity=".45"/>"##)?;
        let weight = if self.line.role == Role::Ours { "600" } else { "400" };
        let name = escaped(&self.line.name);
        writeln!(
            out,
            r##"<text x="{from:.1}" y="{:.1}" class="n" fill="{colour}" font-weight="{weight}">{name}</text>"##,
            place + 4.5
        )
    }
}

/// As an SVG document.
impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.lines.iter().map(|line| width_of(&line.name)).fold(60.0, f64::max);
        let right = (WIDTH - 34.0 - widest).max(WIDTH / 2.0);
        let placed = |line: &Line| -> Vec<(f64, f64)> {
            let has_place =
                |(at, value): &(f64, f64)| has_place(self.x.scale, *at) && has_place(self.y.scale, *value);
            line.points.iter().copied().filter(has_place).collect()
        };
        let all: Vec<(f64, f64)> = self.lines.iter().flat_map(placed).collect();
        let x = Span::new(&self.x, all.iter().map(|point| point.0), LEFT, right);
        let bands = self.lines.iter().flat_map(|line| line.band.iter().map(|band| band.2));
        let y = Span::new(&self.y, all.iter().map(|point| point.1).chain(bands), HEIGHT - BOTTOM, TOP);
        let drawn: Vec<Drawn<'_>> = self
            .lines
            .iter()
            .zip(self.colours())
            .map(|(line, colour)| Drawn {
                line,
                colour,
                points: placed(line).into_iter().map(|(at, value)| (x.place(at), y.place(value))).collect(),
            })
            .collect();
        let mut out = String::new();
        self.axes(&mut out, &x, &y)?;
        self.mark(&mut out, &x, &y)?;
        for line in drawn.iter().rev() {
            line.band(&mut out, &x, &y)?;
        }
        for line in drawn.iter().rev() {
            line.curve(&mut out)?;
        }
        let ends: Vec<f64> =
            drawn.iter().filter_map(|line| line.points.last()).map(|point| point.1).collect();
        let places = spread(&ends, NAME_GAP, TOP, HEIGHT - BOTTOM);
        for (line, place) in drawn.iter().filter(|line| !line.points.is_empty()).zip(places) {
            line.name(&mut out, right, place)?;
        }
        let (title, subtitle) = (escaped(&self.title), escaped(&self.subtitle));
        write!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">
<style>text{{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif}}.h{{font-size:18px;font-weight:600;fill:#1f2328}}.s,.t,.a,.m{{font-size:12.5px;fill:#57606a}}.m{{fill:#1f2328}}.n{{font-size:13px}}</style>
<rect x=".5" y=".5" width="{:.1}" height="{:.1}" rx="10" fill="#ffffff" stroke="#d0d7de"/>
<text x="24" y="34" class="h">{title}</text>
<text x="24" y="55" class="s">{subtitle}</text>
{out}</svg>
"##,
            WIDTH - 1.0,
            HEIGHT - 1.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, kind: Kind) -> Axis {
        Axis { label: "what <it> is".into(), scale, kind }
    }

    fn line(name: &str, role: Role, points: &[(f64, f64)]) -> Line {
        let band = points.iter().map(|(x, y)| (*x, y * 0.9, y * 1.1)).collect();
        Line { name: name.into(), role, points: points.to_vec(), band }
    }

    fn chart(x: Axis, y: Axis, lines: Vec<Line>) -> String {
        let mark = Some((2.0, "the knee".to_string()));
        Chart { title: "a & b".into(), subtitle: "here".into(), x, y, lines, mark }.to_string()
    }

    /// Every number of the attribute, in order.
    fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
        let opening = format!(" {attribute}=\"");
        let parts = svg.split(&opening).skip(1);
        parts.filter_map(|part| part.split('"').next()?.parse().ok()).collect()
    }

    #[test]
    fn names_stand_at_the_ends_of_their_lines_and_apart() {
        let lines =
            ["one", "two", "three", "four"].map(|name| line(name, Role::Peer, &[(0.0, 1.0), (4.0, 5.0)]));
        let svg = chart(axis(Scale::Linear, Kind::Plain), axis(Scale::Linear, Kind::Nanos), lines.into());
        let mut places: Vec<f64> = ["one", "two", "three", "four"]
            .map(|name| {
                let tag = svg.lines().find(|line| line.contains(&format!(">{name}</text>"))).expect(name);
                numbers(tag, "y")[0]
            })
            .into();
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= NAME_GAP - 0.1), "{places:?}");
        assert!(places[0] > TOP && places[3] < HEIGHT - BOTTOM + 10.0, "{places:?}");
        // Unequal wishes that do not collide stay where they are.
        assert_eq!(spread(&[300.0, 100.0], 17.0, 78.0, 398.0), [300.0, 100.0]);
        assert_eq!(spread(&[100.0, 100.0, 398.0], 17.0, 78.0, 398.0), [100.0, 117.0, 398.0]);
    }

    #[test]
    fn text_cannot_break_the_document() {
        let svg = chart(
            axis(Scale::Linear, Kind::Plain),
            axis(Scale::Linear, Kind::Plain),
            vec![line("<script>", Role::Ours, &[(0.0, 1.0), (1.0, 2.0)])],
        );
        assert!(
            !svg.contains("<script>") && svg.contains("&lt;script&gt;") && svg.contains("a &amp; b"),
            "{svg}"
        );
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn everything_lies_within_the_picture_whatever_the_figures() {
        let odd = [(0.0, f64::NAN), (1.0, 0.0), (2.0, 1e-3), (3.0, f64::INFINITY), (4.0, 9e9)];
        for scale in [Scale::Linear, Scale::Log] {
            for points in [&odd[..], &[], &[(3.0, 7.0)]] {
                let lines = vec![
                    line("odd", Role::Ours, points),
                    line("even", Role::Baseline, &[(0.0, 1.0), (5.0, 3.0)]),
                ];
                let svg = chart(axis(Scale::Linear, Kind::Plain), axis(scale, Kind::Nanos), lines);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                for (attribute, most) in [("cx", WIDTH), ("cy", HEIGHT), ("x", WIDTH), ("y", HEIGHT)] {
                    let all = numbers(&svg, attribute);
                    assert!(all.iter().all(|at| (-0.1..=most).contains(at)), "{attribute}: {all:?}");
                }
            }
        }
    }

    #[test]
    fn a_distribution_ends_where_chance_begins() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        (1..=10_000).for_each(|n| histogram.record(n).unwrap());
        let chart = Chart::percentiles("t", "s", [("ours", Role::Ours, &histogram)]);
        let (last, value) = *chart.lines[0].points.last().unwrap();
        assert!(last <= 0.999 && last > 0.998 && value > 9_900.0, "{last} {value}");
        assert!(chart.to_string().contains(">99 %<"));
    }
}
