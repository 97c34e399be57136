"""Commands that make the weights that ship, again or on your own data."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.errors import BadSetting, storage
from app.opening import check_paths

train_app = typer.Typer(help="Make the weights that ship, again or on your own data.", no_args_is_help=True)

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's mallopt(3)
KEPT_BYTES, ASKED_BYTES = 2_000_000_000, 500_000_000  # free memory that is kept; how much more is asked for at a time

Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]


@train_app.callback()
def hold_freed_memory() -> None:
    """Make the weights that ship, again or on your own data."""
    # A step frees and asks for the same gigabytes. glibc hands large blocks back to the kernel, which gives them out
    # again page by page: half of a step on a processor. Another C library has no mallopt, and nothing is done.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, ASKED_BYTES)):
            mallopt(name, value)


@train_app.command("experts")
def train_experts_command(
    data: Annotated[
        Path | None, typer.Option(help="Folder with the training packs; without it phantoms alone.")
    ] = None,
    out: Out = Path("training"),
    only: Annotated[str | None, typer.Option(help="One expert by its card's name.")] = None,
) -> None:
    """Train the packaged experts. Resumes where an earlier run in OUT stopped."""
    from app.terminal import say
    from expert_models.train.recipes import train_experts

    if data is not None:
        check_paths([data])
    try:
        with storage(out):
            train_experts(data, out, only, say)
    except (ValueError, ImportError) as exc:  # no such recipe, data it cannot train on, or a package it needs
        raise BadSetting(f"training cannot start: {exc}") from exc


@train_app.command("mllm")
def train_mllm_command(
    stage: Annotated[
        Literal["see", "align", "speak", "instruct"],
        typer.Option(help="see: no words; align: the encoder held; speak: the decoder alone; instruct: all of it."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the pack cxr_nih, to learn from real films too.")
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(help="Folder with a causal language model of transformers, instead of the small decoder."),
    ] = None,
    out: Out = Path("training"),
    patients: Annotated[int, typer.Option(min=1, help="Synthetic patients to learn from.")] = 1000,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the stage, instead of the recipe's.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Inputs (for see: exams) of a step, not the recipe's.")
    ] = None,
) -> None:
    """Train the multimodal model on synthetic patients and real films. Resumes where an earlier run in OUT stopped."""
    from app.terminal import say
    from medmllm.train.mllm import train_mllm

    check_paths([each for each in (data, decoder) if each is not None])
    try:
        with storage(out):
            train_mllm(
                stage, out, patients=patients, data=data, decoder=decoder, steps=steps, batch=batch, progress=say
            )
    except (ValueError, ImportError) as exc:  # no stage before it, another run there, no such decoder, or a package
        raise BadSetting(f"training cannot start: {exc}") from exc
