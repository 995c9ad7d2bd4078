"""Publishes in pipelines, and counts what every single event was told."""

import redis

from common import Checks, arguments, connect, numbers

args = arguments(__doc__, events=10_000, pipeline=500, until_refused=False, rounds_max=200)
checks = Checks()
client = connect(args, single_connection_client=True)
told = {"accepted": 0, "busy": 0, "dropped": 0, "errors": {}}
sent, last = 0, (0, 0)


def publish(of):
    """One pipeline of `of` events."""
    global sent, last
    pipe = client.pipeline(transaction=False)
    for n in range(sent, sent + of):
        pipe.xadd(args.stream, {"n": n, "text": "x" * 24})
    sent += of
    for answer in pipe.execute(raise_on_error=False):
        if isinstance(answer, str):
            now = numbers(answer)
            checks.that("ids increase", now > last, answer)
            last = now
            told["accepted"] += 1
            continue
        # redis-py takes the first word off where it knows it, and leaves it where not.
        word = str(answer).split(" ", 1)[0]
        if word in ("BUSY", "DROPPED") and isinstance(answer, redis.ResponseError):
            told[word.lower()] += 1
        else:
            told["errors"][str(answer)] = told["errors"].get(str(answer), 0) + 1


rounds = 0
while sent < args.events or (args.until_refused and told["busy"] + told["dropped"] == 0 and rounds < args.rounds_max):
    publish(min(args.pipeline, max(args.events - sent, 1) if sent < args.events else args.pipeline))
    rounds += 1
checks.equal("each was answered", told["accepted"] + told["busy"] + told["dropped"] + sum(told["errors"].values()), sent)
checks.tell(sent=sent, **told)
