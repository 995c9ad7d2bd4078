"""All that a client may say, in redis-py's words: what must hold for redis-server must hold for us."""

import re
import socket

import redis

from common import Checks, arguments, connect, numbers, place, TIMEOUT_S

args = arguments(__doc__, events=1000)
checks = Checks()
client = connect(args, single_connection_client=True)
accepted = 0


def said(*words):
    return client.execute_command(*words)


def as_map(reply):
    """A map, whichever protocol it came by."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2]))


# Ordinary questions.
checks.equal("PING", said("PING"), True)
checks.equal("ping", said("ping"), True)
checks.equal("ECHO", client.echo("a \r\n b"), "a \r\n b")
checks.equal("ECHO of nothing", client.echo(""), "")
checks.equal("SELECT 0", said("SELECT", 0), True)
checks.refuses("SELECT of no number", lambda: said("SELECT", "one"), "integer")
checks.refuses("SELECT of what is not there", lambda: said("SELECT", 99), "out of range")
hello = as_map(said("HELLO"))
checks.equal("HELLO tells the protocol", hello.get("proto"), args.protocol)
checks.that("HELLO", {"server", "version", "proto", "id", "mode", "role", "modules"} <= hello.keys(), hello)
checks.refuses("HELLO 4", lambda: said("HELLO", 4), "NOPROTO")
checks.refuses("AUTH with a wrong password", lambda: said("AUTH", "wrong"), "")
if args.password:
    checks.equal("AUTH", said("AUTH", args.password), True)
    checks.equal("AUTH of the default user", said("AUTH", "default", args.password), True)

# Who is there.
checks.equal("CLIENT SETNAME", client.client_setname("tester"), True)
checks.equal("CLIENT GETNAME", client.client_getname(), "tester")
checks.refuses("CLIENT SETNAME with a space", lambda: client.client_setname("a b"), "spaces")
# (redis-py may have begun a new connection after an error of the handshake.)
hello = as_map(said("HELLO"))
own = client.client_id()
checks.that("CLIENT ID", isinstance(own, int) and own > 0, own)
checks.equal("HELLO tells the same id", hello.get("id"), own)
listed = [one for one in client.client_list() if int(one["id"]) == own]
checks.equal("CLIENT LIST has us", [one["name"] for one in listed], ["tester"])
info = client.client_info()
checks.equal("CLIENT INFO", (int(info["id"]), info["name"]), (own, "tester"))
second = connect(args, single_connection_client=True)
checks.that("ids of connections grow", second.client_id() > own)
checks.that("CLIENT LIST has the second", any(int(one["id"]) == second.client_id() for one in client.client_list()))
second.close()

# What the server is.
checks.that("COMMAND COUNT", client.command_count() > 10)
names = {str(name).lower() for name in client.command()}
wanted = {"ping", "echo", "hello", "auth", "quit", "select", "client", "info", "command", "config", "reset", "xadd"}
wanted |= {"xlen", "xinfo", "subscribe", "psubscribe", "unsubscribe"}
checks.that("COMMAND has what is spoken of", wanted <= names, sorted(wanted - names))
checks.that("CONFIG GET", isinstance(client.config_get("maxclients"), dict), client.config_get("maxclients"))
checks.equal("CONFIG GET of what is not there", client.config_get("no-such-thing"), {})
info = client.info()
checks.that("INFO", re.fullmatch(r"\d+\.\d+\.\d+", str(info.get("redis_version"))), info.get("redis_version"))
checks.that("INFO server", "redis_version" in client.info("server"))

# Errors in the forms that clients know.
checks.refuses("an unknown command", lambda: said("NOSUCH", "a", "b"), "unknown command", "nosuch")
checks.refuses("too few arguments", lambda: said("ECHO"), "wrong number of arguments for 'echo' command")
checks.refuses("an unknown subcommand", lambda: said("CLIENT", "NOSUCH"), "unknown subcommand")
checks.equal("an error costs nothing after it", said("ECHO", "on"), "on")

# Publishing.
ids = [client.xadd(args.stream, {"client": "a", "bytes": 1})]
ids.append(client.xadd(args.stream, {"any": b"\x00\xff\r\n*1\r\n"}))
ids.append(client.xadd(args.stream, {"a": 1}, maxlen=1000))
ids.append(client.xadd(args.stream, {"a": 1}, maxlen=1000, approximate=False))
ids.append(client.xadd(args.stream, {"a": 1}, nomkstream=True))
for of in (10, 100, args.events):
    pipe = client.pipeline(transaction=False)
    for n in range(of):
        pipe.xadd(args.stream, {"n": n})
    ids += pipe.execute()
pipe = client.pipeline()
for n in range(20):
    pipe.xadd(args.stream, {"n": n})
ids += pipe.execute()
accepted += len(ids)
checks.that("ids have their form", all(re.fullmatch(r"\d+-\d+", one) for one in ids), ids[:3])
checks.that("ids increase", all(numbers(a) < numbers(b) for a, b in zip(ids, ids[1:])))
checks.refuses("XADD without a value", lambda: said("XADD", args.stream, "*", "a"), "wrong number of arguments for 'xadd'")
checks.refuses("XADD of nothing", lambda: said("XADD", args.stream, "*"), "wrong number of arguments for 'xadd'")
checks.that("XLEN", isinstance(client.xlen(args.stream), int))
told = as_map(said("XINFO", "STREAM", args.stream))
checks.that("XINFO STREAM", {"length", "last-generated-id"} <= told.keys(), told)
checks.equal("XINFO STREAM tells the last id", told.get("last-generated-id"), ids[-1])

# Order within a pipeline of different commands.
pipe = client.pipeline(transaction=False)
for n in range(300):
    pipe.echo(str(n))
    pipe.xadd(args.stream, {"n": n})
    pipe.execute_command("NOSUCH")
answers = pipe.execute(raise_on_error=False)
accepted += 300
checks.equal("a pipeline's answers come in order", answers[::3], [str(n) for n in range(300)])
checks.that("its errors are where they belong", all(isinstance(one, redis.ResponseError) for one in answers[2::3]))
checks.that("its ids are where they belong", all(re.fullmatch(r"\d+-\d+", one) for one in answers[1::3]))

# Transactions, which a pipeline of redis-py is unless it is told otherwise.
pipe = client.pipeline()
pipe.xadd(args.stream, {"n": 1})
pipe.execute_command("NOSUCH")
before = client.xlen(args.stream)
checks.refuses("a transaction with an error", pipe.execute, "unknown command", "NOSUCH")
checks.equal("nothing of it is carried out", client.xlen(args.stream), before)

# Subscriptions.
channel = "stream:" + args.stream
listener = connect(args).pubsub()
listener.subscribe(channel)
listener.psubscribe("str*m:" + args.stream)


def next_message(of):
    for _ in range(100):
        message = of.get_message(timeout=TIMEOUT_S)
        if message is not None:
            return message
    return {"type": "none"}


first, second = next_message(listener), next_message(listener)
checks.equal("SUBSCRIBE", (first["type"], first["channel"], first["data"]), ("subscribe", channel, 1))
checks.equal("PSUBSCRIBE", (second["type"], second["data"]), ("psubscribe", 2))
if args.protocol == 2:  # Of RESP3's answer redis-py keeps one letter.
    listener.ping("are you there")
    checks.equal("PING of a subscriber", next_message(listener)["data"], "are you there")
listener.unsubscribe()
listener.punsubscribe()
first, second = next_message(listener), next_message(listener)
checks.equal("UNSUBSCRIBE", {first["type"], second["type"]}, {"unsubscribe", "punsubscribe"})
checks.equal("nothing is left", second["data"], 0)
listener.close()

# What redis-py does not say by itself goes over a bare socket.
where = place(args.address)
if "host" in where:
    raw = socket.create_connection((where["host"], where["port"]), TIMEOUT_S)
else:
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(TIMEOUT_S)
    raw.connect(where["unix_socket_path"])
lines = raw.makefile("rb")


def line(request):
    raw.sendall(request)
    return lines.readline().rstrip(b"\r\n")


if args.password:
    checks.that("a command before AUTH", line(b"ECHO a\r\n").startswith(b"-NOAUTH"))
    checks.equal("an inline AUTH", line(b"AUTH " + args.password.encode() + b"\r\n"), b"+OK")
checks.equal("an inline command", line(b"PING\r\n"), b"+PONG")
checks.equal("PING word", (line(b"PING word\r\n"), lines.readline()), (b"$4", b"word\r\n"))
checks.equal("empty lines are passed over", line(b"\r\n\r\nPING\r\n"), b"+PONG")
checks.equal("an inline command with quotes", (line(b'ECHO "a b"\r\n'), lines.readline()), (b"$3", b"a b\r\n"))
checks.equal("CLIENT SETNAME inline", line(b"CLIENT SETNAME raw\r\n"), b"+OK")
checks.equal("a subscriber of RESP2", line(b"SUBSCRIBE " + channel.encode() + b"\r\n"), b"*3")
for _ in range(5):
    lines.readline()
checks.that("may only subscribe", line(b"ECHO a\r\n").startswith(b"-ERR Can't execute 'echo'"))
checks.equal("RESET", line(b"RESET\r\n"), b"+RESET")
if args.password:
    checks.that("RESET takes the password back", line(b"ECHO a\r\n").startswith(b"-NOAUTH"))
    line(b"AUTH " + args.password.encode() + b"\r\n")
checks.equal("RESET takes the name", line(b"CLIENT GETNAME\r\n"), b"$-1")
checks.equal("QUIT", line(b"QUIT\r\n"), b"+OK")
checks.equal("and it is over", lines.read(), b"")

checks.tell(accepted=accepted)
