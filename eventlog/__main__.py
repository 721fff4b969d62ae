"""What is in a log, for anybody with a terminal: verify, head, cat, follow and export, without any other program.

Exit codes: 0 fine · 1 an error not named here · 2 wrong usage · 3 torn (an unacknowledged append was interrupted; the
next append sets it aside) · 4 corrupt · 5 nothing to read there · 130 interrupted. Of several logs, the worst counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from eventlog.check import Verdict, verify
from eventlog.cloudevents import to_cloudevent
from eventlog.errors import Damaged, EventLogError, Invalid, NotReadable
from eventlog.file_log import FileLog
from eventlog.layout import LOG_NAME, OneFile, log_files, stream_of
from eventlog.log import CaughtUp
from eventlog.record import Event, Head

EXIT_CODES = {"whole": 0, "torn": 3, "corrupt": 4}
EXIT_UNREADABLE = 5

EXPLANATION = """\
import base64, hashlib, json, sys

link = lambda *parts: base64.urlsafe_b64encode(hashlib.sha256(b"".join(parts)).digest())[:43]
seq, h = 0, None
for seq, line in enumerate(open(sys.argv[1], "rb"), 1):
    event = json.loads(line)
    h = link(h or link(b"eventlog/1\\n", event["stream"].encode()), line[: line.rindex(b',"h":')])
    if not line.endswith(b"\\n") or (event["seq"], event["h"].encode()) != (seq, h):
        sys.exit(f"line {seq} is not what was written")
print(f"{seq}:{h.decode()}" if h else "empty")
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except NotReadable as error:
        print(f"eventlog: {error}", file=sys.stderr)
        return EXIT_UNREADABLE
    except Damaged as error:
        print(f"eventlog: {error}", file=sys.stderr)
        return EXIT_CODES["corrupt"]
    except EventLogError as error:
        print(f"eventlog: {error}", file=sys.stderr)
        return 2 if isinstance(error, Invalid) else 1
    except BrokenPipeError:
        # Whoever reads us has seen enough; what Python would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eventlog",
        description="Look into event logs.",
        epilog=str(__doc__).partition("\n\n")[2],
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    check = verbs.add_parser("verify", help="check every line; name the first that is not what was written")
    check.add_argument("path", type=Path, nargs="?", help="a log file, or a directory with logs under it")
    check.add_argument("--stream", help="the name that the log must have (default: what its first line says)")
    check.add_argument("--expect", type=Head.parse, metavar="SEQ:H", help="a head noted earlier, which must be in it")
    check.add_argument("-o", "--output", choices=("text", "jsonl"), default="text", help="jsonl: one object per log")
    check.add_argument("--explain", action="store_true", help="print a program that checks a log without this one")
    check.set_defaults(run=_verify)

    head = verbs.add_parser("head", help="print SEQ:H of the last event: note it to prove later that nothing changed")
    head.add_argument("path", type=Path, help="a log file")
    head.set_defaults(run=_head)

    cat = verbs.add_parser("cat", help="print events")
    _add_range(cat)
    cat.add_argument("--last", type=_number, metavar="SEQ", help="up to and with this seq")
    cat.add_argument("--reverse", action="store_true", help="newest first")
    cat.set_defaults(run=_cat)

    follow = verbs.add_parser("follow", help="print events, and then each new one as it is recorded; Ctrl-C ends it")
    _add_range(follow)
    follow.set_defaults(run=_follow)

    export = verbs.add_parser("export", help="print events as CloudEvents 1.0, one JSON object per line")
    export.add_argument("path", type=Path, help="a log file")
    export.set_defaults(run=_export)
    return parser


def _add_range(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("path", type=Path, help="a log file")
    verb.add_argument("--first", type=_number, default=1, metavar="SEQ", help="from this seq on")
    verb.add_argument("--type", action="append", metavar="TYPE", help="only events of this type; may be repeated")
    verb.add_argument("-o", "--output", choices=("text", "jsonl"), default="text", help="jsonl: the lines as they are")


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seq: give a whole number from 1 on")
    return int(text)


def _verify(options: argparse.Namespace) -> int:
    if options.explain:
        print(EXPLANATION, end="")
        return 0
    if options.path is None:
        raise Invalid("verify what? Name a log file or a directory")
    verdicts: list[Verdict] = []
    worst = 0
    for path in _logs(options.path):
        try:
            verdict = verify(path, options.stream, options.expect)
        except EventLogError as error:
            print(f"unread   {path}\n         {error}", file=sys.stderr)
            worst = max(worst, EXIT_UNREADABLE)
            continue
        verdicts.append(verdict)
        worst = max(worst, EXIT_CODES[verdict.state])
        print(_as_json(verdict) if options.output == "jsonl" else _as_text(verdict), flush=True)
    return worst


def _logs(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = False
    for found_path in log_files(path):
        found = True
        yield found_path
    if not found:
        raise NotReadable(path, FileNotFoundError(2, f"no {LOG_NAME} in it or below it"))


def _as_json(verdict: Verdict) -> str:
    fields = {
        "path": str(verdict.path),
        "stream": verdict.stream,
        "state": verdict.state,
        "head": str(verdict.head),
        "events": verdict.head.seq,
        "bytes": verdict.size,
    }
    if verdict.state != "whole":
        fields |= {"line": verdict.line, "offset": verdict.offset, "why": verdict.why}
    return json.dumps(fields)


def _as_text(verdict: Verdict) -> str:
    if not verdict.size:
        return f"{verdict.state:<8} {verdict.path}  no events"
    events = f"{verdict.head.seq} event{'' if verdict.head.seq == 1 else 's'}"
    text = f"{verdict.state:<8} {verdict.stream}  {events}  {verdict.size} bytes  head {verdict.head}"
    if verdict.state == "torn":
        text += f"\n         line {verdict.line} (byte {verdict.offset}): {verdict.why}; the next append sets it aside"
    if verdict.state == "corrupt":
        text += (
            f"\n         line {verdict.line} (byte {verdict.offset}): {verdict.why}"
            f"\n         restore {verdict.path} from a copy; what stands before that line can be read"
        )
    return text


def _open(path: Path) -> tuple[FileLog, str]:
    if path.is_dir():
        raise Invalid(f"{path} is a directory: name one of the log files under it, as `verify {path}` lists them")
    try:
        return FileLog(OneFile(path)), stream_of(path)
    except OSError as error:
        raise NotReadable(path, error) from error


def _head(options: argparse.Namespace) -> int:
    log, stream = _open(options.path)
    print(log.head(stream))
    return 0


def _cat(options: argparse.Namespace) -> int:
    log, stream = _open(options.path)
    events = log.read_backwards(stream, options.last) if options.reverse else log.read(stream, options.first)
    for event in events:
        if options.reverse and event.seq < options.first:
            break
        if not options.reverse and options.last is not None and event.seq > options.last:
            break
        _print_event(options, event)
    return 0


def _follow(options: argparse.Namespace) -> int:
    log, stream = _open(options.path)
    for event in log.follow(stream, options.first):
        if isinstance(event, CaughtUp):
            print(f"-- that is all so far ({event.head.seq}); waiting for more, Ctrl-C ends --", file=sys.stderr)
        else:
            _print_event(options, event)
    return 0


def _export(options: argparse.Namespace) -> int:
    log, stream = _open(options.path)
    for event in log.read(stream):
        print(json.dumps(to_cloudevent(event), ensure_ascii=False))
    return 0


def _print_event(options: argparse.Namespace, event: Event) -> None:
    if options.type and event.type not in options.type:
        return
    if options.output == "jsonl":
        print(msgspec.json.encode(event).decode(), flush=True)
    else:
        cause = "" if event.cause is None else f"  because of {event.cause}"
        data = json.dumps(event.data, ensure_ascii=False)
        print(f"{event.seq:>6}  {event.time}  {event.type}  by {event.actor} ({event.door}){cause}  {data}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
