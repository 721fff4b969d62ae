"""What do the processes do that publish, list and die in the tests?"""

from __future__ import annotations

import os
import random
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from eventlog import Conflict, Disk
from projections.events.run import AnomalySeen
from projections.files import Publisher
from projections.index import Index
from projections.layout import run_stream
from tests.run_examples import RUN, Books, completed, intended, requested, submitted
from tests.writers import context

context.set_forkserver_preload(["tests.publishers"])


def append_and_publish(root: Path, name: str, count: int, ready: threading.Barrier) -> None:
    """Append `count` events to the same run as everybody else, publishing each."""
    books = Books(root)
    ready.wait()
    for number in range(count):
        while True:
            try:
                books.change(RUN, AnomalySeen(what=f"{name}-{number}", message="m"))
                break
            except Conflict:
                continue


def publish_until_killed(root: Path, published: Connection) -> None:
    """Append to a run and publish it for ever, with the syncs of a real disk, telling each seq once it is published."""
    books = Books(root)
    publisher = Publisher(books.log, root, None, Disk())
    number = books.head().seq
    while True:
        text = "x" * random.Random(number).randrange(4000)
        books.append(run_stream(RUN), AnomalySeen(what=text, message=text))
        number = publisher.publish(run_stream(RUN)).head.seq
        published.send(number)


def append_and_die(root: Path, run_id: str) -> None:
    """Append the end of a run, or begin a new one, and die before anybody is told."""
    books = Books(root)
    events = [completed()] if books.head(run_id).seq else [requested(run_id)]
    books.append(run_stream(run_id), *events)
    os.kill(os.getpid(), signal.SIGKILL)


def live(root: Path, name: str, count: int, ready: threading.Barrier) -> None:
    """Have `count` runs live from their beginning to their end."""
    books = Books(root)
    ready.wait()
    for number in range(count):
        run_id = f"{name}-{number}"
        books.change(run_id, requested(run_id))
        books.change(run_id, intended(), submitted())
        books.change(run_id, completed())


def list_at_once(root: Path, ready: threading.Barrier, answer: Connection) -> None:
    """List all runs at the same moment as everybody else."""
    index = Index(root, sync=False)
    ready.wait()
    answer.send([row.run_id for row in index.list()])


def list_as_nobody(root: Path, answer: Connection) -> None:
    """Give up root and list all runs where nothing may be written."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    index = Index(root)
    answer.send(([(row.run_id, row.status) for row in index.list()], index.active()))
