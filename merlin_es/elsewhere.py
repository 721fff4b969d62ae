"""Where do the executions lie that runs carry out? In target directories, outside of the state root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eventlog import Damaged, FileLog, Invalid, NotReadable
from merlin_es.waiting import WORKFLOW
from projections.layout import TargetLayout, execution_id_of, run_stream


class Elsewhere:
    """The executions of the runs that `log` has.

    `logs` are those that were met, by their streams; `gone` the target directories in which there is none any more,
    each with a run that was to carry it out.
    """

    def __init__(self, log: FileLog) -> None:
        self._log = log
        self._targets: dict[str, tuple[str, str]] = {}
        self.logs: dict[str, FileLog] = {}
        self.gone: dict[str, str] = {}

    def execution_of(self, run_id: str) -> str | None:
        """Give the stream of the execution that lies in the target directory of a run; None when there is none."""
        directory, workflow = self._target_of(run_id)
        layout = TargetLayout(Path(directory))
        try:
            execution = layout.stream() if directory else None
        except (Invalid, OSError):
            return None
        if execution is None or execution_id_of(execution) is None:
            if workflow == WORKFLOW and directory not in self.gone and not self._is_dry(run_id):
                self.gone[directory] = run_id
            return None
        self.gone.pop(directory, None)
        self.logs.setdefault(execution, FileLog(layout))
        return execution

    def _target_of(self, run_id: str) -> tuple[str, str]:
        """Give the target directory and the workflow of a run, which its first event says for good.

        What another tool recorded had no log of an execution, so none is missed.
        """
        if run_id not in self._targets:
            try:
                first = next(self._log.read(run_stream(run_id)), None)
            except (Damaged, NotReadable):
                first = None
            data: Mapping[str, object] = first.data if first else {}
            had_a_log = first is not None and first.type != "run.imported"
            workflow = str(data.get("workflow") or "") if had_a_log else ""
            self._targets[run_id] = (str(data.get("target_dir") or ""), workflow)
        return self._targets[run_id]

    def _is_dry(self, run_id: str) -> bool:
        """Tell whether a run was only ever said, so that nothing was made for it."""
        return any(event.type == "run.dry_run_recorded" for event in self._log.read(run_stream(run_id)))
