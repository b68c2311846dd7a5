"""Progress on standard error: a line per stage, bars where it is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Screen:
    """A listener (`kd.study.Listener`) that draws what it hears."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=self.console, transient=True)
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def stage(self, text: str) -> None:
        """Print the stage's name and clear the bars that are full."""
        full = {task.id for task in self.progress.tasks if task.finished}
        for name, bar in list(self.bars.items()):
            if bar in full:
                self.progress.remove_task(self.bars.pop(name))
        self.console.print(text, highlight=False)

    def tick(self, text: str, done: int, total: int) -> None:
        """Move the bar called `text`."""
        if text not in self.bars:
            self.bars[text] = self.progress.add_task(text, total=total)
        self.progress.update(self.bars[text], completed=done, total=total)
