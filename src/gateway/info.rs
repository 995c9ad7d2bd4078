//! Commands about the server and its streams.
#![forbid(unsafe_code)]

use super::desk::{Call, Desk, Next, no_part};

pub(super) fn config(_: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.is(1, "GET") && call.len() > 2 {
        call.reply.map(0);
        return Next::Goes;
    }
    no_part(call)
}

pub(super) fn info(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.verbatim("# Server\r\nredis_version:7.0.0\r\n");
    Next::Goes
}

pub(super) fn length(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let counts = desk.shared.counts();
    match desk.publisher.stream(call.parser.arg(call.input, 1)) {
        Some(stream) => call.reply.integer(counts.streams[stream].accepted as i64),
        None => call.reply.integer(0),
    }
    Next::Goes
}

pub(super) fn stream(_: &mut Desk, call: &mut Call<'_>) -> Next {
    no_part(call)
}
