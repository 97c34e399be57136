"""What the chest network learns from: phantom chests on its grid, with more going wrong in them than the phantom draws.

A phantom's mediastinum is plain, its vessels carry no contrast medium, its fluid never presses a lung together and its
aorta is never wide. All of that is painted in here, with its masks, so that the network cannot live on what only
phantoms have: see `chest_scene` for what is fixed in a scene, and `patch_of` for what changes with every patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Generator, Tensor
from torch.nn import functional

from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.study import Volume
from expert_models.ct_grid import resample, upright_grid

PATCH = (64, 64, 80)  # voxels: slices, rows, columns
LABELS = ("right thorax", "left thorax", "heart", "aorta", "effusion", "pneumothorax", "consolidation")
TISSUES = ("vessel", "thin", "soft")  # lung vessels; half-aerated places that count for nothing; liver and muscle
TRAINING_SEEDS, CALIBRATION_SEEDS = (0, 900_000), (900_000, 1_000_000)
VARIED = 0.75  # share of the phantoms from the wider range of bodies: breasts and thick walls are no lung
OPACITY_ML = 20.0  # a plate of atelectasis below this is left out of the loss, and of the scores

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ChestScene:
    """One chest on the network's grid. hu: int16; bits: uint16, bit k for LABELS[k], then for TISSUES; one shape."""

    hu: npt.NDArray[np.int16]
    bits: npt.NDArray[np.uint16]

    def mask(self, name: str) -> Mask:
        """The voxels of one label or tissue."""
        return np.asarray(self.bits >> (*LABELS, *TISSUES).index(name) & 1, dtype=bool)


def truth_of(visit: Visit) -> dict[str, Mask]:
    """The masks of LABELS on the voxels of a phantom visit, and "thin" for its plates of atelectasis.

    A thorax is what one pleura encloses: lung tissue with whatever is wrong in it, pleural fluid and pleural air.
    """
    masks = {name: np.zeros(visit.hu.shape, bool) for name in (*LABELS, "thin")}
    for side in ("right", "left"):
        masks[f"{side} thorax"] |= visit.structures[f"{side}_lung"]
    for organ in ("heart", "aorta"):
        masks[organ] |= visit.structures[organ]
    for lesion in visit.lesions:
        match lesion.kind:
            case LesionKind.EFFUSION | LesionKind.PNEUMOTHORAX:
                masks[lesion.kind.value][lesion.box] |= lesion.mask
                masks[f"{lesion.side} thorax"][lesion.box] |= lesion.mask
            case LesionKind.CONSOLIDATION | LesionKind.ATELECTASIS:
                name = "consolidation" if lesion.volume_ml >= OPACITY_ML else "thin"
                masks[name][lesion.box] |= lesion.mask
    return masks


def chest_scene(number: int, seed: int, spacing_mm: float, seeds: tuple[int, int] = TRAINING_SEEDS) -> ChestScene:
    """Scene `number` of a run: a phantom drawn from (seed, number), with what it lacks painted in.

    seeds: the phantom's own seed lies in this range, half open.

    Vessels and nodes in the mediastinum, other chest walls, fat under the pericardium, wide aortas, calcified ones,
    lung pressed together beside fluid, small amounts of fluid and air, and a table.
    """
    random = np.random.default_rng([seed, number, 11])
    visit = None
    while visit is None:
        grid_mm = float(random.choice([2.0, 3.0, 3.0, 3.0]))
        try:
            visit = draw_patient(
                int(random.integers(*seeds)), kinds=_kinds(random), spacing_mm=grid_mm, upright=False,
                variety=random.random() < VARIED,
            ).visits[-1]  # fmt: skip
        except ValueError:  # these lesions do not fit into this chest: another one
            continue
    volume = Volume(visit.hu, visit.geometry)
    grid = upright_grid(volume, spacing_mm)
    hu = np.maximum(resample(volume.voxels, volume.geometry, grid), -1024.0)
    masks = {
        name: resample(mask.astype(np.float32), volume.geometry, grid, fill=0.0) > 0.5
        for name, mask in truth_of(visit).items()
    }
    between = resample(visit.structures["mediastinum"].astype(np.float32), volume.geometry, grid, fill=0.0) > 0.5
    _shrink_pleura(random, hu, masks)
    _fill_mediastinum(random, hu, masks, between)
    _fill_wall(random, hu, masks, between)
    _widen_aorta(random, hu, masks, spacing_mm)
    _press_lung(random, hu, masks, spacing_mm)
    _lay_table(random, hu)
    thorax = masks["right thorax"] | masks["left thorax"]
    lesion = masks["effusion"] | masks["consolidation"]
    tissues = {
        "vessel": thorax & (hu > -400) & ~lesion,
        "thin": masks["thin"],
        "soft": (hu > -20) & (hu < 120) & ~thorax & ~masks["heart"] & ~masks["aorta"],
    }
    bits = np.zeros(hu.shape, np.uint16)
    for place, mask in enumerate([*(masks[name] for name in LABELS), *(tissues[name] for name in TISSUES)]):
        bits |= mask.astype(np.uint16) << np.uint16(place)
    return ChestScene(np.rint(hu).astype(np.int16), bits)


def patch_of(scene: ChestScene, random: np.random.Generator, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One patch of PATCH voxels: HU (1, ...), truth (labels, ...) and the weight of each voxel (1, ...).

    Varied: place, turn, size and a gentle bend; contrast medium in heart, vessels and liver; breath and emphysema;
    slice thickness, kernel and noise. Never mirrored, for the sides must be told apart.
    """
    grid = _sampling(scene.hu.shape, random, generator)
    bits = torch.from_numpy(scene.bits.astype(np.int32))
    layers = layers_of(_nearest(bits, grid))
    hu = torch.from_numpy(scene.hu.astype(np.float32))
    picture = functional.grid_sample(hu[None, None] + 1024.0, grid, align_corners=False)[0, 0] - 1024.0
    picture = varied(picture, layers, random, generator)
    weight = 1.0 - layers[len(LABELS) + TISSUES.index("thin")].float()
    return picture[None], layers[: len(LABELS)].float(), weight[None]


def layers_of(bits: Tensor) -> Tensor:
    """Bits (slices, rows, columns) as one boolean layer for each of LABELS and TISSUES."""
    return torch.stack([(bits >> place) & 1 for place in range(len(LABELS) + len(TISSUES))]).bool()


def varied(picture: Tensor, layers: Tensor, random: np.random.Generator, generator: Generator) -> Tensor:
    """HU (slices, rows, columns) as another patient's scan on another scanner would show the same shapes."""
    picture = _enhanced(picture, layers, random, generator)
    return _acquired(_breathed(picture, layers, random, generator), random, generator)


def smooth_noise(shape: tuple[int, ...], cells: int, generator: Generator) -> Tensor:
    """Smooth noise of zero mean and about unit variance: white noise on shape / cells, enlarged."""
    coarse = [max(2, math.ceil(size / cells) + 1) for size in shape]
    white = torch.randn(1, 1, *coarse, generator=generator)
    return functional.interpolate(white, size=shape, mode="trilinear", align_corners=False)[0, 0] * 1.6


def _kinds(random: np.random.Generator) -> list[LesionKind]:
    kinds = [LesionKind.EFFUSION] * int(random.choice(3, p=[0.45, 0.38, 0.17]))
    kinds += [LesionKind.PNEUMOTHORAX] * int(random.choice(3, p=[0.7, 0.25, 0.05]))
    kinds += [LesionKind.CONSOLIDATION] * int(random.choice(3, p=[0.5, 0.35, 0.15]))
    kinds += [LesionKind.NODULE] * int(random.choice(4, p=[0.55, 0.2, 0.15, 0.1]))
    for kind, share in ((LesionKind.ATELECTASIS, 0.3), (LesionKind.MASS, 0.3), (LesionKind.EDEMA, 0.12),
                        (LesionKind.CARDIOMEGALY, 0.25)):  # fmt: skip
        if random.random() < share:
            kinds.append(kind)
    return kinds


def _field(random: np.random.Generator, shape: tuple[int, ...], cells: int) -> Array:
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    return smooth_noise(shape, cells, generator).numpy()


def _shrink_pleura(random: np.random.Generator, hu: Array, masks: dict[str, Mask]) -> None:
    """Take the upper part of fluid and the lower part of air away, so that small amounts are seen as well."""
    for name, sign in (("effusion", 1), ("pneumothorax", -1)):
        if random.random() > 0.45 or not masks[name].any():
            continue
        rows = np.nonzero(masks[name])[1] * sign
        cut = np.quantile(rows, float(random.uniform(0.4, 0.95)))
        taken = masks[name] & (np.arange(hu.shape[1])[None, :, None] * sign < cut)
        hu[taken] = -830 + 30 * random.standard_normal(int(taken.sum()))
        masks[name] &= ~taken


def _fill_mediastinum(random: np.random.Generator, hu: Array, masks: dict[str, Mask], between: Mask) -> None:
    """Blobs and tubes of soft tissue or contrast beside the aorta, and fat under the pericardium."""
    free = between & ~masks["heart"] & ~masks["aorta"] & (hu > -500)
    for _ in range(int(random.integers(0, 4))):
        field = _field(random, hu.shape, int(random.integers(4, 9)))
        blob = free & (field > float(random.uniform(0.3, 1.2)))
        value = float(random.choice([random.uniform(-100, 0), random.uniform(20, 70), random.uniform(80, 350)]))
        hu[blob] = value + 8 * random.standard_normal(int(blob.sum()))
    if random.random() < 0.6:
        depth = ndimage.distance_transform_edt(masks["heart"])
        shell = masks["heart"] & (depth < 1.2 + 1.3 * _field(random, hu.shape, 10))
        hu[shell] = -95 + 12 * random.standard_normal(int(shell.sum()))
    if random.random() < 0.5:
        for name in ("aorta", "heart"):
            spots = masks[name] & (_field(random, hu.shape, 2) > 2.6)
            hu[spots] = random.uniform(200, 900)


def _fill_wall(random: np.random.Generator, hu: Array, masks: dict[str, Mask], between: Mask) -> None:
    """Muscle, glands and fat in other places of the chest wall and below the diaphragm than the phantom has them."""
    within = masks["right thorax"] | masks["left thorax"] | masks["heart"] | masks["aorta"] | between
    wall = ~within & (hu > -300) & (hu < 150)
    for _ in range(int(random.integers(0, 4))):
        field = _field(random, hu.shape, int(random.integers(3, 11)))
        blob = wall & (field > float(random.uniform(0.2, 1.2)))
        value = float(random.choice([random.uniform(-120, -70), random.uniform(20, 80)]))
        hu[blob] = value + 10 * random.standard_normal(int(blob.sum()))


def _widen_aorta(random: np.random.Generator, hu: Array, masks: dict[str, Mask], spacing_mm: float) -> None:
    """Let the aorta bulge by up to 12 mm along part of its course."""
    if random.random() > 0.4:
        return
    reach = np.clip(_profile(random, hu.shape[0]), 0, None)[:, None, None] * float(random.uniform(2, 9)) / spacing_mm
    gap = ndimage.distance_transform_edt(~masks["aorta"])
    wider = (gap <= reach) & ~masks["aorta"] & (hu < 150) & (hu > -1000)
    inside = masks["aorta"]
    value = float(np.median(hu[inside])) if inside.any() else 46.0
    hu[wider] = value + 8 * random.standard_normal(int(wider.sum()))
    masks["aorta"] = inside | wider
    for name in ("right thorax", "left thorax", "effusion", "pneumothorax", "consolidation"):
        masks[name] &= ~wider


def _profile(random: np.random.Generator, count: int) -> Array:
    knots = random.standard_normal(max(3, count // 20))
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(knots)), knots).astype(np.float32)


def _press_lung(random: np.random.Generator, hu: Array, masks: dict[str, Mask], spacing_mm: float) -> None:
    """Airless lung beside fluid, as thick as the fluid is much: it counts as consolidation or atelectasis."""
    for side in ("right", "left"):
        thorax = masks[f"{side} thorax"]
        fluid = masks["effusion"] & thorax
        if not fluid.any() or random.random() < 0.35:
            continue
        gap = ndimage.distance_transform_edt(~fluid) * spacing_mm
        reach = float(random.uniform(4, 26)) + 5 * _field(random, hu.shape, 6)
        airless = thorax & ~fluid & ~masks["pneumothorax"] & (gap < reach) & (hu > -960)
        airless &= np.arange(hu.shape[1])[None, :, None] > np.quantile(np.nonzero(fluid)[1], 0.3) - 4
        hu[airless] = random.uniform(15, 70) + 12 * random.standard_normal(int(airless.sum()))
        masks["consolidation"] |= airless


def _lay_table(random: np.random.Generator, hu: Array) -> None:
    if random.random() < 0.3:
        return
    body = np.flatnonzero((hu > -300).any((0, 2)))
    top = int(body[-1]) + int(random.integers(1, 4))
    columns = np.arange(hu.shape[2]) - hu.shape[2] / 2
    rise = float(random.uniform(0, 0.0012)) * columns**2
    for column, lift in enumerate(rise):
        row = round(top - lift)
        if row < hu.shape[1]:
            empty = hu[:, row, column] < -900
            hu[empty, row, column] = random.uniform(-700, 100)


def _sampling(shape: tuple[int, ...], random: np.random.Generator, generator: Generator) -> Tensor:
    """Where each voxel of the patch looks in the scene: (1, *PATCH, 3) in grid_sample's x, y, z of [-1, 1]."""
    size = torch.tensor(shape[::-1], dtype=torch.float32)  # columns, rows, slices
    zoom = float(np.exp(random.uniform(-0.25, 0.2)))
    stretch = torch.from_numpy(np.exp(random.uniform(-0.12, 0.12, 3))).float() / zoom
    half = torch.tensor(PATCH[::-1]) / 2 * stretch
    room = (size / 2 - half).clamp(min=0) + 6
    centre = torch.from_numpy(random.uniform(-1, 1, 3)).float() * room
    z, y, x = torch.meshgrid(*(torch.arange(each) - (each - 1) / 2 for each in PATCH), indexing="ij")
    place = torch.stack([x, y, z], -1) * stretch
    turn = torch.from_numpy(_rotation(random)).float()
    bend = torch.stack([smooth_noise(PATCH, 24, generator) for _ in range(3)], -1) * float(random.uniform(0, 1.5))
    place = place @ turn.T + centre + bend
    return (place * 2 / size)[None]


def _rotation(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """A small turn about each axis: 8 degrees at most, 15 about the long axis of the body."""
    a, b, c = random.uniform(-1, 1, 3) * np.radians([8, 8, 15])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z)


def _nearest(values: Tensor, grid: Tensor) -> Tensor:
    """Whole numbers of the nearest voxel, 0 outside."""
    sampled = functional.grid_sample(values.float()[None, None], grid, mode="nearest", align_corners=False)
    return sampled[0, 0].int()


def _enhanced(picture: Tensor, layers: Tensor, random: np.random.Generator, generator: Generator) -> Tensor:
    """Contrast medium: more or less in the aorta, in the chambers of the heart, in lung vessels and soft organs."""
    names = (*LABELS, *TISSUES)
    if random.random() < 0.45:
        return picture
    shape = tuple(picture.shape)
    blood = float(random.uniform(30, 330))
    heart = layers[names.index("heart")] & (picture > -30)
    chambers = torch.sigmoid(4 * smooth_noise(shape, int(random.integers(6, 14)), generator))
    wall = float(random.uniform(20, 110))
    pool = blood * float(random.uniform(0.6, 1.3))
    picture = torch.where(heart, picture + wall + (pool - wall) * chambers, picture)
    aorta = layers[names.index("aorta")] & (picture > -30)
    picture = torch.where(aorta & (picture < 200), torch.full_like(picture, 45 + blood), picture)
    vessel = layers[names.index("vessel")]
    share = ((picture + 850) / 900).clamp(0, 1)
    picture = torch.where(vessel, picture + blood * float(random.uniform(0.3, 1.2)) * share, picture)
    soft = layers[names.index("soft")]
    picture = torch.where(soft, picture + float(random.uniform(0, 70)), picture)
    airless = layers[names.index("consolidation")] & (picture > -300)
    return torch.where(airless, picture + float(random.uniform(0, 70)), picture)


def _breathed(picture: Tensor, layers: Tensor, random: np.random.Generator, generator: Generator) -> Tensor:
    """Lungs denser or thinner than the phantom's, with emphysema in one of four; fluid from water to pus."""
    names = (*LABELS, *TISSUES)
    shape = tuple(picture.shape)
    thorax = layers[:2].any(0)
    air = layers[names.index("pneumothorax")]
    lung = thorax & ~air & (picture < -500)
    picture = torch.where(lung, picture + float(random.uniform(-50, 130)), picture)
    if random.random() < 0.25:
        holes = lung & (smooth_noise(shape, int(random.integers(2, 7)), generator) > float(random.uniform(0.6, 1.8)))
        picture = torch.where(holes, torch.full_like(picture, float(random.uniform(-1000, -940))), picture)
    if random.random() < 0.3:  # ground glass and dependent density, which are neither fluid nor consolidation
        haze = torch.sigmoid(3 * (smooth_noise(shape, 14, generator) - 1.0)) * float(random.uniform(50, 330))
        picture = torch.where(lung, picture + haze, picture)
    fluid = layers[names.index("effusion")] & (picture > -60)
    return torch.where(fluid, picture + float(random.uniform(-10, 28)), picture)


def _acquired(picture: Tensor, random: np.random.Generator, generator: Generator) -> Tensor:
    """Slice thickness, kernel, noise with its own grain, and a scanner that is not quite calibrated."""
    result = picture[None, None]
    thick = int(random.choice([1, 1, 1, 2, 3]))
    if thick > 1:
        padded = functional.pad(result, (0, 0, 0, 0, (thick - 1) // 2, thick // 2), mode="replicate")
        result = functional.avg_pool3d(padded, (thick, 1, 1), stride=1)
    kernel = float(random.uniform(-0.4, 0.7))
    soft = functional.avg_pool3d(result, 3, stride=1, padding=1, count_include_pad=False)
    result = result + kernel * (soft - result)
    noise = torch.randn(result.shape, generator=generator)
    if random.random() < 0.5:
        noise = functional.avg_pool3d(noise, (1, 3, 3), stride=1, padding=(0, 1, 1)) * 3
    result = result + noise * float(np.exp(random.uniform(np.log(2), np.log(35))))
    result = (result + 1024) * float(random.uniform(0.97, 1.03)) - 1024 + float(random.normal(0, 8))
    return result[0, 0].clamp(-1024, 3071)
