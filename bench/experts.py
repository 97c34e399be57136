"""How fast the networks of the experts run, and whether they still say the same: ratios to PyTorch and to MONAI.

    python bench/experts.py [--data ../shared/data] [--slices 200] [--runs 3]

Three runners on one network in one process, one after the other: plain PyTorch (eager, float32), MONAI's own bundle
runner (a bundle of the same network, weights and inferer, made here), and the runtime that wetread has chosen. Then the
nodule expert on a whole CT of 512 x 512 pixels, in a process for each runner, with its peak memory. --data: a folder
with the pack cxr_anatomy, on whose validation rows the chosen runtime is compared with plain PyTorch. Seconds are of
processor time (all threads together), because the machine may be busy, and the least of the runs counts; wall time
stands beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from torch import Tensor, nn

from dicom_io.phantom.lesion import LesionKind
from dicom_io.phantom.patient import draw_patient
from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.card import Card, packaged_card
from expert_models.ct_nodules import CtNodules
from expert_models.measure import dice
from expert_models.runtime import Run, runner, told
from expert_models.segment import Segmenter, load_network
from expert_models.train.radiographs import real_radiographs
from expert_models.wire import CarriedMasks

SEED = 1_000_003
INPUTS = {"cxr-anatomy": (1, 1, 256, 256), "ct-nodules": (1, 1, 96, 96, 96)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["networks", "equal", "ct"])
    parser.add_argument("--child", choices=["eager", "chosen"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(whole_ct(arguments.child, arguments.slices, arguments.runs)))
        return
    print(f"{told()}; {torch.get_num_threads()} threads")
    if arguments.only in (None, "networks"):
        networks(arguments.runs)
    if arguments.data and arguments.only in (None, "equal"):
        equal(arguments.data / "cxr_anatomy")
    if arguments.only in (None, "ct"):
        whole(arguments.slices, arguments.runs)


def eager(network: nn.Module) -> Run:
    """Plain PyTorch in float32."""

    def run(frames: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            answer: Tensor = network(frames)
        return answer

    return run


def networks(runs: int) -> None:
    for name, shape in INPUTS.items():
        card, frames = packaged_card(name), torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
        plain, chosen = eager(load_network(card)), runner(load_network(card))
        with tempfile.TemporaryDirectory() as scratch:
            bundle = bundle_run(card, Path(scratch))
            if (bundle(frames) - plain(frames)).abs().max() > 1e-3:
                raise SystemExit("the bundle is not the same network")
            took = {
                "PyTorch eager, float32": least(partial(plain, frames), runs),
                "MONAI bundle runner": least(partial(bundle, frames), runs),
                "wetread": least(partial(chosen, frames), runs),
            }
        print(f"\n{name}, network on one input {shape}")
        show(took)


def bundle_run(card: Card, folder: Path) -> Run:
    """What MONAI's bundle runner runs of a bundle of the card's network and weights, once it has built all parts.

    A ConfigWorkflow remembers what it has run, so its inferer and network are called here, as its "run" does.
    """
    torch.save(load_network(card).state_dict(), folder / "model.pt")
    config = {
        "imports": ["$import torch"],
        "network": {"_target_": card.network.replace(":", "."), **card.arguments},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": card.input.size, "overlap": 0.25},
        "initialize": [
            f"$@network.load_state_dict(torch.load({str(folder / 'model.pt')!r}, weights_only=True))",
            "$@network.eval()",
        ],
        "run": ["$@inferer(torch.zeros(1, 1, 1, 1), @network)"],
    }
    (folder / "inference.json").write_text(json.dumps(config))
    (folder / "metadata.json").write_text(json.dumps({"version": "1"}))
    workflow = ConfigWorkflow(
        str(folder / "inference.json"), str(folder / "metadata.json"), logging_file=False, workflow_type="inference"
    )
    workflow.initialize()
    inferer, network = (workflow.parser.get_parsed_content(name) for name in ("inferer", "network"))

    def run(frames: Tensor) -> Any:
        with torch.no_grad():
            return inferer(frames, network)

    return run


def equal(pack: Path) -> None:
    """The chosen runtime against plain PyTorch on every validation row: probabilities, masks, decisions."""
    card = packaged_card("cxr-anatomy")
    first, second = Segmenter(card, network=eager(load_network(card))), Segmenter(card)
    furthest, alike, changed, count = 0.0, 1.0, 0, 0
    for row in real_radiographs(pack, lambda split: split != "train"):
        one, other = first.segment(row.picture), second.segment(row.picture)
        furthest = max(furthest, max(abs(one.confidence[name] - other.confidence[name]) for name in one.masks))
        alike = min(alike, min(dice(one.masks[name], other.masks[name]) for name in one.masks))
        limits = card.calibration
        verdicts = [
            [each.confidence[name] >= limits["lowest_confidence"], each.agreement[name] >= limits["lowest_agreement"]]
            for name in one.masks
            for each in (one, other)
        ]
        changed += verdicts[::2] != verdicts[1::2]
        count += 1
    print(f"\ncxr-anatomy, {count} validation radiographs: least Dice {alike:.5f}, confidence within {furthest:.2g}, ")
    print(f"  decisions changed on {changed}")


def whole(slices: int, runs: int) -> None:
    found = {}
    for kind in ("eager", "chosen"):
        command = [sys.executable, __file__, "--child", kind, "--slices", str(slices), "--runs", str(runs)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    print(f"\nct-nodules, the whole expert on {slices} slices of 512 x 512")
    show({{"eager": "PyTorch eager, float32", "chosen": "wetread"}[kind]: each["took"] for kind, each in found.items()})
    print(f"  peak memory {found['eager']['peak_mib']:.0f} and {found['chosen']['peak_mib']:.0f} MiB")
    one, other = found["eager"]["found"], found["chosen"]["found"]
    same = [each[0] for each in one] == [each[0] for each in other]
    furthest = max((abs(a[1] - b[1]) for a, b in zip(one, other, strict=False)), default=0.0)
    print(
        f"  {len(one)} findings, decisions {'the same' if same else 'DIFFERENT'}, probabilities within {furthest:.2g}"
    )


def whole_ct(kind: str, slices: int, runs: int) -> dict[str, Any]:
    card = packaged_card("ct-nodules")
    expert = CtNodules(card=card, network=eager(load_network(card)) if kind == "eager" else None)
    series = phantom_ct(slices)
    findings = expert.examine(series, CarriedMasks())  # warms up
    took = least(lambda: expert.examine(series, CarriedMasks()), runs)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told_of = [(f"{each.concept.meaning} {each.presence.value}", each.probability or 0.0) for each in findings]
    return {"took": took, "peak_mib": peak_mib, "found": told_of}


def phantom_ct(slices: int) -> Series:
    """A phantom with two nodules and a mass, 512 x 512 pixels of 0.8 mm, resampled along z to so many slices."""
    kinds = [LesionKind.NODULE, LesionKind.NODULE, LesionKind.MASS]
    visit = draw_patient(SEED, visits=1, spacing_mm=(2.0, 1.6, 1.6), upright=False, kinds=kinds).visits[0]
    near = np.rint(np.linspace(0, visit.hu.shape[0] - 1, slices)).astype(int)
    doubled = visit.hu[near].repeat(2, axis=1).repeat(2, axis=2)[:, :512, :512]
    voxels = np.full((slices, 512, 512), -1000, np.int16)
    voxels[:, : doubled.shape[1], : doubled.shape[2]] = doubled
    affine = visit.geometry.affine.copy()
    affine[:3, 0] *= visit.hu.shape[0] / slices
    affine[:3, 1:3] /= 2
    return Series("1.2.3", Modality.CT, Volume(voxels, Geometry(affine)), tuple(f"1.2.3.{n}" for n in range(slices)))


def least(work: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Processor and wall seconds, each the least of the runs after one that warms up."""
    work()
    took = []
    for _ in range(runs):
        processor, wall = time.process_time(), time.perf_counter()
        work()
        took.append((time.process_time() - processor, time.perf_counter() - wall))
    return min(each[0] for each in took), min(each[1] for each in took)


def show(took: dict[str, tuple[float, float]]) -> None:
    fastest = took["wetread"][0]
    for name, (processor, wall) in took.items():
        print(
            f"  {name:26} {processor:8.3f} s of processor, {wall:8.3f} s wall, {processor / fastest:5.1f} x wetread's"
        )


if __name__ == "__main__":
    main()
