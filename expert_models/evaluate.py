"""`wetread evaluate experts`: the experts that ship, run on labelled data, scored with 95 % intervals.

A source is a folder laid out as the development data are (one folder per pack, each with an index.csv; every pack found
is used, and rows whose split is "train" never are), or `phantom:START-STOP`, a range of seeds drawn on the fly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Progress = Callable[[str], None]

BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: its mean over n cases, and the 95 % interval of a bootstrap over patients."""

    name: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one suite measured on one source with one version of the product."""

    suite: str
    source: str
    version: str
    metrics: tuple[Metric, ...]

    def as_json(self) -> dict[str, Any]:
        """{"suite", "source", "version", "metrics": [{"name", "value", "low", "high", "n"}]}."""
        return {**asdict(self), "metrics": [asdict(metric) for metric in self.metrics]}


def mean_metric(name: str, values: Sequence[float], patients: Sequence[str]) -> Metric:
    """The mean of one value per case, with an interval from resampling patients (cases of a patient stay together)."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrapped(name, lambda index: float(array[index].mean()), patients)


def bootstrapped(name: str, score: Callable[[npt.NDArray[np.int64]], float], patients: Sequence[str]) -> Metric:
    """Any score of a set of cases, given as their indices (with repeats), with a bootstrap over patients.

    score may return nan for a draw on which it is undefined (an AUROC of one class); such draws are left out.
    """
    if not patients:
        raise ValueError(f"{name} has no case to score")
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    members = [np.flatnonzero(owner == each) for each in range(len(names))]
    random = np.random.default_rng(0)
    draws = [
        score(np.concatenate([members[each] for each in random.integers(0, len(names), len(names))]))
        for _ in range(BOOTSTRAPS)
    ]
    value = score(np.arange(len(patients)))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Metric(name, value, min(float(low), value), max(float(high), value), len(patients))


def evaluate_experts(source: str, *, limit: int | None = None, progress: Progress | None = None) -> Evaluation:
    """Score every packaged expert on a source; see the head of this module for what a source is.

    limit: at most so many cases of each pack. ValueError, in one sentence, for a source that is neither a folder with a
    known pack nor a range of seeds.
    """
    # Heavy, and only this command needs them: the scorers pull in the experts' networks.
    from expert_models.chest_findings import ChestFindings
    from expert_models.chest_radiograph import ChestRadiograph
    from expert_models.chest_structures import ChestStructures
    from expert_models.evaluate_compare import evaluate_compare
    from expert_models.evaluate_ct import evaluate_ct
    from expert_models.evaluate_ct_chest import evaluate_ct_chest
    from expert_models.evaluate_ct_emphysema import evaluate_emphysema
    from expert_models.evaluate_findings import evaluate_films, evaluate_findings_on_phantoms
    from expert_models.evaluate_inputs import evaluate_inputs
    from expert_models.evaluate_nodule_attributes import evaluate_attributes
    from expert_models.evaluate_radiographs import evaluate_packs, evaluate_phantoms
    from expert_models.evaluate_structures import evaluate_structures, phantom_cases, real_cases
    from expert_models.registry import packaged_experts

    expert = ChestRadiograph()
    if source.startswith("phantom:"):
        metrics = evaluate_phantoms(expert, phantom_seeds(source), limit, progress)
        metrics += evaluate_findings_on_phantoms(ChestFindings(), expert, phantom_seeds(source), limit, progress)
        metrics += evaluate_structures(ChestStructures(), phantom_cases(phantom_seeds(source)), limit, progress)
        metrics += evaluate_compare(packaged_experts(), phantom_seeds(source), limit, progress)
        metrics += evaluate_emphysema(phantom_seeds(source), limit, progress)
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise ValueError(f"{source} is neither a folder nor a range phantom:START-STOP")
        metrics = evaluate_packs(expert, folder, limit, progress)
        metrics += evaluate_films(ChestFindings(), folder, limit, progress)
        metrics += evaluate_structures(ChestStructures(), real_cases(folder / "cxr_anatomy"), limit, progress)
    metrics += evaluate_ct(source, limit=limit, progress=progress)
    metrics += evaluate_ct_chest(source, limit=limit, progress=progress)
    metrics += evaluate_inputs(packaged_experts(), source, limit, progress)
    metrics += evaluate_attributes(source, limit=limit, progress=progress)
    if not metrics:
        raise ValueError(f"{source} holds no pack with a row that is not for training")
    return Evaluation("experts", source, version("wetread"), tuple(metrics))


def phantom_seeds(source: str) -> range:
    """The seeds START (included) to STOP (left out) of `phantom:START-STOP`."""
    found = re.fullmatch(r"phantom:(\d+)-(\d+)", source)
    seeds = range(int(found[1]), int(found[2])) if found else range(0)
    if not seeds:
        raise ValueError(f"{source} is not a range of seeds: write phantom:START-STOP with START below STOP")
    return seeds
