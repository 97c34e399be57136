"""The stages of the recipe, each with what it needs to run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """One stage. batch: inputs of a step; rate: peak learning rate; frozen: parts of the model that do not learn.

    films: kept at a time by `speak`, 2.4 MB each; renewed: steps after which it keeps other ones. begun: the sha256 of
    the weights that the stage goes on with, "" where it starts.
    """

    stage: str
    steps: int
    batch: int = 8
    rate: float = 1e-3
    frozen: tuple[str, ...] = ()
    average: float = 0.99
    checkpoint_every: int = 50
    seed: int = 0
    films: int = 1536
    renewed: int = 500
    begun: str = ""


SEE = Plan("see", 600, batch=16, rate=1e-3, average=0.995)  # batch: exams, of two films each
ALIGN = Plan("align", 200, batch=32, frozen=("picture_encoder.body",))
SEEN = ("picture_encoder.body", "picture_encoder.down", "picture_encoder.smooth", "outline_tokens", "told")
PICTURED = ("picture_encoder", "alignment", "packer", "outline_tokens", "told")  # all that a picture goes through
SPEAK = Plan("speak", 2400, batch=24, rate=8e-4, frozen=PICTURED)
INSTRUCT = Plan("instruct", 1400, batch=32, rate=6e-4, average=0.997)
STAGES = (SEE, ALIGN, SPEAK, INSTRUCT)
