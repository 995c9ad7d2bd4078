//! A gateway's options from files, environment and the command line.

use crate::config::settings::{GATEWAY, Options};
use crate::config::stream::{STREAM, Stream};
use crate::config::validate::{STREAMS_MAX, VIEWS_MAX};
use pelton::config::{Base, Config, DerivedDefault, ListSpec, Rows, Rule, Scope, Sources, Table, layer};
use pelton::engine::{Plan, PlanError, Profile, Severity};
use pelton::host::Host;
use pelton::ring::event_layout;
use pelton_views::{VIEW, View};

/// The streams of a gateway as a list of tables: `[[stream]]`.
pub fn streams(streams: Vec<Stream>) -> Rows<Stream> {
    let spec = ListSpec {
        named: &["name", "class", "key"],
        why: "it decides what is lost under load and what keeps its order, so it must be named",
        example: "payload_max_bytes=1024",
        most: STREAMS_MAX,
    };
    Rows::list("stream", STREAM, spec, || Stream::new("", ""), streams)
}

/// The views of a gateway as a list of tables: `[[view]]`.
pub fn views(views: Vec<View>) -> Rows<View> {
    let spec = ListSpec {
        named: &["name", "stream", "measure"],
        why: "it decides what is told, and of what, so it must be named",
        example: "keys_max=1000",
        most: VIEWS_MAX,
    };
    Rows::list("view", VIEW, spec, View::default, views)
}

/// What the engine has as the gateway's settings have it.
const DERIVED: &[DerivedDefault<Options>] = &[DerivedDefault {
    setting: "producers_max",
    value: |options, _| Some(options.threads.into()),
    why: "as many as the gateway's threads",
}];

/// Lays everything that was written over `options`: the engine's settings over the plan that `base` makes of a profile
/// (without a file: of `dev`), `[gateway]`, each `[[stream]]` and each `[[view]]` over the rest. Tables of other commands are `others`, so
/// that one file does for all. `why` has the reasons for what the command has not as its profile has it, beside
/// [`Options::WHY`].
///
/// # Examples
/// ```
/// use pelton::config::Sources;
/// use pelton_gateway::{KeyFrom, Options, configure};
///
/// let text = r#"
/// profile = "balanced"
///
/// [gateway]
/// threads = 2
/// listen = ["127.0.0.1:6380"]
///
/// [[class]]
/// name = "orders"
/// share = "strict"
/// capacity_slots = 1_024
/// overflow = "reject"
/// payload_ring_bytes = 131_072
///
/// [[stream]]
/// name = "orders"
/// class = "orders"
/// key = "field:user"
///
/// [[view]]
/// name = "per_user"
/// stream = "orders"
/// measure = "count"
/// by = "user"
/// "#;
/// let sources = Sources { file: Some(("front.toml".into(), text.into())), ..Sources::default() };
/// let mut options = Options::default();
/// let config = configure(&sources, &mut options, &Options::base, &[], &mut [], None);
/// assert!(!config.problems().has_errors());
/// assert_eq!(options.streams[0].key, KeyFrom::Field("user".into()));
/// ```
///
/// # What is there at first
/// Classes of the plan that `base` makes are the command's: they may be changed, and no others declared. Streams and views of
/// `options` stand where nobody wrote any.
///
/// # Producers and memory
/// Where nobody names `producers_max`, there are as many as `threads`. What views and taps take is reserved, so that it stands
/// in the footprint and is checked with it ([`Options::reserve`]).
pub fn configure(
    sources: &Sources,
    options: &mut Options,
    base: &dyn Fn(Profile) -> Plan,
    why: &[(&str, &str)],
    others: &mut [&mut dyn Table],
    host: Option<&Host>,
) -> Config {
    let own = (options.streams.clone(), options.views.clone());
    let fixed_classes = !base(Profile::Dev).classes().is_empty();
    let why: Vec<_> = Options::WHY.iter().chain(why).copied().collect();
    let base = Base { plan: base, profile: Some(Profile::Dev), fixed_classes, why: &why };
    let (mut streams, mut views) = (streams(Vec::new()), views(Vec::new()));
    let mut gateway = Rows::one("gateway", GATEWAY, options.clone());
    let mut tables: Vec<&mut dyn Table> = vec![&mut gateway, &mut streams, &mut views];
    tables.extend(others.iter_mut().map(|other| &mut **other as &mut dyn Table));
    let mut config = layer(sources, &base, &mut tables);
    config.derive(&mut gateway, DERIVED);
    *options = gateway.into_one();
    (options.streams, options.views) = (streams.into_items(), views.into_items());
    // Where nobody wrote any, the command's stand; its views are over its own streams.
    if options.streams.is_empty() {
        if options.views.is_empty() {
            options.views = own.1;
        }
        options.streams = own.0;
    }
    options.plan = config.plan().clone();
    config.reserve(|plan| options.reserve(plan));
    config.check(Scope { event: Some(event_layout::<[u64; 3]>()), host });
    options.plan = config.plan().clone();
    let mut findings = options.all_findings(host);
    findings.retain(|finding| is_founded(&config, finding));
    // Advice waits until there is nothing worse.
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        findings.retain(|finding| finding.severity == Severity::Error);
    }
    config.add_near(&findings, &near);
    config
}

/// Where a finding stands whose own setting nobody wrote: at the one that it does not fit.
fn near(finding: &PlanError) -> Option<String> {
    let other = match finding.key() {
        "tls_certificate" | "tls_key" => "listen_tls",
        "top" => "values_max",
        _ => return None,
    };
    Some(format!("{}{other}", finding.setting.strip_suffix(finding.key())?))
}

/// Whether a finding reckons with what was meant: not with a setting that could not be read, or was not found.
fn is_founded(config: &Config, finding: &PlanError) -> bool {
    let problems = config.problems();
    if finding.severity == Severity::Warning {
        return !problems.has_errors();
    }
    // What is taken for none, or for not enough, may have been meant there.
    let also: &[&str] = match finding.key() {
        "class" | "stream" => &["name"],
        "payload_max_bytes" | "payload_ring_bytes" => &["payload_max_bytes", "payload_ring_bytes"],
        "threads" => &["producers_max"],
        "tls_certificate" | "tls_key" => &["listen_tls", "tls_certificate", "tls_key"],
        key if key.starts_with("listen") => &[
            "listen",
            "listen_critical",
            "listen_tls",
            "unix_socket",
            "password",
            "password_file",
            "exposed",
        ],
        _ => &[],
    };
    !problems.of(Severity::Error).any(|problem| {
        let key = problem.setting.rsplit_once(": ").map_or(problem.setting.as_str(), |(_, key)| key);
        problem.rule == Rule::Syntax
            || problem.setting == finding.setting
            || also.contains(&key)
            // A block that is none of the list may have been meant for one.
            || (problem.rule == Rule::Unknown && ["streams", "class", "stream", "listen"].contains(&finding.key()))
    })
}
