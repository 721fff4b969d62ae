"""Is every way to spoil a log found, told apart, and survived where it can be?"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog import Corrupt, FileLog, Head, Vanished, Verdict, verify
from tests.conftest import Figure
from tests.examples import fill, happened, log_with_tail, unsynced, whats


def test_a_log_cut_at_any_byte_opens_to_its_last_whole_append_and_the_cut_bytes_are_kept(
    tmp_path: Path, figure: Figure
) -> None:
    path, begins = log_with_tail(tmp_path / "whole")
    content = path.read_bytes()
    past = list(FileLog(tmp_path / "whole").read("s"))
    wholes = {begins[1]: 1, begins[2]: 2, begins[3]: 5, begins[4]: 6}
    for size in range(begins[1], len(content) + 1):
        top = tmp_path / str(size)
        torn = top / "s" / "events.jsonl"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(content[:size])
        whole = max(end for end in wholes if end <= size)
        log = FileLog(top, disk=unsynced())

        assert list(log.read("s")) == past[: wholes[whole]]
        assert log.head("s").seq == wholes[whole]
        assert verify(torn).state == ("whole" if size == whole else "torn")
        assert torn.read_bytes() == content[:size], "a reader wrote"

        appended = log.append("s", [happened("after")], expected=wholes[whole])
        repaired = appended.news[:-1]
        assert verify(torn).state == "whole"
        assert torn.read_bytes().startswith(content[:whole])
        assert list(log.read("s")) == [*past[: wholes[whole]], *appended.news]
        if size == whole:
            assert repaired == ()
            continue
        [repair] = repaired
        assert repair.type == "log.repaired"
        assert repair.data == {
            "offset": whole,
            "length": size - whole,
            "sha256": hashlib.sha256(content[whole:size]).hexdigest(),
            "kept": f"events.jsonl.torn-{whole}",
        }
        assert (torn.parent / str(repair.data["kept"])).read_bytes() == content[whole:size]
        log.close()
    figure(f"{len(content) - begins[1] + 1} cuts, each byte of the last three appends")


def test_every_flipped_bit_is_found_with_its_line_and_nothing_acknowledged_is_called_torn(
    tmp_path: Path, figure: Figure
) -> None:
    path, _ = log_with_tail(tmp_path)
    content = path.read_bytes()
    head = verify(path).head
    ends = list(itertools.accumulate(len(line) for line in content.splitlines(keepends=True)))
    flips = 0
    for at in range(len(content)):
        line = next(number for number, end in enumerate(ends, 1) if at < end)
        for bit in range(8):
            spoilt = bytearray(content)
            spoilt[at] ^= 1 << bit
            path.write_bytes(spoilt)
            for verdict in (verify(path, "s"), verify(path, "s", expect=head)):
                assert (verdict.state, verdict.line) == ("corrupt", line), (at, bit, verdict.why)
            flips += 1
        if at % 61 == 0:  # Reading and appending go through the same examination; a sample is enough.
            log = FileLog(tmp_path, disk=unsynced())
            with pytest.raises(Corrupt, match=f"line {line} "):
                list(log.read("s"))
            with pytest.raises(Corrupt, match=f"line {line} "):
                log.append("s", [happened()])
            assert path.read_bytes() == spoilt
            log.close()
    figure(f"{flips} flipped bits, {len(ends)} lines")


def test_reads_give_all_that_stands_before_the_damage(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 9)
    path = log.path("s")
    path.write_bytes(path.read_bytes().replace(b'"what":6', b'"what":7'))
    events = FileLog(tmp_path).read("s")
    assert [next(events).data["what"] for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(Corrupt, match="its chain value does not fit") as caught:
        next(events)
    assert caught.value.line == 7
    with pytest.raises(Corrupt):
        list(FileLog(tmp_path).read_backwards("s"))


def test_damage_that_a_reader_met_stops_the_appends_of_its_process_until_it_is_mended(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 3)
    path = log.path("s")
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"what":1', b'"what":8'))
    with pytest.raises(Corrupt):
        list(log.read("s"))
    with pytest.raises(Corrupt, match=r"line 2 .*nothing more is appended"):
        log.append("s", [happened()])
    path.write_bytes(good)
    assert log.append("s", [happened()]).first == 4


def test_damage_far_from_the_end_is_named_by_its_first_line_once_anything_near_the_end_is_bad_too(
    tmp_path: Path,
) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    for _ in range(12):
        log.append("s", [happened("x" * 150_000)] * 2)
    log.close()
    path = log.path("s")
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        FileLog(tmp_path, disk=unsynced()).append("s", [happened()])
    assert caught.value.line == 1


def test_other_streams_go_on_beside_a_corrupt_one(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "sick", 2)
    fill(log, "well", 2)
    log.close()
    log.path("sick").write_bytes(b"x" + log.path("sick").read_bytes()[1:])
    with pytest.raises(Corrupt):
        log.append("sick", [happened()])
    assert log.append("well", [happened()]).first == 3


Lines = list[bytes]
TAMPERINGS: dict[str, Callable[[Lines, int, int], Lines]] = {
    "reorder": lambda lines, i, j: [lines[j if k == i else i if k == j else k] for k in range(len(lines))],
    "delete": lambda lines, i, _: [line for k, line in enumerate(lines) if k != i],
    "duplicate": lambda lines, i, j: [*lines[:j], lines[i], *lines[j:]],
    "insert a forged line": lambda lines, i, _: [*lines[:i], lines[i].replace(b"thing", b"thong"), *lines[i:]],
    "insert an empty line": lambda lines, i, _: [*lines[:i], b"\n", *lines[i:]],
    "edit and seal again": lambda lines, i, _: [*lines[:i], lines[i].replace(b"ada", b"eve"), *lines[i + 1 :]],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(name: str, tmp_path: Path, figure: Figure) -> None:
    path, _ = log_with_tail(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    head = verify(path).head
    tried = 0
    for i, j in itertools.product(range(len(lines)), repeat=2):
        tampered = TAMPERINGS[name](lines, i, j)
        if tampered == lines:
            continue
        path.write_bytes(b"".join(tampered))
        first = next((n for n, (a, b) in enumerate(zip(tampered, lines, strict=False), 1) if a != b), len(lines))
        verdict = verify(path, "s", expect=head)
        if tampered[: len(lines)] == lines:  # Something was added at the end.
            first = len(lines) + 1
        assert (verdict.state, verdict.line) == ("corrupt", _first_of_its_append(lines, first, tampered)), verdict
        tried += 1
    figure(f"{tried} ways")


def _first_of_its_append(lines: Lines, line: int, tampered: Lines) -> int:
    """A batch that ends too early is refused as a whole: give its first line there."""
    return line if len(tampered) >= line else 3 if line in (4, 5) else line


def test_a_log_of_another_stream_in_this_ones_place_is_found(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "run/a", 2)
    fill(log, "run/b", 3)
    log.close()
    log.path("run/a").write_bytes(log.path("run/b").read_bytes())
    for attempt in (lambda: list(log.read("run/a")), lambda: log.append("run/a", [happened()])):
        with pytest.raises(Corrupt, match=r"line 1 .*belongs to stream 'run/b'"):
            attempt()
    renamed = log.path("run/b").read_bytes().replace(b'"stream":"run/b"', b'"stream":"run/a"')
    log.path("run/a").write_bytes(renamed)
    with pytest.raises(Corrupt, match=r"line 1 .*its chain value does not fit"):
        list(log.read("run/a"))


def test_a_history_that_was_written_anew_is_found_by_a_head_noted_before(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "a", disk=unsynced())
    fill(log, "s", 4)
    noted = Head.parse(str(log.head("s")))
    fill(log, "s", 2)
    assert verify(log.path("s"), expect=noted).state == "whole"
    forged = FileLog(tmp_path / "b", disk=unsynced())
    fill(forged, "s", 9)
    assert verify(forged.path("s")).state == "whole"
    verdict = verify(forged.path("s"), expect=noted)
    assert (verdict.state, verdict.line) == ("corrupt", 4)
    assert "another line was acknowledged" in verdict.why


def test_a_log_cut_between_two_lines_is_found_by_a_head_noted_before(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 4)
    noted = log.head("s")
    path = log.path("s")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    assert verify(path).state == "whole"
    assert verify(path, expect=noted).state == "corrupt"


def test_a_tail_that_somebody_was_told_of_is_corrupt_and_not_cut(tmp_path: Path) -> None:
    path, _ = log_with_tail(tmp_path)
    content = path.read_bytes()
    told = verify(path).head
    for size in (len(content) - 1, len(content) - 200, len(content) - 700):
        path.write_bytes(content[:size])
        log = FileLog(tmp_path, disk=unsynced(), acknowledged=lambda stream: told if stream == "s" else None)
        with pytest.raises(Corrupt, match="were acknowledged"):
            log.append("s", [happened()])
        with pytest.raises(Corrupt, match="were acknowledged"):
            list(log.read("s"))
        assert path.read_bytes() == content[:size]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_log_that_is_gone_or_empty_is_no_new_log_to_whoever_was_told_of_it(tmp_path: Path, is_there: bool) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 3)
    told = log.head("s")
    log.close()
    log.path("s").write_bytes(b"") if is_there else log.path("s").unlink()
    assert (list(FileLog(tmp_path).read("s")), FileLog(tmp_path).head("s").seq) == ([], 0), "nobody was told"
    knows = FileLog(tmp_path, acknowledged={"s": told}.get)
    for look in (lambda: list(knows.read("s")), lambda: knows.head("s"), lambda: list(knows.read_backwards("s"))):
        with pytest.raises(Vanished, match=f"gone or empty .its head was {told.seq}:"):
            look()
    assert list(knows.read("other")) == []


def test_a_log_that_was_exchanged_for_another_takes_no_append(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "a", disk=unsynced())
    fill(log, "s", 5)
    other = FileLog(tmp_path / "b", disk=unsynced())
    fill(other, "s", 9)
    for told in (log.head("s"), next(log.read("s")).head):
        exchanged = FileLog(tmp_path / "b", disk=unsynced(), acknowledged={"s": told}.get)
        with pytest.raises(Corrupt, match=f"line {told.seq} .*the file was replaced"):
            exchanged.append("s", [happened()])


def test_what_this_process_acknowledged_is_missed_even_when_nobody_else_knew(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 3)
    path = log.path("s")
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(Corrupt):
        log.append("s", [happened()])
    log.close()
    with pytest.raises(Corrupt, match="acknowledged"):
        log.append("s", [happened()])
    path.write_bytes(content)
    assert log.append("s", [happened()]).first == 4


def test_a_file_replaced_by_another_history_is_refused_by_who_knew_the_first(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "a", disk=unsynced())
    fill(log, "s", 3)
    other = FileLog(tmp_path / "b", disk=unsynced())
    fill(other, "s", 5)
    other.path("s").replace(log.path("s"))
    with pytest.raises(Corrupt, match="the file was replaced"):
        log.append("s", [happened()])


@pytest.mark.parametrize(
    ("tail", "state"),
    [
        (b'{"v":1,"seq":3,"id":"01', "torn"),
        (b"{", "torn"),
        (b"\0" * 700, "torn"),
        (b'{"v":1,"seq":4,"id":"01', "corrupt"),
        (b"hello", "corrupt"),
        (b"\n", "corrupt"),
        (b"{}\n", "corrupt"),
        (b'{"v":1,"seq":3,"id":"\0\0\0"}\n', "corrupt"),
        (b'{"v":1,"seq":3,"id":"' + b"x" * 262_144, "corrupt"),
        (b"[" * 200_000 + b"\n", "corrupt"),
        (b"\xff\xfe\n", "corrupt"),
        (b"{" + b"\0" * 1_100_000, "corrupt"),
    ],
)
def test_only_what_an_interrupted_write_can_leave_is_torn(tail: bytes, state: str, tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    fill(log, "s", 2)
    log.close()
    path = log.path("s")
    with path.open("ab") as file:
        file.write(tail)
    assert (verify(path).state, verify(path).line) == (state, 3)
    assert whats_or_corrupt(tmp_path) == ("torn" if state == "torn" else "corrupt")
    if state == "torn":
        assert [event.type for event in log.append("s", [happened()]).news] == ["log.repaired", "thing.happened"]


def whats_or_corrupt(top: Path) -> str:
    try:
        return "torn" if whats(FileLog(top), "s") == [0, 1] else "?"
    except Corrupt:
        return "corrupt"


def test_a_lost_sector_in_the_last_append_is_torn_but_before_a_later_append_it_is_corrupt(tmp_path: Path) -> None:
    log = FileLog(tmp_path, disk=unsynced())
    log.append("s", [happened("x" * 600)])
    before = log.path("s").stat().st_size
    log.append("s", [happened("y" * 3000)])
    log.close()
    path = log.path("s")
    content = bytearray(path.read_bytes())
    hole = (before // 512 + 2) * 512
    content[hole : hole + 1024] = bytes(1024)
    path.write_bytes(content)
    assert verify(path).state == "torn"
    FileLog(tmp_path, disk=unsynced()).append("s", [happened("z")])
    later = path.read_bytes()
    path.write_bytes(content + later[before:].splitlines(keepends=True)[-1])
    assert verify(path).state == "corrupt"


def test_a_changed_line_before_a_torn_one_with_a_hole_is_corrupt(tmp_path: Path) -> None:
    path, begins = log_with_tail(tmp_path)
    content = path.read_bytes().replace(b"second", b"zecond")[: begins[4] - 3]
    hole = len(content) // 512 * 512
    path.write_bytes(content[:hole] + bytes(len(content) - hole))
    verdict = verify(path)
    assert (verdict.state, verdict.line) == ("corrupt", 2)


def test_a_torn_repair_is_repaired_too_and_both_remains_are_kept(tmp_path: Path) -> None:
    path, begins = log_with_tail(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: begins[3] + 50])
    log = FileLog(tmp_path, disk=unsynced())
    log.append("s", [happened()])
    log.close()
    repaired = path.read_bytes()
    path.write_bytes(repaired[: begins[3] + 70])  # As if the repair's own line had been torn.
    news = FileLog(tmp_path, disk=unsynced()).append("s", [happened()]).news
    assert [event.data.get("kept") for event in news] == [
        f"events.jsonl.torn-{begins[3]}",
        f"events.jsonl.torn-{begins[3]}.2",
        None,
    ]
    assert path.with_name(f"events.jsonl.torn-{begins[3]}.2").read_bytes() == repaired[begins[3] : begins[3] + 70]
    assert verify(path).state == "whole"


def test_a_repair_that_was_cut_off_after_the_cut_is_still_recorded(tmp_path: Path) -> None:
    path, begins = log_with_tail(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: begins[3]])
    path.with_name(f"events.jsonl.torn-{begins[3]}").write_bytes(content[begins[3] : -5])
    log = FileLog(tmp_path, disk=unsynced())
    appended = log.append("s", [happened()], expected=5)
    assert [event.type for event in appended.news] == ["log.repaired", "thing.happened"]
    assert log.append("s", [happened()]).repairs == ()


def test_a_verdict_of_a_whole_log_counts_it(tmp_path: Path) -> None:
    path, _ = log_with_tail(tmp_path)
    head = FileLog(tmp_path).head("s")
    assert verify(path) == Verdict(path, "s", "whole", head, path.stat().st_size)
