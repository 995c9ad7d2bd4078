"""What the scripts share: where the server is, what was checked, and the one object that is printed at the end."""

import argparse
import json
import sys

import redis

# A server that does not answer for so long is broken; no script waits longer for one thing.
TIMEOUT_S = 20


def arguments(description, **more):
    """The arguments that every script takes, and those that are its own (name = default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", required=True, help="host:port, or the path of a Unix socket")
    parser.add_argument("--protocol", type=int, default=2, choices=(2, 3))
    parser.add_argument("--password")
    parser.add_argument("--stream", default="events")
    for name, default in more.items():
        kind = {"type": type(default), "default": default}
        if default is False:
            kind = {"action": "store_true"}
        parser.add_argument("--" + name.replace("_", "-"), **kind)
    return parser.parse_args()


def place(address):
    """What redis-py calls the address."""
    if "/" in address:
        return {"unix_socket_path": address}
    host, port = address.rsplit(":", 1)
    return {"host": host, "port": int(port)}


def connect(args, **more):
    """A client of redis-py; answers are text unless `decode_responses` says otherwise."""
    # A retry would publish twice, and then no two counts could agree.
    usual = {
        "protocol": args.protocol,
        "password": args.password,
        "decode_responses": True,
        "socket_timeout": TIMEOUT_S,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    }
    return redis.Redis(**place(args.address), **{**usual, **more})


class Checks:
    """Counts what was checked, and keeps what was not as it should be."""

    def __init__(self):
        self.count = 0
        self.failures = []

    def that(self, name, holds, found=None):
        self.count += 1
        if not holds:
            self.failures.append(f"{name}: {found!r}")

    def equal(self, name, found, wanted):
        self.that(name, found == wanted, {"found": found, "wanted": wanted})

    def refuses(self, name, call, *words):
        """The call is answered by an error that has these words."""
        try:
            found = call()
        except redis.exceptions.RedisError as error:
            found = str(error)
            self.that(name, all(word.lower() in found.lower() for word in words), found)
        else:
            self.that(name + " is refused", False, found)

    def tell(self, **more):
        """Prints the object. What failed is for the reader to judge, so the script ends well."""
        json.dump({"checks": self.count, "failures": self.failures, **more}, sys.stdout)
        print()


def numbers(stream_id):
    """An id's two numbers."""
    milliseconds, sequence = stream_id.split("-")
    return int(milliseconds), int(sequence)
