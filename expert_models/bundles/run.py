"""A bundle at work: built by MONAI's ConfigParser, run on a volume, its answer on the volume's own voxels.

MONAI works on (channel, x, y, z) with an affine to RAS millimetres, as NIfTI has it; a Volume is (slice, row, column)
with an affine to LPS (PS3.3 C.7.6.2.1.1). The axes are only reordered and two signs flipped, so nothing is resampled on
the way in. On the way out the bundle's own Invertd brings the answer back to these voxels; where it has none, the
answer is resampled once by its affine.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn

from dicom_io.study import Volume
from expert_models.bundles.layout import METADATA, PROGRAM, Config, Layout
from expert_models.bundles.safe import laid_over, makes_channel_first, safe_config, without_files
from expert_models.errors import BundleRefused, WeightsMismatch

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NESTED = ("model", "state_dict", "network", "net")  # under which trainers put the tensors into a checkpoint

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Outlined:
    """A bundle's answer on the voxels of the volume.

    values: (channels, slices, rows, columns). is_labels: one channel that holds the number of what is there.
    """

    values: Array
    is_labels: bool

    def mask(self, channel: int, threshold: float) -> npt.NDArray[np.bool_]:
        """(slices, rows, columns) of one channel. BundleRefused when the answer does not have it."""
        if self.is_labels:
            return np.asarray(np.rint(self.values[0]) == channel)
        if channel >= self.values.shape[0]:
            raise BundleRefused(f"its answer has {self.values.shape[0]} channels, and none of number {channel}")
        return np.asarray(self.values[channel] >= threshold)


class Pipeline:
    """The sections of a bundle, built once, run on one volume after another."""

    def __init__(self, layout: Layout, settings: Mapping[str, Any], device: str, *, is_trusted: bool) -> None:
        """Raises BundleRefused or WeightsMismatch; with trust also whatever the bundle's own code raises."""
        self._device = torch.device(device)
        with quietly():
            self._build(layout, settings, device, is_trusted)

    def _build(self, layout: Layout, settings: Mapping[str, Any], device: str, is_trusted: bool) -> None:
        config = laid_over(layout, settings, device)
        parser = _trusted_parser(layout, config) if is_trusted else ConfigParser(safe_config(config))
        self._makes_channel_first = makes_channel_first(layout.config)
        self._before = _component(parser, "preprocessing")
        self._network = _network(parser, layout, self._device, is_trusted=is_trusted)
        self._infer = _component(parser, "inferer")
        self._after = _component(parser, "postprocessing")

    def outline(self, volume: Volume) -> Outlined:
        """Run the bundle on a CT in HU."""
        affine = ras_affine(volume)
        picture = np.ascontiguousarray(volume.voxels.transpose(2, 1, 0), dtype=np.float32)
        with torch.no_grad(), quietly():
            item = self._before({"image": self._image(picture, affine)})
            seen = item["image"].to(self._device)[None]
            answer = self._infer(seen, self._network)
            if not isinstance(answer, Tensor) or answer.ndim != 5:
                raise BundleRefused("its network does not answer with one volume of channels")
            pred = MetaTensor(torch.as_tensor(answer[0]), affine=item["image"].affine)
            done = self._after({**item, "pred": pred})["pred"]
        values = done.detach().cpu()
        back = _affine_of(done, item["image"])
        is_labels = values.shape[0] == 1 and answer.shape[1] > 1
        return Outlined(on_source(values.numpy(), back, affine, volume.shape, nearest=is_labels), is_labels)

    def _image(self, picture: Array, affine: Array) -> MetaTensor:
        """What MONAI's LoadImaged would have given: (x, y, z), with a channel before where the bundle asks for it."""
        meta = {
            "original_affine": affine.copy(),
            "spatial_shape": np.array(picture.shape),
            "original_channel_dim": 0 if self._makes_channel_first else float("nan"),
            "space": "RAS",
        }
        tensor = torch.from_numpy(picture[None] if self._makes_channel_first else picture)
        return MetaTensor(tensor, affine=torch.from_numpy(affine), meta=meta)


@contextmanager
def quietly() -> Iterator[None]:
    """MONAI warns of the age of what a bundle asks for; that is its makers' affair, and may name files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def ras_affine(volume: Volume) -> Array:
    """(4, 4) from (column, row, slice) index to RAS mm."""
    return np.asarray(LPS_TO_RAS @ volume.geometry.affine[:, [2, 1, 0, 3]])


def _trusted_parser(layout: Layout, config: Config) -> ConfigParser:
    """The whole configuration, its own code included: it may import what lies in the bundle."""
    sys.dont_write_bytecode = True  # a file that appears beside the bundle's own would withdraw its trust
    if str(layout.folder) not in sys.path:
        sys.path.insert(0, str(layout.folder))
    parser = ConfigParser({name: without_files(section) for name, section in config.items()})
    parser["device"] = torch.device(str(config["device"]))
    parser.read_meta(str(layout.folder / METADATA))
    return parser


def _component(parser: ConfigParser, name: str) -> Any:
    try:
        built = parser.get_parsed_content(name)
    except Exception as exc:
        raise BundleRefused(f"its {name!r} cannot be built by MONAI ({_root(exc)})") from exc
    if not callable(built):
        raise BundleRefused(f"its {name!r} is nothing that can be called")
    return built


def _network(parser: ConfigParser, layout: Layout, device: torch.device, *, is_trusted: bool) -> nn.Module:
    """The network with the bundle's weights, ready to infer."""
    path = layout.folder / layout.weights
    if layout.weights == PROGRAM:
        if not is_trusted:
            raise BundleRefused("its weights are a program: add it with --trust")
        program: nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        return program.eval()
    network = _component(parser, "network_def")
    if not isinstance(network, nn.Module):
        raise BundleRefused("its 'network_def' is no network")
    tensors = load_file(path) if path.suffix == ".safetensors" else _checkpoint(layout)
    try:
        network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in tensors.items()})
    except RuntimeError:
        raise WeightsMismatch(f"{layout.weights} does not fit the network of its configuration") from None
    return network.to(device).eval()


def _checkpoint(layout: Layout) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint. Only tensors and plain containers are ever unpickled, with trust as without."""
    try:
        kept = torch.load(layout.folder / layout.weights, map_location="cpu", weights_only=True)
    except Exception:
        raise BundleRefused(
            f"{layout.weights} holds more than tensors, or is damaged; such files are not loaded, trusted or not: "
            "save its state_dict as models/model.safetensors"
        ) from None
    for name in NESTED:
        if isinstance(kept, Mapping) and isinstance(kept.get(name), Mapping):
            kept = kept[name]
    if not isinstance(kept, Mapping) or not all(isinstance(each, Tensor) for each in kept.values()):
        raise BundleRefused(f"{layout.weights} holds no tensors by name")
    return kept


def _affine_of(done: Tensor, before: MetaTensor) -> Array:
    """The affine of the final answer; that of the network's input where a transform has lost it."""
    if isinstance(done, MetaTensor):
        return np.asarray(done.affine.cpu().numpy(), dtype=np.float64)
    if tuple(done.shape[1:]) != tuple(before.shape[1:]):
        raise BundleRefused("its postprocessing loses where the answer lies: it needs Invertd")
    return np.asarray(before.affine.cpu().numpy(), dtype=np.float64)


def on_source(values: Array, affine: Array, source: Array, shape: tuple[int, ...], *, nearest: bool) -> Array:
    """(channels, x, y, z) on any affine -> (channels, slices, rows, columns) of the source."""
    wanted = shape[::-1]
    if values.shape[1:] == wanted and np.allclose(affine, source, atol=1e-4):
        return values.transpose(0, 3, 2, 1)
    step = np.linalg.inv(affine) @ source
    moved = [
        ndimage.affine_transform(
            layer.astype(np.float32), step[:3, :3], step[:3, 3], output_shape=wanted, order=0 if nearest else 1
        )
        for layer in values
    ]
    return np.stack(moved).transpose(0, 3, 2, 1)


def _root(exc: BaseException) -> str:
    """The kind of the first cause: its text may hold anything."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return type(exc).__name__
