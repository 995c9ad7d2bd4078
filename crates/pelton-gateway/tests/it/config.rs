//! Configurations of a gateway: every rule tells its problem where it stands, its lists are read from files, variables and
//! options alike, what is written reads back the same, and nothing prints the password.
// Without `tls` encrypted addresses are refused besides.

use pelton::Profile;
use pelton::config::{Answers, Config, Diff, Notes, Origin, Rows, Scope, Sources, write};
use pelton::engine::{Against, CLASS, Secret, Setting, Severity};
use pelton::host::Host;
use pelton_gateway::{
    EVENT, GATEWAY, KeyFrom, Options, STREAM, Stream, answers, configure, draft, streams, views,
};
use pelton_testkit::Dice;
use pelton_testkit::cases::{self, Case};
use pelton_testkit::configs::any_value;
use pelton_views::{PastKeys, VIEW, View};
use std::collections::BTreeSet;

fn of_text(text: &str) -> Sources {
    Sources { file: Some(("it.toml".into(), text.into())), ..Sources::default() }
}

/// Reads what was written.
fn read(sources: &Sources, host: Option<&Host>) -> (Config, Options) {
    let mut options = Options::default();
    let config = configure(sources, &mut options, &Options::base, &[], &mut [], host);
    (config, options)
}

/// The options of what is right.
#[track_caller]
fn good(sources: &Sources) -> (Config, Options) {
    let (config, options) = read(sources, None);
    assert!(!config.problems().has_errors(), "{}\n{sources:?}", config.problems());
    (config, options)
}

fn all_cases() -> Vec<Case> {
    Case::all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config"), |sources, host| read(sources, host).0)
}

#[test]
fn every_problem_is_reported_at_its_location() {
    cases::are_kept(&all_cases());
}

#[test]
fn every_rule_has_its_bad_file() {
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/validate.rs")).unwrap();
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    let rows: BTreeSet<_> = rows.filter(|rule| *rule != "rule").map(str::to_string).collect();
    let with_files: BTreeSet<_> = all_cases().into_iter().flat_map(|case| case.rules).collect();
    assert_eq!(with_files, rows);
}

const GOOD: &str = r#"
profile = "dev"
shards = 2

[gateway]
threads = 3
listen = ["127.0.0.1:0", "[::1]:0"]
idle_s = 60

[[class]]
name = "critical"
share = "strict"
capacity_slots = 64
overflow = "block"
payload_ring_bytes = 4_096

[[class]]
name = "bulk"
share = "weighted"
capacity_slots = 64
overflow = "drop_newest"
payload_ring_bytes = 4_096

[[stream]]
name = "orders"
class = "critical"
key = "field:user"

[[stream]]
name = "clicks"
class = "bulk"
key = "round_robin"
payload_max_bytes = 512

[[view]]
name = "per_user"
stream = "orders"
measure = "count"
by = "user"
"#;

#[test]
fn gateway_file_is_read_with_its_streams() {
    let (config, options) = good(&of_text(GOOD));
    let clicks = Stream { payload_max: Some(512), ..Stream::new("clicks", "bulk") };
    let orders = Stream::new("orders", "critical").keyed(KeyFrom::Field("user".into()));
    assert_eq!(options.streams, [orders, clicks]);
    assert_eq!(options.views, [View::count("per_user").over("orders").by("user")]);
    assert_eq!((options.threads, options.listen.len(), options.idle.unwrap().as_secs()), (3, 2, 60));
    let all = config.explain(&[], Scope::default());
    let producers = all.iter().find(|row| row.info.key == "producers_max").unwrap();
    assert_eq!(
        (producers.value.to_string(), producers.origin.to_string()),
        ("3".into(), "this command: as many as the gateway's threads".into())
    );
    // What views and taps take are terms of the footprint.
    let footprint = options.plan.footprint_of(options.plan.event_layout());
    let term = |part: &str| footprint.terms.iter().find(|term| term.name.contains(part)).unwrap();
    assert_eq!(term("view 'per_user'").bytes(), 2 * pelton_views::Tally::bytes(&options.views[0]));
    // A slot is a line, and has 128 bytes of payload; there are three threads.
    let rings = 3 * u64::from(options.tap_slots) * (64 + 128);
    let taps = term("taps: events for subscribers");
    assert_eq!(taps.count, 2);
    assert!((rings..rings + 3 * 8_192).contains(&taps.bytes_each), "{} for {rings}", taps.bytes_each);
    // The thread that reads views has room for what all shards keep, once.
    let together = term("view 'per_user': all shards together");
    assert_eq!(together.count, 1);
    assert_eq!(together.bytes_each, pelton_views::Tally::bytes(&options.views[0].over_shards(2)));
    // A connection takes a few hundred bytes of its thread while it says nothing.
    let threads = term("gateway threads");
    let buffers = u64::from(options.read_budget_bytes + options.output_bytes_max);
    let places = (threads.bytes_each - buffers) / u64::from(options.connections_max);
    assert_eq!(threads.count, 3);
    assert!((100..4_096).contains(&places), "{places} bytes a connection");
    // The plan that is started is the one that was checked.
    assert_eq!(format!("{:?}", options.plan), format!("{:?}", config.plan()));
    assert!(options.plan.check::<[u64; 3]>().is_ok());
}

#[test]
fn cost_of_a_setting_is_what_its_minimum_would_save() {
    let mut text = GOOD.replace("threads = 3", "threads = 3\ntap_slots = 1_024\nconnections_max = 5_000");
    text += "keys_max = 500\nwindow_ms = 10_000\nslide_ms = 1_000\n";
    let (config, options) = good(&of_text(&text));
    let total = |text: &str| {
        let plan = good(&of_text(text)).1.plan;
        plan.footprint_of(EVENT).total_bytes()
    };
    let mut tables = (
        streams(options.streams.clone()),
        views(options.views.clone()),
        Rows { name: "gateway", rows: GATEWAY, of: options.clone() },
    );
    let mut all = config.explain(&[&mut tables.0, &mut tables.1, &mut tables.2], Scope::default());
    options.price(&mut all);
    let cost = |setting: &str| all.iter().find(|row| row.setting == setting).unwrap().cost_bytes;
    for (setting, said, least) in [
        ("gateway: tap_slots", "tap_slots = 1_024", "tap_slots = 64"),
        ("gateway: connections_max", "connections_max = 5_000", "connections_max = 1"),
        ("gateway: threads", "threads = 3", "threads = 1"),
        ("view 'per_user': keys_max", "keys_max = 500", "keys_max = 1"),
        ("view 'per_user': slide_ms", "slide_ms = 1_000", "slide_ms = \"window\""),
        ("shards", "shards = 2", "shards = 1"),
    ] {
        // Threads are producers where nobody says otherwise; their lanes are what producers_max costs.
        let least = text.replace(said, least).replace("[gateway]", "producers_max = 3\n\n[gateway]");
        assert_eq!(cost(setting), total(&text) - total(&least), "{setting}");
        assert!(cost(setting) > 0, "{setting}");
    }
    assert_eq!((cost("gateway: idle_s"), cost("stream 'orders': payload_max_bytes")), (0, 0));
}

#[test]
fn options_of_a_command_apply_where_nothing_else_is_set() {
    fn base(profile: Profile) -> pelton::Plan {
        let mut plan = Options::base(profile);
        plan.class(pelton::Class::strict("own").with_capacity(64).with_payload_bytes(4_096));
        plan
    }
    let read = |text: &str| {
        let mut options = Options::new(base(Profile::Dev));
        options.streams = vec![Stream::new("one", "own")];
        options.views = vec![View::count("all").over("one")];
        let config = configure(&of_text(text), &mut options, &base, &[], &mut [], None);
        (config, options)
    };
    let names = |options: &Options| {
        let streams: Vec<_> = options.streams.iter().map(|stream| stream.name.clone()).collect();
        (streams.join(" "), options.views.iter().map(|view| view.name.clone()).collect::<Vec<_>>().join(" "))
    };
    let class = "profile = \"dev\"\n[[class]]\nname = \"own\"\ncapacity_slots = 128\n";
    let view = "[[view]]\nname = \"few\"\nstream = \"one\"\nmeasure = \"count\"\n";
    let stream = "[[stream]]\nname = \"two\"\nclass = \"own\"\nkey = \"first\"\n";
    for (more, streams, views) in [("", "one", "all"), (view, "one", "few"), (stream, "two", "")] {
        let (config, options) = read(&format!("{class}{more}"));
        assert!(!config.problems().has_errors(), "{}", config.problems());
        assert_eq!(names(&options), (streams.into(), views.into()));
        assert_eq!((options.plan.classes()[0].name(), options.plan.classes().len()), ("own", 1));
        let capacity = CLASS.iter().find(|row| row.info.key == "capacity_slots").unwrap();
        assert_eq!(capacity.get(&options.plan.classes()[0]).to_string(), "128");
        assert!(options.plan.check::<[u64; 3]>().is_ok());
    }
    let (config, _) = read(&class.replace("\"own\"", "\"mine\""));
    assert!(
        config.problems().to_string().contains("this command has no class 'mine'"),
        "{}",
        config.problems()
    );
}

#[test]
fn draft_with_taps_keeps_to_the_memory_limit() {
    let answers = |memory_max: u64| Answers {
        memory_max: Some(memory_max),
        rate: 2_000_000,
        shards: Some(4),
        ..answers()
    };
    let total = |options: &Options| options.plan.footprint_of(options.plan.event_layout()).total_bytes();
    let wide = draft(&answers(1 << 30), None).unwrap();
    let limit = total(&wide.options) - 1;
    let less = draft(&answers(limit), None).unwrap();
    assert!(total(&less.options) <= limit, "{} of {limit}", total(&less.options));
    assert_eq!(less.options.streams.len(), 2);
    // It reads back as what was drafted.
    for drafted in [wide, less] {
        let (_, options) = good(&of_text(&drafted.write()));
        assert_eq!(format!("{:?}", options.streams), format!("{:?}", drafted.options.streams));
        assert_eq!(total(&options), total(&drafted.options));
    }
}

#[test]
fn variables_and_options_override_a_file_for_streams_too() {
    let mut sources = of_text(GOOD);
    let env = [
        ("PELTON_GATEWAY_LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("PELTON_GATEWAY_THREADS", "2"),
        ("PELTON_STREAM_ORDERS_KEY", "first"),
        ("PELTON_STREAM_CLICKS_PAYLOAD_MAX_BYTES", "100"),
        ("PELTON_CLASS_BULK_TTL_US", "9000000"),
    ];
    sources.environment = env.map(|(name, text)| (name.into(), text.into())).into();
    sources = sources
        .with_option("gateway.threads", "4")
        .with_option("stream", "orders:key=field:a:b,payload_max_bytes=64")
        .with_option("gateway.listen_critical", "127.0.0.1:3");
    let (config, options) = good(&sources);
    assert_eq!(options.listen, ["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!((options.threads, options.listen_critical.as_slice()), (4, &["127.0.0.1:3".to_string()][..]));
    assert_eq!(options.streams[0].key, KeyFrom::Field("a:b".into()));
    assert_eq!(
        options.streams.iter().map(|stream| stream.payload_max).collect::<Vec<_>>(),
        [Some(64), Some(100)]
    );
    let origin = |setting: &str| config.origins().of(setting).map(Origin::to_string);
    assert_eq!(origin("stream 'orders': key").as_deref(), Some("--stream"));
    assert_eq!(
        origin("stream 'clicks': payload_max_bytes").as_deref(),
        Some("PELTON_STREAM_CLICKS_PAYLOAD_MAX_BYTES")
    );
    assert_eq!(origin("stream 'clicks': class").as_deref(), Some("it.toml:31"));
    assert!(config.origins().has_table("stream") && !config.origins().has_table("str"));
}

/// Options that a made-up value was set in for half of all settings.
fn any_options(dice: &mut Dice) -> Options {
    fn some<T>(rows: &[Setting<T>], of: &mut T, dice: &mut Dice) {
        for row in rows.iter().filter(|row| !["name", "class", "password"].contains(&row.info.key)) {
            if dice.below(2) == 0 {
                row.set(of, any_value(row.info.kind, dice));
            }
        }
    }
    let mut options = good(&of_text(GOOD)).1;
    some(GATEWAY, &mut options, dice);
    for at in 0..dice.below(4) {
        options.streams.push(Stream::new(format!("stream {at} \"of\" many"), "bulk"));
    }
    options.streams.iter_mut().for_each(|stream| some(STREAM, stream, dice));
    options.views.push(View::sum("sum of 'all'", "x").over("clicks"));
    options.views.iter_mut().for_each(|view| some(VIEW, view, dice));
    options.plan = options.reserve(options.plan.clone());
    options
}

/// The options as a file.
fn written(options: &Options) -> String {
    let mut options = options.clone();
    let mut streams = streams(std::mem::take(&mut options.streams));
    let mut views = views(std::mem::take(&mut options.views));
    let plan = options.plan.clone();
    let mut gateway = Rows { name: "gateway", rows: GATEWAY, of: options };
    write(&plan, &[&mut gateway, &mut streams, &mut views], &Notes::new())
}

#[test]
fn written_file_reads_back_as_the_same_gateway() {
    for seed in 0..100 {
        let options = any_options(&mut Dice::new(seed));
        let text = written(&options);
        let again = read(&of_text(&text), None).1;
        // What a command settles is its own, whatever is written: it follows from where it starts.
        let [said, again] = [options, again].map(|options| {
            let all = format!("{options:?}");
            let (before, settled) = all.split_once("settled: [").unwrap();
            format!("{before}{}", settled.split_once("], memory_max").unwrap().1)
        });
        assert_eq!(said, again, "seed {seed}\n{text}");
    }
}

/// What differs between two texts.
fn between(texts: [&str; 2]) -> Diff {
    let [mut one, mut two] = texts.map(|text| {
        let (config, mut options) = good(&of_text(text));
        let streams = streams(std::mem::take(&mut options.streams));
        (config, Rows { name: "gateway", rows: GATEWAY, of: options }, streams)
    });
    Diff::between((&one.0, &[&mut one.1, &mut one.2]), (&two.0, &[&mut two.1, &mut two.2]), Scope::default())
}

#[test]
fn diff_names_streams_and_no_secret() {
    assert_eq!(between([GOOD, GOOD]), Diff::default());
    let with =
        |password: &str| GOOD.replace("threads = 3", &format!("threads = 3\npassword = \"{password}\""));
    let other = with("hush").replace("\"clicks\"", "\"views\"").replace("field:user", "first");
    let diff = between([&with("hash"), &other]);
    assert_eq!(
        (&diff.added[..], &diff.removed[..]),
        (&["stream 'views'".to_string()][..], &["stream 'clicks'".to_string()][..])
    );
    let told: Vec<_> = diff
        .settings
        .iter()
        .map(|change| {
            let side = |side: &Option<pelton::config::Side>| {
                side.as_ref().map_or("-".to_string(), |side| side.value.to_string())
            };
            format!("{}: {} -> {}", change.setting, side(&change.before), side(&change.after))
        })
        .collect();
    assert_eq!(
        told,
        [
            "gateway: password: set -> set",
            "stream 'orders': key: field:user -> first",
            "stream 'clicks': name: clicks -> -",
            "stream 'clicks': class: bulk -> -",
            "stream 'clicks': payload_max_bytes: 512 -> -",
            "stream 'views': name: - -> views",
            "stream 'views': class: - -> bulk",
            "stream 'views': payload_max_bytes: - -> 512",
        ]
    );
    assert!(!format!("{diff:?}").contains("hush"));
}

#[test]
fn public_addresses_need_a_password_or_exposed() {
    let open = GOOD.replace("127.0.0.1:0", "0.0.0.0:0");
    assert!(read(&of_text(&open), None).0.problems().has_errors());
    for more in ["exposed = true", "password = \"hush\"", "password_file = \"secret\""] {
        let (_, options) = good(&of_text(&open.replace("threads = 3", &format!("threads = 3\n{more}"))));
        assert!(!format!("{options:?}").contains("hush"));
    }
    let environment = ("PELTON_GATEWAY_PASSWORD".to_string(), "hush".to_string());
    let (_, options) = good(&Sources { environment: vec![environment], ..of_text(&open) });
    assert_eq!(options.secret().unwrap(), Some(Secret::new("hush")));
    // What is written out has no password, and so is not taken for a gateway that others reach.
    let text = written(&options);
    assert!(text.contains("# password is set, and not written out") && !text.contains("hush"), "{text}");
    assert!(read(&of_text(&text), None).0.problems().has_errors());
}

#[test]
fn password_is_the_first_line_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let options = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Options { password_file: Some(path.clone()), ..Options::default() }
    };
    for text in ["hush", "hush\n", "hush\r\nno more of it\n"] {
        assert_eq!(options(text).secret(), Ok(Some(Secret::new("hush"))));
    }
    assert_eq!(Options::default().secret(), Ok(None));
    for text in ["", "\nhush"] {
        let told = options(text).secret().unwrap_err();
        assert!(told.limit.contains("a password on its first line"), "{told}");
        // A check says what the start would.
        assert_eq!(options(text).findings_here(&Host::unknown()), [told]);
    }
    std::fs::remove_file(&path).unwrap();
    let gone = Options { password_file: Some(path), ..Options::default() };
    assert_eq!(gone.secret().unwrap_err().against, Against::Host);
    assert_eq!(gone.findings_here(&Host::unknown()).len(), 1);
}

#[test]
fn options_made_in_code_are_validated_too() {
    let mut plan = Options::base(Profile::Dev);
    plan.class(pelton::Class::strict("orders").with_payload_bytes(4_096));
    let mut options = Options::new(plan);
    assert_eq!(
        options.findings().iter().map(|finding| finding.setting.as_str()).collect::<Vec<_>>(),
        ["streams"]
    );
    options.streams.push(Stream::new("orders", "orders"));
    assert_eq!(options.findings(), []);
    (options.unix_mode, options.stop_deadline) = (0o777, std::time::Duration::ZERO);
    let told: Vec<_> = options.findings().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "gateway: unix_mode is '0777', but must be one of 0600, 0660, 0666; '0600' would work",
            "gateway: stop_deadline_ms is 0, but must be from 1 to 3600000; 1 would work",
        ]
    );
}

#[test]
fn view_whose_windows_do_not_fit_a_subscriber_is_a_warning() {
    let advice = |view: View, subscriber_bytes_max| {
        let mut plan = Options::base(Profile::Dev).with_shards(2);
        plan.class(pelton::Class::strict("orders").with_payload_bytes(4_096));
        let mut options = Options { subscriber_bytes_max, ..Options::new(plan) };
        options.streams.push(Stream::new("orders", "orders"));
        options.views.push(view.over("orders"));
        options.findings()
    };
    let second = std::time::Duration::from_secs(1);
    let by_user = |keys| View::count("users").by("user").keys(keys, PastKeys::Other).tumbling(second);
    let found = advice(by_user(50_000), 1 << 20);
    assert_eq!((found.len(), found[0].setting.as_str()), (1, "view 'users': keys_max"));
    assert_eq!(found[0].severity, Severity::Warning);
    // Either of what is said to work does.
    let (fits, rest) = found[0].works.split_once(", or subscriber_max_bytes = ").unwrap();
    assert_eq!(advice(by_user(fits.parse().unwrap()), 1 << 20), []);
    assert_eq!(advice(by_user(50_000), rest.trim_end_matches(',').parse().unwrap()), []);
    // Without windows nothing is sent; a single row fits, unless it is a long one.
    assert_eq!(advice(View { window_ms: None, ..by_user(50_000) }, 1 << 20), []);
    assert_eq!(advice(View::count("all").tumbling(second), 1 << 10), []);
    let found = advice(View::top_of("pages", "page").top(5_000).tumbling(second), 1 << 17);
    assert_eq!((found.len(), found[0].setting.as_str()), (1, "view 'pages': top"));
}
