"""What the command line shows: progress on stderr, results on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.pipeline import Watch
from dicom_io.study import LeftOut

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

STAGES = {
    "dicom_io": "reading the study and its priors",
    "expert_models": "experts examine the images",
    "rag": "looking up the literature",
    "medmllm": "writing the draft",
    "results": "saving",
}

Tick = Callable[[int, int], None]  # (done, total)


@contextmanager
def counting(what: str) -> Iterator[Tick]:
    """A progress bar on stderr; a plain line when stderr is not a terminal."""
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def say(line: str) -> None:
    """One line of progress on stderr."""
    err.print(f"  {line}", markup=False)


def watcher() -> Watch:
    """Prints each stage of the pipeline with its seconds."""

    def watch(stage: str, seconds: float | None) -> None:
        if seconds is not None:
            err.print(f"  {STAGES.get(stage, stage)} [dim]{seconds:.1f} s[/dim]")

    return watch


def show_left_out(left_out: Sequence[LeftOut], most: int = 20) -> None:
    """What was not used, and why."""
    for each in left_out[:most]:
        err.print(f"[yellow]left out[/yellow] {escape(each.name)}: {escape(each.reason)}")
    if len(left_out) > most:
        err.print(f"[yellow]left out[/yellow] {len(left_out) - most} more")
