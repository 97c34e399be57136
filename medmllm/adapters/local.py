"""Our own model, in this process: a folder as `wetread train mllm` leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series
from expert_models.finding import Region
from expert_models.once import Once
from medmllm.brief import Brief
from medmllm.errors import ModelUnavailable
from medmllm.grammar import Grammar
from medmllm.ports import Prompt

if TYPE_CHECKING:
    from medmllm.answer import Answered, Asker
    from medmllm.processor import Input, Place

PACKAGED = Path(__file__).parents[1] / "weights" / "wetread-cxr"  # the model that ships
NEEDED = ("model.safetensors", "config.json", "tokenizer.json", "processor_config.json")


class LocalModel:
    """A model in a folder, loaded when it is first asked and kept. Nothing is fetched, nothing is unpickled."""

    def __init__(self, folder: Path) -> None:
        """ValueError, in one sentence, for a folder that holds no such model."""
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{folder} holds no model: {', '.join(missing)} is missing")
        self._folder = folder
        self._asker: Once[Asker] = Once(self._loaded)

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"local {self._folder.name}"

    @property
    def reads_prose(self) -> bool:
        """It reads briefs, and answers with what it sees."""
        return False

    def complete(self, prompt: Prompt) -> str:
        """The answer to the prompt's brief. Raises ModelUnavailable without one, and for a CT it has no eye for."""
        if prompt.brief is None:
            raise ModelUnavailable("the local model reads briefs, and was given none")
        asker = self._asker()
        if prompt.brief.volumes and not asker.reads_volumes:
            raise ModelUnavailable(f"{self.name} reads radiographs alone")
        return asker.answers([as_input(prompt.brief)])[0].text

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        """See medmllm.answer.Asked."""
        return self._asker().answers(inputs)

    def _loaded(self) -> Asker:
        # Here and not above: naming the model must not cost the seconds that torch and transformers take to load.
        from transformers.utils import logging

        from medmllm.answer import Asker
        from medmllm.model import WetreadForReporting
        from medmllm.processor import WetreadProcessor

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model = WetreadForReporting.kept_in(self._folder)
        except ValueError as exc:
            raise ModelUnavailable(str(exc)) from exc
        return Asker(model, WetreadProcessor.from_pretrained(str(self._folder), local_files_only=True))


def as_input(brief: Brief) -> Input:
    """A brief of a report: what its markers stand for, as arrays, and the grammar of what may be answered.

    No id and no region of an expert may be: a sentence rests on a place of its own, since what experts said is not the
    model's to repeat. A region is the box of its finding on its picture or slice.
    """
    from medmllm.processor import Input

    return Input(
        brief.text,
        pictures=[_picture(each) for each in brief.pictures],
        priors=[None if each is None else _picture(each) for each in brief.priors],
        volumes=[_volume(each) for each in brief.volumes],
        prior_volumes=[None if each is None else _volume(each) for each in brief.prior_volumes],
        slices=[series.volume.voxels[index].astype(np.int16, copy=False) for series, index in brief.slices],
        regions=[_place(each, brief) for each in brief.regions],
        grammar=Grammar("report"),
    )


def _picture(series: Series) -> npt.NDArray[np.float32]:
    return np.asarray(series.volume.voxels[0], dtype=np.float32)


def _volume(series: Series) -> npt.NDArray[np.int16]:
    return series.volume.voxels.astype(np.int16, copy=False)


def _place(region: Region, brief: Brief) -> Place:
    from medmllm.processor import Place

    planes = [*((each, 0) for each in brief.pictures), *brief.slices]
    owner, series = next(
        (number, series)
        for number, (series, index) in enumerate(planes)
        if region.series_uid == series.uid and region.box.start[0] <= index < region.box.stop[0]
    )
    mask = np.zeros(series.volume.shape[1:], dtype=bool)
    mask[region.box.slices[1:]] = True
    return Place(owner, mask)
