//! The gateway that `pelton up` serves: streams for every policy, views over them, and the words with which to try them.

use crate::failure::Failure;
use crate::output::format::{bytes, clean, count, many};
use crate::output::page::{Page, Rows};
use crate::settings::config::{COMMAND, Loaded};
use crate::weblog::CLASS_NAMES;
use pelton::class::Stamp;
use pelton::config::Sources;
use pelton::{Class, Plan, Profile};
use pelton_gateway::{BoundAddress, KeyFrom, ListenerKind, Options, ServeError, Server, Stream};
use pelton_views::View;
use std::time::Duration;

/// Any port that is free.
const ANY_PORT: &str = "127.0.0.1:0";

/// Bytes of each lane's payload ring.
const RING_BYTES: u32 = 64 << 10;

/// The gateway, loaded and ready to be started.
pub struct Front {
    pub loaded: Loaded,
    pub options: Options,
}

/// Its classes have the names of the replay's, so that a file, a variable or an option is one for both.
fn base(profile: Profile) -> Plan {
    let mut plan = Options::base(profile);
    let [critical, high, bulk] = CLASS_NAMES;
    let class = |class: Class| class.with_capacity(1_024).with_payload_bytes(RING_BYTES);
    plan.class(class(Class::strict(critical)).reject().with_stamp(Stamp::Every));
    plan.class(class(Class::strict(high)).drop_newest().with_stamp(Stamp::Every));
    plan.class(class(Class::weighted(bulk, 1)).block().with_stamp(Stamp::OneIn(64)));
    plan
}

fn start() -> Options {
    let [critical, high, bulk] = CLASS_NAMES;
    let mut options = Options::new(base(Profile::Dev));
    options.streams = vec![
        Stream::new("orders", critical).keyed(KeyFrom::Field("user".into())),
        Stream::new("prices", high).keyed(KeyFrom::Field("symbol".into())),
        Stream::new("events", bulk),
    ];
    options.views = vec![
        View::sum("spent", "amount").over("orders").by("user"),
        View::last("last_price", "price").over("prices").by("symbol"),
        View::top_of("pages", "page").over("events"),
        View::count("per_second").over("events").tumbling(Duration::from_secs(1)),
    ];
    options
}

impl Front {
    /// What is in effect of it.
    pub fn of(sources: &Sources) -> Result<Front, Failure> {
        let mut options = start();
        let loaded = Loaded::gateway(sources, &mut options, &base, Some("the page below says more"))?;
        Ok(Front { loaded, options })
    }

    /// Starts it. Where nobody has named an address and the usual one is taken, it listens at a port that is free.
    pub fn start(loaded: &Loaded, options: Options) -> Result<Server, ServeError> {
        let may_choose = loaded.origin("gateway: listen", None) == COMMAND;
        match Server::start(options.clone()) {
            Err(ServeError::Listen(error)) if may_choose && error.is_in_use() => {
                Server::start(Options { listen: vec![ANY_PORT.into()], ..options })
            }
            started => started,
        }
    }
}

/// What is served, and how to talk to it.
pub fn greet(page: &mut Page, options: &Options, server: &Server) -> Result<(), Failure> {
    let places = server.addresses();
    let usual = start().listen;
    let is_taken = |address: &&String| places.iter().all(|place| place.address != **address);
    // Only who has not named an address is given another one.
    for taken in usual.iter().filter(is_taken).filter(|_| options.listen == usual) {
        page.note(&format!("{taken} is taken: it listens at a port that was free; --listen names one"))?;
    }
    streams(page, options)?;
    views(page, options)?;
    let plan = server.engine().plan();
    page.note(&format!(
        "{}, {}; {} of memory",
        many(plan.placements().len() as u64, "shard"),
        many(options.threads.into(), "gateway thread"),
        bytes(plan.footprint_of(pelton_gateway::EVENT).total_bytes())
    ))?;
    page.title("From another terminal")?;
    if let Some(client) = places.first().map(|place| client(place, options)) {
        for said in [
            "XADD orders '*' user 7 amount 19.90",
            "XADD prices '*' symbol PLT price 101.5",
            "XADD events '*' page /home",
            "PELTON.VIEW spent KEY 7",
            "PELTON.VIEW pages TOP 3",
            "SUBSCRIBE stream:orders view:per_second",
        ] {
            page.raw(&format!("  {client} {said}"))?;
        }
    }
    page.raw("")?;
    page.note(
        "Ctrl-C stops it and shows its report. `pelton init --gateway` drafts a configuration of your own, and \
         `pelton run --config FILE` serves it.",
    )
}

/// The streams, each with its class and what happens when a lane is full.
fn streams(page: &mut Page, options: &Options) -> Result<(), Failure> {
    page.title("Streams")?;
    let mut rows = Rows::new(5, ["stream", "class", "share", "where a lane is full", "key"]);
    for stream in &options.streams {
        let Some(class) = options.plan.classes().iter().find(|class| class.name() == stream.class) else {
            continue;
        };
        let value = |key: &str| {
            let row = pelton::engine::CLASS.iter().find(|row| row.info.key == key);
            row.map_or(String::new(), |row| row.get(class).to_string())
        };
        let [share, overflow] = ["share", "overflow"].map(value);
        rows.row([
            clean(&stream.name, 24),
            clean(&stream.class, 24),
            share,
            overflow,
            clean(&stream.key.word(), 24),
        ]);
    }
    page.table(&mut rows)
}

/// The views, each with what it measures.
fn views(page: &mut Page, options: &Options) -> Result<(), Failure> {
    page.title("Views")?;
    let mut rows = Rows::new(5, ["view", "stream", "measure", "by", "window"]);
    for view in &options.views {
        let field = view.field.as_deref().map_or(String::new(), |field| format!(" of {field}"));
        let by = view.by.clone().unwrap_or_default();
        let window = view.window_ms.map_or("since start".into(), |ms| format!("{} ms", count(ms)));
        let measure = format!("{}{field}", view.measure.name());
        rows.row([&view.name, &view.stream, &measure, &by, &window].map(|text| clean(text, 24)));
    }
    page.table(&mut rows)
}

/// A client's command, up to what it says.
fn client(place: &BoundAddress, options: &Options) -> String {
    let (address, tls) =
        (place.address.as_str(), if place.kind == ListenerKind::Tls { " --tls" } else { "" });
    let whose = if options.password.is_some() || options.password_file.is_some() { " --askpass" } else { "" };
    let to = match (place.kind, address.rsplit_once(':')) {
        (ListenerKind::Unix, _) | (_, None) => format!("-s {address}"),
        (_, Some(("127.0.0.1", port))) => format!("-p {port}"),
        (_, Some((host, port))) => format!("-h {} -p {port}", host.trim_matches(['[', ']'])),
    };
    format!("redis-cli {to}{tls}{whose}")
}
