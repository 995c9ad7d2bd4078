//! Configurations of a gateway: every rule tells its problem where it stands, and its lists are read from files, variables and
//! options alike.
// Without `tls` encrypted addresses are refused besides.

use pelton::Profile;
use pelton::config::{Origin, Sources};
use pelton::engine::{Against, CLASS, Secret, Severity};
use pelton::host::Host;
use pelton_gateway::{KeyFrom, Options, Stream, configure};
use pelton_testkit::cases::{self, Case};
use pelton_testkit::gateway_config::{GOOD, good, of_text, read};
use pelton_views::{PastKeys, View};
use std::collections::BTreeSet;

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

#[test]
fn gateway_file_is_read_with_its_streams() {
    let (config, options) = good(&of_text(GOOD));
    let clicks = Stream { payload_max: Some(512), ..Stream::new("clicks", "bulk") };
    let orders = Stream::new("orders", "critical").keyed(KeyFrom::Field("user".into()));
    assert_eq!(options.streams, [orders, clicks]);
    assert_eq!(options.views, [View::count("per_user").over("orders").by("user")]);
    assert_eq!((options.threads, options.listen.len(), options.idle.unwrap().as_secs()), (3, 2, 60));
    assert_eq!(
        (options.plan.producers_max(), config.origins().of("producers_max").unwrap().to_string()),
        (3, "this command: as many as the gateway's threads".into())
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
