"""Sends an access log, reads the views of views.toml, and computes each of them by itself: from the lines, with Python's
own means, knowing nothing of how they are kept."""

import datetime
import re
import time
from collections import Counter, defaultdict
from decimal import ROUND_HALF_EVEN, Decimal

from common import Checks, arguments, connect

args = arguments(__doc__, log="", shards=1, lines=0, clients=0, not_found=0)
checks = Checks()
client = connect(args, decode_responses=False, single_connection_client=True)

HOUR_MS = 3_600_000
LATENESS_MS = 60_000
LINE = re.compile(rb'(\S+) \S+ \S+ \[([^]]+)\] "(.*?[^\\]|)" (\d{3}) (\d+|-)(?: |$)')


def taken_apart(line):
    client_, when, request, status, size = LINE.match(line).groups()
    words = request.split(b" ")
    when = datetime.datetime.strptime(when.decode(), "%d/%b/%Y:%H:%M:%S %z")
    return {
        b"client": client_,
        b"time": int(when.timestamp()) * 1000,
        b"path": words[1] if len(words) > 1 else b"-",
        b"status": status,
        b"bytes": size,
    }


with open(args.log, "rb") as log:
    events = [taken_apart(line.rstrip(b"\r\n")) for line in log]
# What was counted by other means, so that a mistake here is not taken for one of the server.
checks.equal("lines", len(events), args.lines)
checks.equal("clients", len({event[b"client"] for event in events}), args.clients)
checks.equal("status 404", sum(event[b"status"] == b"404" for event in events), args.not_found)
newest, disorder = 0, 0
for event in events:
    newest = max(newest, event[b"time"])
    disorder = max(disorder, newest - event[b"time"])
checks.that("no line is later than views wait for", disorder <= LATENESS_MS, disorder)

accepted = 0
for begin in range(0, len(events), 500):
    pipe = client.pipeline(transaction=False)
    for event in events[begin : begin + 500]:
        pipe.xadd(args.stream, event)
    accepted += sum(isinstance(answer, bytes) for answer in pipe.execute())
checks.equal("each line is accepted", accepted, len(events))


def as_map(reply):
    """A map of texts to what they stand for, whichever protocol it came by."""
    if not isinstance(reply, dict):
        reply = dict(zip(reply[::2], reply[1::2]))
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in reply.items()}


def view(name, *words):
    return as_map(client.execute_command("PELTON.VIEW", name, *words))


def number(value):
    """A number, exactly as it was written."""
    if isinstance(value, bytes):
        value = value.decode()
    return Decimal(repr(value) if isinstance(value, float) else value)


def rows(told):
    """Rows by key."""
    listed = told["rows"]
    listed = listed.items() if isinstance(listed, dict) else listed
    return {key: value for key, value in listed}


# What is accepted is handled a little later.
end = time.monotonic() + 20
while time.monotonic() < end and number(view("total")["events"]) < len(events):
    time.sleep(0.01)

sizes = [(event, int(event[b"bytes"])) for event in events if event[b"bytes"] != b"-"]
by_status = defaultdict(list)
for event, size in sizes:
    by_status[event[b"status"]].append(size)

# Exact: counts.
total = view("total")
checks.equal("total", [number(value) for value in rows(total).values()], [len(events)])
checks.equal("total's name and measure", (total["view"], total["measure"]), (b"total", b"count"))
# What became of the events: nothing that a view leaves out or changes is silent.
figures = "events late ahead untimed missing past saturated rounded lost".split()
checks.equal("total's fields", set(total), {"view", "measure", "start", "end", "open", "rows", *figures})
checks.equal("total's figures", [int(number(total[name])) for name in figures], [len(events)] + [0] * 8)
for name, field in (("by_status", b"status"), ("by_client", b"client")):
    wanted = Counter(event[field] for event in events)
    found = {key: number(value) for key, value in rows(view(name, "TOP", 5000)).items()}
    checks.equal(name, found, wanted)
wanted = Counter(event[b"client"] for event in events)
most = view("by_client", "TOP", 5)
checks.equal("TOP 5", [(key, int(number(value))) for key, value in rows(most).items()][:1], wanted.most_common(1))
checks.equal("TOP 5 are the five greatest", sorted(map(number, rows(most).values()), reverse=True), [count for _, count in wanted.most_common(5)])
for key, _ in wanted.most_common(2):
    checks.equal(f"KEY {key}", {k: number(v) for k, v in rows(view("by_client", "KEY", key)).items()}, {key: wanted[key]})

# Past the bound on keys nothing is lost, only told together, and how much is told.
few = view("by_few_clients", "TOP", 5000)
found = {key: int(number(value)) for key, value in rows(few).items()}
past = int(number(few["past"]))
named = {key: count for key, count in found.items() if key is not None}
checks.equal("few keys and the rest are all", sum(found.values()), len(events))
checks.that("no more rows than keys_max", len(named) <= 100 * args.shards, len(named))
checks.that("no row is too high", all(count <= wanted[key] for key, count in named.items()), named)
checks.that("no row is too low by more than past", all(wanted[key] - count <= past for key, count in named.items()), past)
checks.that("past is what has no room", past >= len(events) - sum(wanted[key] for key in named) > 0, past)

# Exact: sums, extremes, means.
for name, of in (("bytes_sum", sum), ("bytes_min", min), ("bytes_max", max)):
    told = view(name, "TOP", 100)
    found = {key: number(value) for key, value in rows(told).items() if value is not None}
    # A status whose events all lack the field may have a row of nothing, or a sum of nothing.
    found = {key: value for key, value in found.items() if key in by_status}
    checks.equal(name, found, {key: of(values) for key, values in by_status.items()})
    checks.equal(name + " misses those without a number", int(number(told["missing"])), len(events) - len(sizes))
(mean,) = rows(view("bytes_mean")).values()
exactly = Decimal(sum(size for _, size in sizes)) / len(sizes)
checks.that("bytes_mean", abs(number(mean) - exactly) <= Decimal("1e-9"), [str(mean), str(exactly)])

# Within the stated error: quantiles of two digits are never too low, and too high by less than one hundredth.
(told,) = rows(view("bytes_quantiles")).values()
told = as_map(told)
ordered = sorted(size for _, size in sizes)
quantiles = 0
for name, value in told.items():
    if name in ("max", b"max"):
        checks.equal("the greatest is exact", number(value), ordered[-1])
        continue
    quantile = Decimal(name.lstrip("pq")) if isinstance(name, str) else Decimal(str(name))
    if quantile >= 1:
        quantile /= 100
    rank = max(1, int((quantile * len(ordered)).to_integral_value(rounding="ROUND_CEILING")))
    true = ordered[rank - 1]
    quantiles += 1
    checks.that(f"quantile {name}", true <= number(value) <= true * Decimal("1.01") + 1, [str(value), true])
checks.equal("quantiles", quantiles, 5)

# Top: exact while there is room for all values.
paths = Counter(event[b"path"] for event in events)
(told,) = rows(view("paths", "TOP", 25)).values()
if isinstance(told, dict) or (told and not isinstance(told[0], (list, tuple))):
    told = list(as_map(told).get("values", told))
pairs = [(value, int(number(count))) for value, count in told]
best = sorted(paths.items(), key=lambda pair: (-pair[1], pair[0]))[:25]
checks.equal("paths", pairs, best)

# Distinct: four standard errors of 1.04 / sqrt(4096), so that chance fails one run in 16,000. The hash has no seed.
(told,) = rows(view("clients")).values()
true = len(wanted)
checks.that("clients", abs(number(told) - true) <= true * Decimal(4 * 1.04 / 4096**0.5), [str(told), true])

# Last, of each client.
last = {event[b"client"]: event[b"path"] for event in events}
found = rows(view("last_path", "TOP", 5000))
found = {key: value[0] if isinstance(value, list) else value for key, value in found.items()}
checks.equal("last_path", found, last)

# Windows of event time. The newest event closes what ended a lateness before it.
closed = (newest - LATENESS_MS) // HOUR_MS * HOUR_MS


def within(begin, end_ms):
    return [event for event in events if begin <= event[b"time"] < end_ms]


told = view("hourly", "WINDOW", "LAST", "TOP", 100)
if args.shards == 1:  # Of several shards each closes by what it has seen; the last that all have closed may be earlier.
    checks.equal("LAST ends", int(number(told["end"])), closed)
end_ms = int(number(told["end"]))
checks.equal("LAST begins", int(number(told["start"])), end_ms - HOUR_MS)
checks.that("LAST is closed", not int(number(told["open"])), told["open"])
checks.equal("nothing is late", int(number(told["late"])), 0)
found = {key: int(number(value)) for key, value in rows(told).items()}
checks.equal("hourly", found, Counter(event[b"status"] for event in within(end_ms - HOUR_MS, end_ms)))
told = view("hourly", "WINDOW", end_ms, "TOP", 100)
checks.equal("hourly by its end", {key: int(number(value)) for key, value in rows(told).items()}, found)
told = view("hourly", "WINDOW", "CURRENT", "TOP", 100)
begin = int(number(told["start"]))
checks.that("CURRENT is open", int(number(told["open"])), told["open"])
found = {key: int(number(value)) for key, value in rows(told).items()}
checks.equal("CURRENT", found, Counter(event[b"status"] for event in within(begin, begin + HOUR_MS)))

told = view("sliding", "WINDOW", "LAST")
end_ms = int(number(told["end"]))
checks.equal("a sliding window's length", end_ms - int(number(told["start"])), 6 * HOUR_MS)
inside = [int(event[b"bytes"]) for event in within(end_ms - 6 * HOUR_MS, end_ms) if event[b"bytes"] != b"-"]
checks.equal("sliding", [number(value) for value in rows(told).values()], [sum(inside)])

told = view("hourly_rate", "WINDOW", "LAST")
end_ms = int(number(told["end"]))
exactly = Decimal(len(within(end_ms - HOUR_MS, end_ms))) / 3600
(rate,) = map(number, rows(told).values())
checks.equal("hourly_rate", rate.normalize(), exactly.quantize(Decimal("1e-9"), ROUND_HALF_EVEN).normalize())

checks.tell(accepted=accepted)
