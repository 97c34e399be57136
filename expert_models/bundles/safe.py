"""The part of a bundle's configuration that can be used without running anything that came with it.

MONAI's ConfigParser evaluates every string that begins with "$" as Python, imports what `imports` names, and calls any
function that `_target_` names. So without trust only a subset is built, and all of it is checked first: the four
sections that inference needs and what they refer to by "@id" ("$@id", which is the same, is read as such), with
`_target_` among the classes named below. Loading and saving of files is left out: the voxels come from the study.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from expert_models.bundles.layout import PROGRAM, Config, Layout
from expert_models.errors import BundleRefused

# Networks whose arguments are plain numbers and names, and which never read a file or ask a server for weights.
NETWORKS = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "BasicUnet", "BasicUnetPlusPlus", "DynUNet", "HighResNet",
    "SegResNet", "SegResNetDS", "SegResNetDS2", "SegResNetVAE", "SwinUNETR", "UNETR", "UNet", "Unet", "VNet",
)  # fmt: skip
INFERERS = ("SimpleInferer", "SlidingWindowInferer", "SlidingWindowInfererAdapt")
TRANSFORMS = (
    "Activations", "AsDiscrete", "BorderPad", "CenterSpatialCrop", "CropForeground", "DivisiblePad",
    "EnsureChannelFirst", "EnsureType", "FillHoles", "Flip", "Invert", "KeepLargestConnectedComponent",
    "NormalizeIntensity", "Orientation", "RemoveSmallObjects", "Resize", "ResizeWithPadOrCrop", "Rotate90",
    "ScaleIntensity", "ScaleIntensityRange", "ScaleIntensityRangePercentiles", "Spacing", "SpatialPad", "SqueezeDim",
    "ThresholdIntensity", "ToDevice", "ToTensor", "Transpose",
)  # fmt: skip
HOMES = {
    **dict.fromkeys(NETWORKS, "monai.networks.nets"),
    **dict.fromkeys(INFERERS, "monai.inferers"),
    **{name + end: "monai.transforms" for name in TRANSFORMS for end in ("", "d", "D", "Dict")},
    "Compose": "monai.transforms",
}
FILES = re.compile(r"(.*\.)?(LoadImage|SaveImage)(d|D|Dict)?")
DETECTION = re.compile(r"retinanet|detection_inferer|monai\.apps\.detection", re.IGNORECASE)
REFERENCE = re.compile(r"\$?@(\w+)((?:(?:::|#)\w+)*)")
LAYER = re.compile(r"torch\.nn\.[A-Z]\w*")
DEVICES = ("device", "sw_device")  # arguments of components
MOST_VALUES = 50_000  # in what is used of a configuration

SECTIONS = ("network_def", "preprocessing", "inferer", "postprocessing")


def check_kind(layout: Layout) -> None:
    """BundleRefused when no amount of trust would make it an expert here."""
    for text in _texts(layout.config):
        if DETECTION.search(text):
            raise BundleRefused(
                "it finds boxes with MONAI's RetinaNet, whose network needs torchvision, which wetread does without; "
                "bundles that outline (segmentation) can be added"
            )
    modality = layout.modality.upper()
    if modality and modality != "CT":
        raise BundleRefused(f"it reads {layout.modality}; bundles for CT can be added")
    if layout.input_channels > 1:
        raise BundleRefused(f"it reads {layout.input_channels} pictures at once; bundles that read one can be added")
    for section in SECTIONS:
        if section not in layout.config:
            raise BundleRefused(f"its inference configuration has no {section!r}")


def check_safe(layout: Layout, settings: Mapping[str, Any]) -> None:
    """BundleRefused, naming --trust, when it cannot be used without running code of its own."""
    if layout.weights == PROGRAM:
        raise BundleRefused(f"its weights are a TorchScript program ({PROGRAM}), which is code: add it with --trust")
    safe_config(laid_over(layout, settings, "cpu"))


def laid_over(layout: Layout, settings: Mapping[str, Any], device: str) -> Config:
    """The inference configuration as it is used: the card's settings over it, and our device wherever one is told."""
    given = {**settings, "device": device, "bundle_root": str(layout.folder)}
    return {name: on_device(section, device) for name, section in {**layout.config, **given}.items()}


def safe_config(config: Mapping[str, Any]) -> Config:
    """The sections and what they refer to, checked, without files, targets spelled out; nothing of it is code.

    config: with what the program and the card give laid over it. BundleRefused names what is not in the subset.
    """
    safe: Config = {}
    waiting = list(SECTIONS)
    counted = [0]
    while waiting:
        name = waiting.pop()
        if name in safe:
            continue
        if name not in config:
            raise BundleRefused(f"its inference configuration refers to {name!r}, which it does not have")
        safe[name] = _checked(config[name], name, waiting, counted)
    return safe


def without_files(value: Any) -> Any:
    """A section without the transforms that load or save files, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_files(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_files(each) for each in value if not is_file_transform(each)]
    return value


def on_device(value: Any, device: str) -> Any:
    """A section with our device where a component is told one: bundles choose theirs by an expression."""
    if isinstance(value, Mapping):
        told = {key: on_device(each, device) for key, each in value.items()}
        if "_target_" in value:
            told |= {key: device for key in DEVICES if isinstance(value.get(key), str)}
        return told
    return [on_device(each, device) for each in value] if isinstance(value, list) else value


def is_file_transform(value: object) -> bool:
    """Whether a component loads or saves a file."""
    target = value.get("_target_") if isinstance(value, Mapping) else None
    return isinstance(target, str) and FILES.fullmatch(target) is not None


def makes_channel_first(value: object) -> bool:
    """Whether the loading transform of a section, which is left out, would have put a channel before the axes."""
    if isinstance(value, Mapping):
        if is_file_transform(value):
            return bool(value.get("ensure_channel_first", False))
        return any(makes_channel_first(each) for each in value.values())
    return isinstance(value, list) and any(makes_channel_first(each) for each in value)


def _checked(value: Any, where: str, waiting: list[str], counted: list[int]) -> Any:
    """The value, or BundleRefused; ids it refers to are put on the waiting list."""
    counted[0] += 1
    if counted[0] > MOST_VALUES:
        raise BundleRefused(f"its inference configuration holds more than {MOST_VALUES} values")
    if isinstance(value, Mapping):
        checked = {
            str(key): _checked(each, where, waiting, counted) for key, each in value.items() if key != "_target_"
        }
        if "_target_" not in value:
            return checked
        return {"_target_": _target(value, where), **checked}
    if isinstance(value, list):
        return [_checked(each, where, waiting, counted) for each in value if not is_file_transform(each)]
    if isinstance(value, str):
        return _text(value, where, waiting)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise BundleRefused(f"{where!r} of its inference configuration holds a {type(value).__name__}")


def _text(value: str, where: str, waiting: list[str]) -> str:
    reference = REFERENCE.fullmatch(value)
    if reference:
        waiting.append(reference[1])
        return value.lstrip("$")
    if value.startswith(("$", "%", "@")):
        raise BundleRefused(f"{where!r} of its inference configuration is code ({value[:60]}): add it with --trust")
    return value


def _target(value: Mapping[str, Any], where: str) -> str:
    """The full name of a class of the subset."""
    target = value["_target_"]
    if "_mode_" in value or not isinstance(target, str):
        raise BundleRefused(f"{where!r} of its inference configuration computes what it calls: add it with --trust")
    if LAYER.fullmatch(target):
        return target
    package, _, name = target.rpartition(".")
    home = HOMES.get(name)
    if home is None or (package and not f"{package}.".startswith(f"{home}.")):
        raise BundleRefused(f"{where!r} names {target}, which is not among what is used unseen: add it with --trust")
    return f"{home}.{name}"


def _texts(value: object) -> Iterator[str]:
    """Every key and text of a configuration."""
    waiting: list[object] = [value]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        each = waiting.pop()
        if isinstance(each, Mapping):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str):
            yield each
