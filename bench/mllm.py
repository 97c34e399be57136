"""Our own model: what it says of phantoms kept from training, as a picture, and how long it takes.

    python bench/mllm.py [--overlays OUT.png] [--exams 30]

Exams from seed 1,003,000. The picture: above four films that are read best without any expert, below the four worst
(most missed or false): the true outlines in yellow, the boxes of the report in blue. Printed are a line for each film,
then the times of a report on one thread, three ways in turns on the same weights and input: transformers' `generate`,
free (the peer); the same held to the grammar; our loop (medmllm/decode.py) held to the grammar, which is what `Asker`
does. The free one makes as many tokens as the held ones, whose tokens are compared. Times go from the embedded prompt
to the last token and include the making of the grammar; what the pictures take before is a line of its own.
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
from torch import Tensor

from expert_models import codes
from expert_models.finding import Presence
from medmllm import wording
from medmllm.adapters.local import PACKAGED, LocalModel
from medmllm.answer import MOST_TOKENS
from medmllm.constrain import Constrained, Held, Vocabulary
from medmllm.decode import greedy, is_known
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
    for x1, y1, x2, y2 in each.boxes:  # written without the grammar, so that corners may be the wrong way round
        edges = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        ImageDraw.Draw(grey).rectangle([edge * SIDE / 1000 for edge in edges], outline="#4fc0f0")
    page.paste(grey)
    for number, line in enumerate(lines(each)):
        ImageDraw.Draw(page).text((4, SIDE + 2 + 14 * number), line, fill="black")
    return page


def times(drawn: list[Exam]) -> None:
    """Of a report with a prior from the pictures alone. The first token's time is that of a text of one token."""
    folder = str(PACKAGED)
    model = WetreadForReporting.from_pretrained(folder, dtype=torch.float32).eval()
    processor = WetreadProcessor.from_pretrained(folder)
    vocabulary = Vocabulary(processor.tokenizer)
    grammar = Grammar("report")
    decoder = model.decoder
    assert is_known(decoder)
    rows: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        rows.setdefault(name, []).append(value)

    def free(given: dict[str, Tensor], most: int) -> Tensor:
        new: Tensor = decoder.generate(**given, max_new_tokens=most, min_new_tokens=most, do_sample=False)
        return new

    def held(given: dict[str, Tensor], most: int) -> Tensor:
        processors = [Constrained(vocabulary, grammar)]
        new: Tensor = decoder.generate(**given, max_new_tokens=most, do_sample=False, logits_processor=processors)
        return new

    def ours(given: dict[str, Tensor], most: int) -> Tensor:
        return greedy(decoder, given["inputs_embeds"], given["attention_mask"], most, Held(vocabulary, grammar))

    ways = {"generate, free": free, "generate, held": held, "ours, held": ours}
    for number, exam in enumerate(drawn):
        batch = processor.batch([replace(unaided_report(exam), answer=None, grammar=grammar)])
        with torch.no_grad():
            start = time.perf_counter()
            encoded = model.encode(batch.images)
            given = {"inputs_embeds": model.embedded(batch.input_ids, encoded), "attention_mask": batch.attention_mask}
            note("pictures, s", time.perf_counter() - start)
            written = ours(given, MOST_TOKENS)
            count = written.shape[1]
            rates = {}
            for name in (*list(ways)[number % 3 :], *list(ways)[: number % 3]):
                start = time.perf_counter()
                ways[name](given, 1)
                note(f"{name}: first token, s", time.perf_counter() - start)
                start = time.perf_counter()
                made = ways[name](given, count)
                taken = time.perf_counter() - start
                if not (name.endswith("free") or torch.equal(made, written)):
                    print(f"phantom {exam.seed}: {name} says something else")
                rates[name] = count / taken
                note(f"{name}: report, s", taken)
                note(f"{name}: tokens/s", rates[name])
            note("ours held / generate free", rates["ours, held"] / rates["generate, free"])
            note("ours held / generate held", rates["ours, held"] / rates["generate, held"])
            note("tokens of a report", count)
    for name, values in sorted(rows.items()):
        print(f"{name:30s} median {median(values):.3g}  from {min(values):.3g} to {max(values):.3g}  n={len(values)}")


if __name__ == "__main__":
    main()
