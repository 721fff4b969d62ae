"""Was each question answered once, and each task done once, after those that it depends on?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audits.chain import Log, Violation

PAUSE = "pause"
"""What a choice begins with that does nothing: the first answer that does something is the one that counts."""


def of_execution(log: Log) -> Iterator[Violation]:
    """Say what is wrong with one execution."""
    questions: dict[str, str] = {}
    options: dict[str, set[str]] = {}
    needs: dict[str, tuple[str, ...]] = {}
    done: set[str] = set()
    for event in log.events:
        data: Any = event.data
        request, task = data.get("request_id"), data.get("task_id")
        if event.type == "execution.prepared":
            needs = {each["id"]: tuple(each["depends_on"]) for each in data["tasks"]}
        if event.type == "execution.reset":
            done, questions = set(), {}
        elif event.type == "question.asked":
            questions[request], options[request] = "open", {each["id"] for each in data["options"]}
        elif event.type == "question.answered":
            if questions.get(request) != "open":
                what = f"{request} is {questions.get(request, 'not asked')}"
                yield Violation("a question is answered once", event.where, what)
            elif data["choice"] not in options[request]:
                yield Violation("an answer is one of the options", event.where, f"{data['choice']!r} of {request}")
            questions[request] = "open" if data["choice"].startswith(PAUSE) else "answered"
        elif event.type == "question.paused":
            questions[request] = "open"
        elif event.type == "question.resolved":
            if questions.get(request) not in ("open", "answered"):
                what = f"{request} is {questions.get(request, 'not asked')}"
                yield Violation("a question is resolved once", event.where, what)
            questions[request] = "resolved"
        elif event.type == "task.completed":
            if task in done:
                yield Violation("a task is done once", event.where, f"{task} was done before")
            for other in needs.get(task, ()):
                if other not in done:
                    yield Violation("what a task needs is done first", event.where, f"{task} before {other}")
            done.add(task)
