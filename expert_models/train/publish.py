"""Weights beside their card: half-precision safetensors, and the lines of the card that follow from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save
from torch import Tensor

from expert_models.card import Score, read_card


def publish(
    card: Path, weights: Path, state: Mapping[str, Tensor], calibration: Mapping[str, float], scores: Sequence[Score]
) -> None:
    """Write the weights in half precision and bring the card's sha256, calibration and scores up to date.

    The words of the card are kept. Calibration values that are not given stay as they are; the scores are replaced.
    Raises CardInvalid when the card would no longer be valid; then nothing is written.
    """
    body = save(halved(state))
    text = card.read_text(encoding="utf-8")
    text = re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(body).hexdigest()}"', text)
    for name, value in calibration.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value:.4g}", text)
        if count != 1:
            raise ValueError(f"the card {card.name} has no calibration value {name!r}")
    head = text.partition("\n[[scores]]")[0].rstrip() + "\n"
    partial = card.with_suffix(".partial") / card.name
    partial.parent.mkdir(exist_ok=True)
    try:
        partial.write_text(head + "".join(_score(score) for score in scores), encoding="utf-8")
        read_card(partial)
        weights.write_bytes(body)
        partial.replace(card)
    finally:
        partial.unlink(missing_ok=True)
        partial.parent.rmdir()


def draw_curve(curve: Sequence[tuple[int, float]], title: str, out: Path) -> None:
    """A training curve of (step, loss) as a PNG, the loss on a logarithmic axis, averaged over 20 steps."""
    width, height, left, bottom = 900, 420, 70, 50
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    losses = torch.tensor([loss for _, loss in curve])
    smooth = losses.unfold(0, min(20, len(losses)), 1).mean(dim=1).log10()
    low, high = float(smooth.min()) - 0.05, float(smooth.max()) + 0.05
    steps = curve[-1][0] + 1

    def place(step: float, value: float) -> tuple[float, float]:
        return (
            left + step / steps * (width - left - 20),
            height - bottom - (value - low) / (high - low) * (height - bottom - 40),
        )

    for tick in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        value = float(torch.tensor(tick).log10())
        if low <= value <= high:
            y = place(0, value)[1]
            draw.line([(left, y), (width - 20, y)], fill="#dddddd")
            draw.text((left - 40, y - 6), f"{tick:g}", fill="black")
    for share in range(5):
        x, y = place(steps * share / 4, low)
        draw.text((x - 12, y + 8), str(round(steps * share / 4)), fill="black")
    draw.line([place(0, low), place(steps, low)], fill="black")
    draw.line([place(0, low), place(0, high)], fill="black")
    offset = len(losses) - len(smooth)
    draw.line([place(index + offset, float(value)) for index, value in enumerate(smooth)], fill="#1f5fa8", width=2)
    draw.text((left, 12), title, fill="black")
    draw.text((width - 120, height - 20), "training step", fill="black")
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(out, optimize=True)


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they ship: on the CPU, those of floating point in half precision."""
    placed = {name: value.detach().cpu() for name, value in state.items()}
    return {n: (each.half() if each.is_floating_point() else each).contiguous() for n, each in placed.items()}


def _score(score: Score) -> str:
    return (
        f'\n[[scores]]\nname = "{score.name}"\nvalue = {score.value:.4f}\nlow = {score.low:.4f}\n'
        f'high = {score.high:.4f}\nn = {score.n}\ndata = "{score.data}"\n'
    )
