//! Windows of views: each window that closes after a subscription is confirmed is sent once, or counted as lost.

use crate::support::{error_of, measured, viewed};
use pelton::event::ShardId;
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use pelton_views::View;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long after its end a window of arrival time is sent.
const GRACE: Duration = Duration::from_millis(20);

/// How often views of event time are looked at.
const LOOK: Duration = Duration::from_millis(50);

#[test]
fn view_subscribers_receive_each_closed_window_once() {
    const WINDOW_MS: u64 = 250;
    let _dog = watchdog();
    let views =
        [View::count("w").over("s").tumbling(Duration::from_millis(WINDOW_MS)), View::count("all").over("s")];
    let (options, time) = by_hand(viewed(1, views));
    let site = Site::open(options);
    // A window that has ended is sent a little later.
    time.advance(GRACE);
    let mut tally = Tally::default();
    let mut listeners = [site.client(), site.client()];
    listeners.iter_mut().for_each(|client| {
        client.ask(&["SUBSCRIBE", "view:w"]);
    });
    let stop = AtomicBool::new(false);
    let windows = std::thread::scope(|scope| {
        // Others ask all the time, and keep nobody from being told.
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = site.client();
                while !stop.load(Ordering::Relaxed) {
                    client.send(&request(&["PELTON.VIEW", "all"]).repeat(16));
                    (0..16).for_each(|_| drop(client.read()));
                }
            });
        }
        let told = scope.spawn(|| {
            let mut client = site.client();
            let (mut tally, mut n) = (Tally::default(), 0);
            while !stop.load(Ordering::Relaxed) {
                client.send(&xadd("s", "a", n));
                client.take("s", 1, &mut tally);
                n += 1;
            }
            tally
        });
        let mut windows = [Vec::new(), Vec::new()];
        for _ in 0..8 {
            let before = site.server.counts().streams[0].accepted;
            site.until("there are events in it", |counts| counts.streams[0].accepted > before + 10);
            time.advance(Duration::from_millis(WINDOW_MS));
            for (client, windows) in listeners.iter_mut().zip(&mut windows) {
                let message = client.read();
                assert_eq!(message.items()[1].text(), "view:w");
                let json: serde_json::Value = serde_json::from_str(&message.items()[2].text()).unwrap();
                let count = json["rows"][0][1].as_u64().unwrap_or(0);
                assert_eq!(json["events"], count);
                windows.push((json["end"].as_u64().unwrap(), count));
            }
        }
        stop.store(true, Ordering::Relaxed);
        tally.add(told.join().unwrap());
        windows
    });
    for windows in &windows {
        assert!(windows.windows(2).all(|two| two[1].0 == two[0].0 + WINDOW_MS), "{windows:?}");
    }
    let [one, other] = windows.map(BTreeMap::from_iter);
    for (end, count) in &one {
        assert!(other.get(end).is_none_or(|others| others == count), "{one:?} {other:?}");
    }
    assert!(one.values().sum::<u64>() <= tally.of("s").ids.len() as u64);
    site.settle(&tally);
}

#[test]
fn windows_that_cannot_be_sent_are_counted() {
    const WINDOW_MS: u64 = 20;
    let _dog = watchdog();
    const WINDOW: Duration = Duration::from_millis(WINDOW_MS);
    let (options, time) = by_hand(viewed(1, [View::count("w").over("s").tumbling(WINDOW)]));
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let (mut client, mut listener) = (site.client(), site.client());
    listener.ask(&["SUBSCRIBE", "view:w"]);
    let json = |message: &Reply| -> serde_json::Value {
        assert_eq!(message.items()[1].text(), "view:w");
        serde_json::from_str(&message.items()[2].text()).unwrap()
    };
    // The end of the window that came last, how many were lost and how many events were told.
    let (mut end, mut lost, mut events) = (None, 0, 0);
    let mut hear = |message: Reply| {
        let json = json(&message);
        assert_eq!(json["view"], "w");
        if let Some(n) = json["lost"].as_u64() {
            lost += n;
            end = end.map(|end| end + n * WINDOW_MS);
        } else {
            let now = json["end"].as_u64().unwrap();
            assert!(end.is_none_or(|end| now == end + WINDOW_MS), "{now} behind {end:?}, {lost} lost");
            (end, events) = (Some(now), events + json["events"].as_u64().unwrap());
        }
        (end, lost, events)
    };
    time.advance(WINDOW);
    let last_ms = hear(listener.read()).0.unwrap();
    client.send(&xadd("s", "a", 0));
    client.take("s", 1, &mut tally);
    // From here on the shard waits.
    site.door.until_waiting(1);
    time.advance(40 * WINDOW);
    let until_ms = last_ms + 40 * WINDOW_MS;
    // The newest event decides which windows are still kept.
    client.send(&xadd("s", "a", 1));
    client.take("s", 1, &mut tally);
    site.door.open();
    let mut heard = (Some(last_ms), 0, 0);
    while heard.1 == 0 || heard.0.unwrap() < until_ms + 10 * WINDOW_MS {
        time.advance(WINDOW);
        while let Some(message) = listener.within(Duration::from_millis(2)) {
            heard = hear(message);
        }
    }
    assert!(heard.1 >= 20 && heard.2 <= 2, "{heard:?}");
    // Some may be lost between the last look and this one; none is forgotten.
    let Reply::Integer(all) = client.ask(&["PELTON.VIEW", "w"]).of("lost").clone() else {
        panic!("no number")
    };
    assert!(all >= heard.1 as i64, "{all} of {heard:?}");
    site.settle(&tally);
}

/// What a subscriber was told of a view's windows, each behind the other.
#[derive(Default)]
struct Windows {
    /// The end of the last that was told or lost.
    end_ms: Option<u64>,
    told: Vec<serde_json::Value>,
    lost: u64,
}

impl Windows {
    #[track_caller]
    fn hear(&mut self, message: &Reply, view: &str, window_ms: u64) {
        assert_eq!(message.items()[1].text(), format!("view:{view}"));
        let json: serde_json::Value = serde_json::from_str(&message.items()[2].text()).unwrap();
        if let Some(lost) = json["lost"].as_u64() {
            self.lost += lost;
            self.end_ms = self.end_ms.map(|end_ms| end_ms + lost * window_ms);
            return;
        }
        let end_ms = json["end"].as_u64().unwrap();
        let next_ms = self.end_ms.map_or(end_ms, |last_ms| last_ms + window_ms);
        assert_eq!(end_ms, next_ms, "{json} behind {:?}, {} lost", self.told, self.lost);
        self.end_ms = Some(end_ms);
        self.told.push(json);
    }
}

#[test]
fn each_window_closed_after_the_confirmation_is_sent_once() {
    const AT_MS: u64 = 1_500_000_000_000;
    const WINDOW_MS: u64 = 1_000;
    let _dog = watchdog();
    let view = |n: usize| {
        let view = View::count(format!("w{n}")).over("s").tumbling(Duration::from_millis(WINDOW_MS));
        view.event_time(format!("t{n}"), Duration::ZERO)
    };
    let mut options = viewed(2, (0..8).map(view));
    options.threads = 2;
    options.plan = options.plan.with_producers_max(2);
    let (options, time) = by_hand(options);
    let site = Site::open(options);
    let mut tally = Tally::default();
    let (mut client, mut n) = (site.client(), 0u64);
    let mut observe = |view: usize, time_ms: u64| {
        n += 1;
        let (field, time_text) = (format!("t{view}"), time_ms.to_string());
        client.send(&request(&["XADD", "s", "*", "who", &n.to_string(), &field, &time_text]));
        client.take("s", 1, &mut tally);
        // A shard that has yet to handle one closes nothing by it.
        assert!(site.server.engine().drain(DEADLINE));
        // What a batch has closed is noted at its end; a shard answers between two polls.
        for shard in [0, 1] {
            site.server.ask(ShardId(shard), |_: &mut Book| ()).unwrap();
        }
        // Views of event time are looked at now and then.
        time.advance(LOOK);
    };
    for view in 0..8 {
        // Of some there was something before, and nothing of it closed yet.
        let mut first_ms = AT_MS;
        if view % 2 == 1 {
            first_ms -= WINDOW_MS;
            observe(view, first_ms);
        }
        let mut listeners = [site.client(), site.client()].map(|client| (client, Windows::default()));
        let name = format!("w{view}");
        for (listener, _) in &mut listeners {
            assert_eq!(listener.ask(&["SUBSCRIBE", &format!("view:{name}")]).items()[2], Reply::Integer(1));
        }
        for at_ms in (AT_MS..AT_MS + 5 * WINDOW_MS).step_by(WINDOW_MS as usize) {
            observe(view, at_ms);
            for (listener, windows) in &mut listeners {
                while at_ms > first_ms && windows.end_ms != Some(at_ms) {
                    windows.hear(&listener.read(), &name, WINDOW_MS);
                }
            }
        }
        let closed = (AT_MS + 4 * WINDOW_MS - first_ms) / WINDOW_MS;
        for (listener, windows) in &mut listeners {
            assert_eq!((windows.told.len() as u64, windows.lost), (closed, 0), "{view}: {:?}", windows.told);
            assert!(windows.told.iter().all(|window| window["events"] == 1), "{:?}", windows.told);
            listener.ask(&["UNSUBSCRIBE"]);
        }
    }
    site.settle(&tally);
}

#[test]
fn windows_closed_right_after_the_confirmation_are_sent_or_counted() {
    const AT_MS: u64 = 1_700_000_000_000;
    const WINDOW_MS: u64 = 1_000;
    let _dog = watchdog();
    let view = View::count("w").over("s").tumbling(Duration::from_millis(WINDOW_MS));
    let site = Site::open(viewed(1, [view.event_time("t", Duration::ZERO)]));
    let mut tally = Tally::default();
    let (mut client, mut listener) = (site.client(), site.client());
    let times = |range: std::ops::Range<u64>| -> Vec<u8> {
        range.flat_map(|n| measured("a", Some(AT_MS + n * WINDOW_MS), None)).collect()
    };
    let mut windows = Windows::default();
    listener.ask(&["SUBSCRIBE", "view:w"]);
    for (range, closed) in [(0..12, 11), (12..100, 99)] {
        let count = range.end - range.start;
        client.send(&times(range));
        client.take("s", count, &mut tally);
        while windows.end_ms != Some(AT_MS + closed * WINDOW_MS) {
            windows.hear(&listener.read(), "w", WINDOW_MS);
        }
        assert_eq!(windows.told.len() as u64 + windows.lost, closed, "{:?}", windows.told);
    }
    let figures = ["events", "late", "ahead", "untimed", "missing", "past", "saturated", "rounded"];
    for window in &windows.told {
        assert_eq!(figures.map(|name| window[name].as_u64()), [1, 0, 0, 0, 0, 0, 0, 0].map(Some), "{window}");
    }
    assert_eq!(*client.ask(&["PELTON.VIEW", "w"]).of("lost"), Reply::Integer(windows.lost as i64));
    site.settle(&tally);
}

#[test]
fn arrival_time_windows_are_sent_from_the_confirmation_on() {
    const WINDOW_MS: u64 = 100;
    let _dog = watchdog();
    let view = |n| View::count(format!("w{n}")).over("s").tumbling(Duration::from_millis(WINDOW_MS));
    let (options, time) = by_hand(viewed(1, (0..8).map(view)));
    let site = Site::open(options);
    let mut now_ms = 1_577_836_800_000;
    let mut pass = |span_ms: u64| {
        time.advance(Duration::from_millis(span_ms));
        now_ms += span_ms;
        now_ms
    };
    for n in 0..8 {
        // Somewhere in a window.
        let now_ms = pass(37);
        let mut listener = site.client();
        listener.ask(&["SUBSCRIBE", &format!("view:w{n}")]);
        pass(WINDOW_MS);
        let mut windows = Windows::default();
        while windows.told.is_empty() {
            windows.hear(&listener.read(), &format!("w{n}"), WINDOW_MS);
        }
        let start_ms = windows.told[0]["start"].as_u64().unwrap() - windows.lost * WINDOW_MS;
        assert!(start_ms <= now_ms, "{start_ms} {now_ms}");
        // Windows that were closed before are sent to nobody.
        assert!(start_ms + WINDOW_MS > now_ms - GRACE.as_millis() as u64, "{start_ms} {now_ms}");
    }
    site.settle(&Tally::default());
}

#[test]
fn subscribing_to_a_view_without_windows_is_an_error() {
    let _dog = watchdog();
    let windows = View::count("windows").over("s").tumbling(Duration::from_millis(50));
    let (options, time) = by_hand(viewed(1, [View::count("all").over("s"), windows]));
    let site = Site::open(options);
    let mut listener = site.client();
    for (command, name) in [("SUBSCRIBE", "view:all"), ("PSUBSCRIBE", "view:a*")] {
        let answer = listener.ask(&[command, name]);
        let text = error_of(&answer);
        let is_clear = text.starts_with(&format!("NOCHANNEL '{name}' ")) && text.contains("PELTON.VIEW all ");
        assert!(is_clear, "{text}");
    }
    assert!(listener.ask(&["SUBSCRIBE", "view:none"]).is_error("NOCHANNEL "));
    // A pattern matches those that are told, and of them alone something comes.
    let confirmed = listener.ask(&["PSUBSCRIBE", "view:*"]);
    assert_eq!(confirmed.items()[2], Reply::Integer(1));
    time.advance(Duration::from_millis(50));
    assert_eq!(listener.read().items()[2].text(), "view:windows");
    site.settle(&Tally::default());
}
