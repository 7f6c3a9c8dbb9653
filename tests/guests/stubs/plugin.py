"""Asks for what a plugin does not have. The event's type says for what; the log says what came, if the run goes on."""

import datetime
import os
import random
import sys
import time
import uuid

from wit_world import exports
from wit_world.imports import log

PROBES = {
    "time": time.time,
    "monotonic": time.monotonic,
    "now": datetime.datetime.now,
    "a date": lambda: datetime.datetime.fromtimestamp(0, datetime.UTC).isoformat(),
    "random": random.random,
    "urandom": lambda: os.urandom(4).hex(),
    "uuid": uuid.uuid4,
    "print": lambda: print("hello"),
    "stderr": lambda: sys.stderr.write("hello\n"),
    "environ": lambda: dict(os.environ),
    "listdir": lambda: os.listdir("/"),
    "open": lambda: open("/etc/passwd").read(),
    "hash": lambda: hash("abc"),
    "argv": lambda: sys.argv,
    "sleep": lambda: time.sleep(0),
    "exit": lambda: sys.exit(0),
}


class Handler(exports.Handler):
    def process(self, event, config):
        try:
            found = repr(PROBES[event.event_type]())
        except Exception as error:
            found = f"raises {error!r}"
        log.write(log.Level.INFO, found)
        return []
