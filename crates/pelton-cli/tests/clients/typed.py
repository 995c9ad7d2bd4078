"""redis-cli as a person uses it: at a terminal, line by line. Prints what was on the screen after each line."""

import json
import os
import pty
import select
import sys
import time

# typed.py LIMIT_S COMMAND... ; the lines to be typed come from standard input, as a JSON array.
limit, command = float(sys.argv[1]), sys.argv[2:]
lines = json.load(sys.stdin)
end = time.monotonic() + limit

pid, terminal = pty.fork()
if pid == 0:
    # A terminal that knows nothing but letters: no colours, no moving about.
    os.environ.update(TERM="dumb", NO_COLOR="1")
    os.execvp(command[0], command)


def screen_until(mark):
    """All that is written until `mark` is its end; the rest, if the program ends or time is up."""
    text = b""
    while not text.endswith(mark) or mark == b"":
        left = end - time.monotonic()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            return text, "late"
        try:
            more = os.read(terminal, 65536)
        except OSError:  # How Linux says that the other side is gone.
            more = b""
        if not more:
            return text, "ended"
        text += more
    return text, "prompt"


def plain(text):
    return text.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


shown = []
text, state = screen_until(b"> ")
for line in lines:
    if state != "prompt":
        break
    os.write(terminal, line.encode() + b"\n")
    text, state = screen_until(b"> ")
    shown.append({"typed": line, "shown": plain(text), "state": state})
if state == "prompt":
    os.write(terminal, b"\x04")
    text, state = screen_until(b"")
if state != "ended":
    os.kill(pid, 9)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
json.dump({"lines": shown, "state": state, "code": code}, sys.stdout)
print()
