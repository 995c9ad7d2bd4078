"""Subscribes to a stream and publishes to it: every event comes, in order, or is told as lost where it is missing."""

import json
import time

from common import TIMEOUT_S, Checks, arguments, connect

args = arguments(__doc__, events=20_000, slow=False, text=1000)
checks = Checks()
client = connect(args, single_connection_client=True)
listener = connect(args).pubsub()
channel = "stream:" + args.stream
listener.subscribe(channel)
(confirmed,) = [listener.get_message(timeout=TIMEOUT_S)]
checks.equal("SUBSCRIBE", (confirmed["type"], confirmed["channel"]), ("subscribe", channel))

ids = []
# What the listener knows: the number of the event that is next, how many came, how many were told as lost.
seen = {"next": 0, "came": 0, "lost": 0}


def publish(of):
    pipe = client.pipeline(transaction=False)
    for n in range(len(ids), len(ids) + of):
        pipe.xadd(args.stream, {"n": n, "text": "é\"" + "x" * args.text})
    ids.extend(pipe.execute())


def listen_once():
    """Takes a message; false when none comes for half a second."""
    message = listener.get_message(timeout=0.5)
    if message is None:
        return False
    told = json.loads(message["data"])
    if "lost" in told:
        seen["lost"] += told["lost"]
        seen["next"] += told["lost"]
        return True
    n = int(told["fields"]["n"])
    # A gap that was not told, or an event that comes twice, shows here.
    checks.equal("the next event", (n, told["id"]), (seen["next"], ids[n]))
    checks.that("its text", told["fields"]["text"] == "é\"" + "x" * args.text)
    seen["came"] += 1
    seen["next"] = n + 1
    return True


def listen(until):
    """Takes messages until all up to `until` have come or are told as lost."""
    end = time.monotonic() + TIMEOUT_S
    while seen["next"] < until and time.monotonic() < end:
        listen_once()


if args.slow:
    # It takes nothing until all is published: more than sockets and its buffer have room for.
    while len(ids) < args.events:
        publish(500)
    # What was lost last is told before the next event that finds room, so there is one when all else has been taken.
    end = time.monotonic() + TIMEOUT_S
    while seen["next"] < len(ids) and time.monotonic() < end:
        if not listen_once():
            publish(1)
    checks.that("something is lost", seen["lost"] > 0)
else:
    while len(ids) < args.events:
        publish(500)
        listen(len(ids))
    checks.equal("nothing is lost", seen["lost"], 0)
checks.equal("all have come or are told as lost", seen["came"] + seen["lost"], len(ids))
listener.close()

checks.tell(accepted=len(ids), came=seen["came"], lost=seen["lost"])
