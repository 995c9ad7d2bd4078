//! What the program makes of a gateway, by its library's face: what is written reads back the same, what is explained,
//! compared and drafted is what is in effect, and nothing prints the password.

use pelton::config::{Scope, Sources};
use pelton::engine::Setting;
use pelton_cli::settings::answers::Answers;
use pelton_cli::settings::config::shared;
use pelton_cli::settings::diff::{Diff, Side};
use pelton_cli::settings::explain::explain;
use pelton_cli::settings::gateway::{answers, draft, price, tables};
use pelton_cli::settings::write::{Notes, write};
use pelton_gateway::{EVENT, GATEWAY, Options, STREAM, Stream};
use pelton_testkit::Dice;
use pelton_testkit::configs::any_value;
use pelton_testkit::gateway_config::{GOOD, good, of_text, read};
use pelton_views::{VIEW, View};

#[test]
fn cost_of_a_setting_is_what_its_minimum_would_save() {
    let mut text = GOOD.replace("threads = 3", "threads = 3\ntap_slots = 1_024\nconnections_max = 5_000");
    text += "keys_max = 500\nwindow_ms = 10_000\nslide_ms = 1_000\n";
    let (config, options) = good(&of_text(&text));
    let total = |text: &str| {
        let plan = good(&of_text(text)).1.plan;
        plan.footprint_of(EVENT).total_bytes()
    };
    let tables = tables(options.clone());
    let mut all = explain(config.plan(), config.origins(), &shared(&tables), Scope::default());
    price(&options, &mut all);
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
    write(&options.plan, &shared(&tables(options.clone())), &Notes::new())
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
    let [one, two] = texts.map(|text| {
        let (config, options) = good(&of_text(text));
        (config, tables(options))
    });
    Diff::between((&one.0, &shared(&one.1)), (&two.0, &shared(&two.1)), Scope::default())
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
            let side =
                |side: &Option<Side>| side.as_ref().map_or("-".to_string(), |side| side.value.to_string());
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
fn written_gateway_has_no_password() {
    let open = GOOD.replace("127.0.0.1:0", "0.0.0.0:0");
    let environment = ("PELTON_GATEWAY_PASSWORD".to_string(), "hush".to_string());
    let (_, options) = good(&Sources { environment: vec![environment], ..of_text(&open) });
    // What is written out has no password, and so is not taken for a gateway that others reach.
    let text = written(&options);
    assert!(text.contains("# password is set, and not written out") && !text.contains("hush"), "{text}");
    assert!(read(&of_text(&text), None).0.problems().has_errors());
}
