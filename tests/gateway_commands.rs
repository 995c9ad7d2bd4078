//! The commands of the gateway, but for `XADD`: what each answers, in both versions of the protocol, what it costs others,
//! and what subscribers receive.
#![cfg(all(feature = "gateway", feature = "audit"))]

#[path = "support/gateway.rs"]
mod gateway;
mod support;

use gateway::*;
use pelton::gateway::{End, Options};
use support::*;

/// A gateway with one stream, `s`.
fn roomy() -> Options {
    options(1, 1, [class("s", 1_024)])
}

/// Both versions of the protocol.
const VERSIONS: [&str; 2] = ["2", "3"];

/// A client that speaks this version.
#[track_caller]
fn speaking(site: &Site, version: &str) -> Client {
    let mut client = site.client();
    let hello = client.ask(&["HELLO", version]);
    assert_eq!(hello.of("proto"), &Reply::Integer(version.parse().unwrap()));
    client
}

/// Text after `name:` in an answer of `INFO`.
#[track_caller]
fn line<'a>(info: &'a str, name: &str) -> &'a str {
    let lines = info.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    lines.last().unwrap_or_else(|| panic!("no {name}: {info}"))
}

#[test]
fn clients_and_load_balancers_find_the_primary_that_they_look_for() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    for version in VERSIONS {
        let mut client = speaking(&site, version);
        let role = [Reply::Bulk("master".into()), Reply::Integer(0), Reply::Array(Vec::new())];
        assert_eq!(client.ask(&["ROLE"]).items(), role);
        for sections in [&["replication"][..], &["REPLICATION"], &["server", "replication"]] {
            let info = client.ask(&[&["INFO"], sections].concat()).text();
            assert_eq!((line(&info, "role"), line(&info, "connected_slaves")), ("master", "0"), "{info}");
        }
        let hello = client.ask(&["HELLO", version]);
        let info = client.ask(&["INFO"]).text();
        assert_eq!(hello.of("version").text(), line(&info, "redis_version"));
        assert_eq!((line(&info, "role"), line(&info, "cluster_enabled")), ("master", "0"));
        assert_eq!(client.ask(&["INFO", "nosuch"]).text(), "");
        assert!(client.ask(&["CLUSTER", "INFO"]).is_error("ERR This instance has cluster support disabled"));
    }
    site.settle(&Tally::default());
}

#[test]
fn keys_are_watched_and_streams_are_counted() {
    let _dog = watchdog();
    let site = Site::open(options(1, 1, [class("s", 64), class("other", 64)]));
    let mut tally = Tally::default();
    let mut client = site.client();
    for words in [&["WATCH", "s", "none"][..], &["UNWATCH"], &["MULTI"]] {
        assert_eq!(client.ask(words).text(), "OK");
    }
    assert!(client.ask(&["WATCH", "s"]).is_error("ERR WATCH inside MULTI is not allowed"));
    client.send(&[request(&["UNWATCH"]), xadd("s", "a", 1), request(&["EXEC"])].concat());
    assert!((0..2).all(|_| client.read().text() == "QUEUED"));
    let answers = client.read();
    assert_eq!(answers.items()[0].text(), "OK");
    client.note("s", &answers.items()[1], &mut tally);
    assert_eq!(client.ask(&["DBSIZE"]), Reply::Integer(2));
    assert_eq!(client.ask(&["XLEN", "s"]), Reply::Integer(1));
    assert_eq!(client.ask(&["XLEN", "other"]), Reply::Integer(0));
    // A name that is not declared is a mistake, which a zero would hide.
    assert!(client.ask(&["XLEN", "o\x1bther"]).is_error(r"NOSTREAM no stream 'o\u{1b}ther' is declared"));
    let time = client.ask(&["TIME"]);
    let numbers: Vec<u64> = time.items().iter().map(|item| item.text().parse().unwrap()).collect();
    assert!(numbers[0] > 1_700_000_000 && numbers[1] < 1_000_000, "{numbers:?}");
    site.settle(&tally);
}

#[test]
fn hello_that_fails_authenticates_nobody_and_counts_no_try() {
    let _dog = watchdog();
    let password = Some(pelton::engine::Secret::new("sesame"));
    let site = Site::open(Options { password, auth_tries_max: 1, ..roomy() });
    let mut client = site.client();
    for wrong in [
        &["HELLO", "3", "AUTH", "default", "sesame", "X"][..],
        &["HELLO", "3", "AUTH", "default", "sesame", "SETNAME", "a b"],
        &["HELLO", "3", "AUTH", "default", "wrong", "SETNAME"],
        &["HELLO", "4", "AUTH", "default", "sesame"],
    ] {
        assert!(matches!(client.ask(wrong), Reply::Error(_)), "{wrong:?}");
        assert!(client.ask(&["PING"]).is_error("NOAUTH "), "{wrong:?}");
    }
    let hello = client.ask(&["HELLO", "3", "SETNAME", "me", "AUTH", "default", "sesame"]);
    assert_eq!(hello.of("proto"), &Reply::Integer(3));
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]).text(), "me");
    let mut wrong = site.client();
    assert!(wrong.ask(&["AUTH", "wrong"]).is_error("WRONGPASS "));
    assert_eq!(wrong.next(), None);
    let report = site.settle(&Tally::default());
    assert_eq!(report.gateway.ended(End::Auth), 1);
}

#[test]
fn arguments_in_errors_cannot_command_a_terminal() {
    const ESCAPE: &str = "\x1b]0;x\x07\u{202e}";
    const SHOWN: &str = r"\u{1b}]0;x\u{7}\u{202e}";
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut client = site.client();
    for words in [
        &[ESCAPE][..],
        &["NOSUCH", ESCAPE],
        &["CLIENT", ESCAPE],
        &["HELLO", "3", ESCAPE],
        &["SUBSCRIBE", ESCAPE],
        &["PELTON.VIEW", ESCAPE],
        &["XLEN", ESCAPE],
        &["XADD", ESCAPE, "*", "a", "b"],
    ] {
        let Reply::Error(text) = client.ask(words) else { panic!("{words:?} is no error") };
        assert!(text.contains(SHOWN) && !text.contains('\x1b'), "{text:?}");
    }
    site.settle(&Tally::default());
}
