"""Our own model: what it says of phantoms kept from training, as a picture, and how long it takes.

    python bench/mllm.py [--overlays OUT.png] [--exams 30]

Exams from seed 1,003,000. The picture: above four films that are read best without any expert, below the four worst
(most missed or false): the true outlines in yellow, the boxes of the report in blue. Printed are a line for each film,
then the times of a report on one thread: the model's stage as it is (`held` to the grammar) beside transformers' own
`generate` on the same weights and input, in turns.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from expert_models import codes
from expert_models.finding import Presence
from medmllm import wording
from medmllm.adapters.local import PACKAGED, LocalModel
from medmllm.answer import Asker
from medmllm.evaluate_grounding import boxes_of
from medmllm.grammar import Grammar
from medmllm.labeler import statements
from medmllm.lexicon import Polarity
from medmllm.model import WetreadForReporting
from medmllm.processor import WetreadProcessor
from medmllm.train.exams import EXPOSURES, Exam, exams
from medmllm.train.tasks import unaided_report
from medmllm.train.truth import findings_of

FIRST_SEED = 1_003_000
SIDE = 320  # pixels of one picture
WORDS = 3 * 14  # pixels of text below a picture


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """One film: words such as "left mass" by what became of them, and the boxes of the report, 0..999."""

    exam: Exam
    right: list[str]
    missed: list[str]
    false: list[str]
    boxes: list[tuple[int, int, int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlays", type=Path)
    parser.add_argument("--exams", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as kept:
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.exams)
        drawn = list(islice(exams(seeds, Path(kept)), 0, None, EXPOSURES))
    if arguments.overlays:
        overlays(drawn, arguments.overlays)
    times(drawn[:5])


def overlays(drawn: list[Exam], out: Path) -> None:
    model = LocalModel(PACKAGED)
    read = []
    for exam in drawn:
        read.append(told(model, exam))
        print(f"phantom {exam.seed}: {' | '.join(lines(read[-1]))}", flush=True)
    read.sort(key=lambda each: (len(each.missed) + len(each.false), -len(each.right)))
    page = Image.new("RGB", (4 * SIDE + 3 * 8, 2 * (SIDE + WORDS + 8)), "white")
    for number, each in enumerate([*read[:4], *read[-4:]]):
        page.paste(picture(each), (number % 4 * (SIDE + 8), number // 4 * (SIDE + WORDS + 8)))
    page.save(out, optimize=True)


def told(model: LocalModel, exam: Exam) -> Told:
    report = model.answers([unaided_report(exam, with_prior=False)])[0].text
    said = {
        f"{each.side or ''} {wording.noun(each.concept)}".strip()
        for each in statements(report)
        if each.polarity is Polarity.PRESENT and each.concept not in codes.ANATOMY
    }
    truth = {
        f"{each.side or ''} {wording.noun(each.concept)}".strip()
        for each in findings_of(exam.now, "1")
        if each.presence is Presence.PRESENT and each.concept not in codes.ANATOMY
    }
    chest = re.compile(r"<ref>in the chest</ref><box>.*?</box>")
    return Told(exam, *(sorted(e) for e in (said & truth, truth - said, said - truth)), boxes_of(chest.sub("", report)))


def lines(each: Told) -> list[str]:
    """The three lines below a picture."""
    names = [", ".join(words) or "-" for words in (each.right, each.missed, each.false)]
    return [f"told: {names[0]}", f"missed: {names[1]}", f"false: {names[2]}"]


def picture(each: Told) -> Image.Image:
    page = Image.new("RGB", (SIDE, SIDE + WORDS), "white")
    film = each.exam.now
    grey = Image.fromarray(film.picture).convert("RGB").resize((SIDE, SIDE))
    for mask in film.outlines[3:]:
        small: npt.NDArray[np.bool_] = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE)))
        grey.paste("#ffe000", mask=Image.fromarray(small & ~binary_erosion(small)))
    for box in each.boxes:
        ImageDraw.Draw(grey).rectangle([edge * SIDE / 1000 for edge in box], outline="#4fc0f0")
    page.paste(grey)
    for number, line in enumerate(lines(each)):
        ImageDraw.Draw(page).text((4, SIDE + 2 + 14 * number), line, fill="black")
    return page


def times(drawn: list[Exam]) -> None:
    """Seconds of a report with a prior from the pictures alone; the peer makes as many tokens, from the same input."""
    folder = str(PACKAGED)
    model = WetreadForReporting.from_pretrained(folder, dtype=torch.float32).eval()
    processor = WetreadProcessor.from_pretrained(folder)
    asker = Asker(model, processor)
    rows = []
    for exam in drawn:
        given = replace(unaided_report(exam), answer=None, grammar=Grammar("report"))
        start = time.perf_counter()
        text = asker.answers([given])[0].text
        held = time.perf_counter() - start
        tokens = len(processor.ids(text))
        batch = processor.batch([given])
        start = time.perf_counter()
        with torch.no_grad():
            encoded = model.encode(batch.images)
            model.generate(batch.input_ids, batch.attention_mask, encoded=encoded, max_new_tokens=1, do_sample=False)
        first = time.perf_counter() - start
        start = time.perf_counter()
        with torch.no_grad():
            model.generate(
                batch.input_ids, batch.attention_mask, encoded=encoded,
                max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            )  # fmt: skip
        free = time.perf_counter() - start
        rows.append((held, first, tokens / held, tokens / free, held / free))
    names = ("report, s", "first token, s", "tokens/s", "tokens/s of generate", "ratio of the times")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name:22s} median {median(values):.2f}  from {min(values):.2f} to {max(values):.2f}  n={len(values)}")


if __name__ == "__main__":
    main()
