"""What does somebody see who steps through a log, and what does each key do?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from eventlog import EventLogError
from merlin_es.cli.chronicle import is_worth_showing, place_of, said_of, value_text
from merlin_es.cli.printing import MOMENT, printable, width_of
from merlin_es.errors import MerlinError
from merlin_es.walk import Sight, Walk
from projections.history import Absent, Change
from projections.patch import Json

LINES_MAX: Final = 2_000
"""How many lines of a state are shown."""
WARM_PAUSE_S: Final = 0.005
"""How long the reading ahead rests between two stretches, so that keys go first."""
_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


class Stepper(App[None]):
    """The state on the left, the event on the right, and one line that says where we are."""

    TITLE = "merlin replay"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = """
    #where { height: 1; background: $panel; color: $text; text-style: bold; }
    #sides { height: 1fr; }
    #state { width: 3fr; border-right: solid $panel; padding: 0 1; }
    #event { width: 2fr; padding: 0 1; }
    #said { height: 1; color: $warning; }
    #asked { display: none; height: 3; }
    #asked.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,n,l,space", "go(1)", "next"),
        Binding("left,p,h", "go(-1)", "back"),
        Binding("home,g", "jump(1)", "first", show=False),
        Binding("end,G", "jump(-1)", "last", key_display="end"),
        Binding("colon,j", "ask('jump')", "jump"),
        Binding("slash", "ask('search')", "search"),
        Binding("N", "again(False)", "again"),
        Binding("B", "again(True)", "again, back", show=False),
        Binding("f", "toggle_files", "files"),
        Binding("pagedown", "scroll(1)", "scroll", show=False),
        Binding("pageup", "scroll(-1)", "scroll", show=False),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, walk: Walk, seq: int = 1) -> None:
        super().__init__()
        self.seq = seq
        self._walk = walk
        self._main = walk.main
        self._asking: Literal["jump", "search"] = "jump"
        self._wanted = ""
        self._shows_files = False

    def compose(self) -> ComposeResult:
        """Lay everything out."""
        yield Static(id="where", markup=False)
        with Horizontal(id="sides"):
            with VerticalScroll(id="state", can_focus=False):
                yield Static(id="fields", markup=False)
            with VerticalScroll(id="event", can_focus=False):
                yield Static(id="story", markup=False)
        yield Static(id="said", markup=False)
        yield Input(id="asked")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first event, and read ahead."""
        self.call_after_refresh(self._show)  # When it is known how much room there is.
        self._read_ahead()

    def action_go(self, count: int) -> None:
        """Go some events forward or back."""
        self._go_to(self.seq + count)

    def action_jump(self, seq: int) -> None:
        """Go to an event; a negative one counts from the end, which may lie further off than before."""
        self._go_to(seq if seq > 0 else self._walk.refresh() + 1 + seq)

    def action_toggle_files(self) -> None:
        """Show all files, or only the one that says where the stream stands."""
        self._shows_files = not self._shows_files
        self._show()

    def action_scroll(self, pages: int) -> None:
        """Scroll the state."""
        side = self.query_one("#state", VerticalScroll)
        side.scroll_relative(y=pages * max(1, side.size.height - 2), animate=False)

    def action_ask(self, what: Literal["jump", "search"]) -> None:
        """Ask where to go, or what to look for."""
        self._asking = what
        box = self.query_one("#asked", Input)
        box.placeholder = MOMENT if what == "jump" else "text in an event"
        box.value = ""
        box.add_class("open")
        box.focus()

    def action_again(self, backwards: bool) -> None:
        """Look for the same text again."""
        if self._wanted:
            self._search(self._wanted, backwards=backwards)
        else:
            self._say("nothing was searched for yet: type /")

    def on_key(self, event: Any) -> None:  # noqa: ANN401  textual's events
        """Close what is asked without an answer."""
        if event.key == "escape":
            self._close()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go where somebody wants to."""
        text = event.value.strip()
        self._close()
        if not text:
            return
        if self._asking == "search":
            self._wanted = text
            self._search(text)
            return
        try:
            self._go_to(self._walk.point(text))
        except (MerlinError, EventLogError) as error:
            self._say(str(error))

    @work(thread=True, exclusive=True)
    def _read_ahead(self) -> None:
        """Go through the log once, so that jumps are as quick as steps."""
        worker = get_current_worker()
        for seq in self._walk.warm():
            if worker.is_cancelled:
                return
            if seq == self._walk.length:
                break
            time.sleep(WARM_PAUSE_S)

    def _search(self, text: str, *, backwards: bool = False) -> None:
        found = self._walk.find(text, self.seq, backwards=backwards)
        if found is None:
            self._say(f"no event {'before' if backwards else 'after'} this one has {text!r}")
        else:
            self._go_to(found)

    def _close(self) -> None:
        box = self.query_one("#asked", Input)
        box.remove_class("open")
        self.set_focus(None)

    def _go_to(self, seq: int) -> None:
        if seq > self._walk.length:
            self._walk.refresh()
        if 1 <= seq <= self._walk.length:
            self.seq = seq
            self._show()
        else:
            self._say("this is the first event" if seq < 1 else "this is the last event")

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(printable(text))

    def _show(self) -> None:
        sight = self._walk.see(self.seq)
        event = sight.event
        self.query_one("#where", Static).update(
            printable(f"{self._walk.stream}  #{event.seq} of {self._walk.length}  {event.time}")
        )
        self._show_state(sight)
        self.query_one("#story", Static).update(self._story(sight))
        self._say("")

    def _story(self, sight: Sight) -> Text:
        """Tell of the event, and of what it changed."""
        event, text = sight.event, Text(overflow="fold")
        text.append(f"{event.type}\n", "bold cyan")
        text.append(printable(f"{event.actor} ({event.door})") + "\n")
        if sight.because:
            before = sight.because.event
            other = "" if before.stream == event.stream else before.stream
            text.append(printable(f"because of {other}#{before.seq} {before.type}") + "\n", "dim")
        text.append("\n")
        for name, value in said_of(event.data).items():
            text.append(f"{name} ", "dim")
            text.append(f"{printable(value_text(value))}\n")
        text.append("\nwhat it changed\n", "bold")
        for change in filter(is_worth_showing, sight.changes):
            text.append(f"{printable(place_of(change, self._main))} ", "yellow")
            text.append(f"{printable(_was(change))} → {printable(_is(change))}\n")
        return text

    def _show_state(self, sight: Sight) -> None:
        """Show where everything stood, and bring the first thing that the event changed into sight."""
        side, text = self.query_one("#state", VerticalScroll), Text(overflow="fold")
        width, height, mark = max(1, side.size.width - 3), 0, 0
        for count, (line, style) in enumerate(self._lines(sight)):
            if count == LINES_MAX:
                text.append("… and more", "dim")
                break
            text.append(printable(line) + "\n", style)
            mark = mark or (height if style else 0)
            height += 1 + width_of(line) // width
        self.query_one("#fields", Static).update(text)
        side.scroll_to(y=max(0, mark - side.size.height // 2), animate=False)

    def _lines(self, sight: Sight) -> Iterator[tuple[str, str]]:
        changed = {(change.file, change.pointer): change for change in filter(is_worth_showing, sight.changes)}
        for question in questions(sight.stand.state):
            yield f"? {question}", "bold magenta"
        documents = self._walk.documents(sight)
        for file in (self._main, *(name for name in documents if name != self._main)):
            if file not in documents or not (self._shows_files or file == self._main or _is_artifacts(file)):
                continue
            if file != self._main:
                yield f"── {file.rpartition('/')[2]}", "bold"
            for pointer, value in _leaves(documents[file], ""):
                change = _covering(changed, file, pointer)
                if change:
                    yield f"● {pointer[1:]}  {value_text(value)}  (was {_was(change)})", "bold yellow"
                elif value not in _EMPTY:
                    yield f"  {pointer[1:]}  {value_text(value)}", ""
        for change in sight.changes:
            if isinstance(change.after, Absent):
                yield f"● {place_of(change, self._main)}  is gone, it was {_was(change)}", "bold red"


def questions(state: object) -> Iterator[str]:
    """Yield what was open then, and waits for somebody's word."""
    question = getattr(state, "open_question", None)
    if question is not None:
        options = ", ".join(option.id for option in question.options)
        yield f"{question.id}: {question.question} ({options})"
    record = getattr(state, "record", None)
    if record is not None and record.status == "blocked":
        yield f"blocked: {record.message}"


def _leaves(value: Json, pointer: str) -> Iterator[tuple[str, Json]]:
    named: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not named or not value or (isinstance(value, list) and not isinstance(value[0], dict)):
        yield pointer, value
        return
    for name, each in named:
        if not (pointer == "" and name == "as_of"):
            yield from _leaves(each, f"{pointer}/{name}")


def _covering(changed: dict[tuple[str, str], Change], file: str, pointer: str) -> Change | None:
    """Give the change that a place was changed by: its own, one within it, or one of what it lies in."""
    inner = f"{pointer}/"
    for (other, place), change in changed.items():
        if other == file and place.startswith(inner):
            return change
    while True:
        if found := changed.get((file, pointer)):
            return found
        if not pointer:
            return None
        pointer = pointer.rpartition("/")[0]


def _is_artifacts(file: str) -> bool:
    return file.endswith("/artifacts.json")


def _was(change: Change) -> str:
    return "not there" if isinstance(change.before, Absent) else _brief(value_text(change.before))


def _is(change: Change) -> str:
    return "gone" if isinstance(change.after, Absent) else _brief(value_text(change.after))


def _brief(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
