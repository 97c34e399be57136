"""What the masks of a film are: each organ and each lesion, projected from the voxels that the film was taken of.

By the convention of radiologists' outlines a lung's outline runs behind the heart and ends at the visible dome of the
diaphragm, so what lies behind or below the dome is left out; pleural air and fluid belong to the lung field. The heart
is the whole cardiac silhouette with the roots of the great vessels, up to the arch, and reaches below the dome. What
lies below the dome is the abdomen: its upper edge is the diaphragm as a film shows it. The airways are the lumen of
trachea and main bronchi.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.lesion import Lesion, LesionKind
from dicom_io.phantom.patient import Visit

if TYPE_CHECKING:
    from dicom_io.phantom.project import Projector

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
ORGANS = ("right_lung", "left_lung", "heart", "airways", "ribs", "right_clavicle", "left_clavicle", "abdomen")
LEAST_MM = {"heart": 3.0, "airways": 4.0, "ribs": 2.0, "right_clavicle": 3.0, "left_clavicle": 3.0}  # along the ray


def outlines(visit: Visit, projector: Projector) -> dict[str, Mask]:
    """The masks (rows, rows) of ORGANS, and of every lesion by tracking id."""
    structures = visit.structures
    abdomen = _below(visit, projector)
    masks: dict[str, Mask] = {}
    pleural: dict[str, list[Array]] = {"left": [], "right": []}
    paths: dict[str, Array] = {}
    for lesion in visit.lesions:
        if lesion.kind is not LesionKind.CARDIOMEGALY:
            paths[lesion.tracking_id] = projector.integrals(lesion.mask, lesion.start)
        if lesion.kind in (LesionKind.EFFUSION, LesionKind.PNEUMOTHORAX) and lesion.side is not None:
            beside = lesion.mask & ~structures["mediastinum"][lesion.box]
            pleural[lesion.side].append(projector.integrals(beside, lesion.start))
    tissue: dict[str, Array] = {}
    for side in ("right", "left"):
        tissue[side] = projector.integrals(structures[f"{side}_lung"])
        path = projector.integrals(structures[f"{side}_lung"] & ~structures["mediastinum"])
        for each in pleural[side]:
            path = path + each
        masks[f"{side}_lung"] = _largest((path > 8.0) & ~abdomen[side])
    masks["heart"] = _largest(projector.integrals(structures["heart"]) > LEAST_MM["heart"])
    masks["abdomen"] = abdomen["right"] | abdomen["left"]
    for name in ("airways", "ribs"):
        masks[name] = projector.integrals(structures[name]) > LEAST_MM[name]
    for side, (start, bone) in _each_side(structures["clavicles"]).items():
        masks[f"{side}_clavicle"] = projector.integrals(bone, (0, 0, start)) > LEAST_MM[f"{side}_clavicle"]
    for lesion in visit.lesions:
        if lesion.kind is LesionKind.CARDIOMEGALY:
            masks[lesion.tracking_id] = masks["heart"]
        else:
            masks[lesion.tracking_id] = _shadow(lesion, paths[lesion.tracking_id], tissue)
    return masks


def _each_side(bones: npt.NDArray[np.bool_]) -> dict[str, tuple[int, npt.NDArray[np.bool_]]]:
    """A pair of bones as the first column and the voxels of each, parted half way between their outer ends."""
    columns = np.flatnonzero(bones.any(axis=(0, 1)))
    middle = int(columns[0] + columns[-1] + 1) // 2 if columns.size else bones.shape[2] // 2
    return {"right": (0, bones[:, :, :middle]), "left": (middle, bones[:, :, middle:])}


def _below(visit: Visit, projector: Projector) -> dict[str, Mask]:
    """What lies below the visible dome, for each lung: its own in a lateral view, one for both in a frontal one."""
    abdomen = visit.structures["abdomen"]
    if not projector.beam.is_lateral:
        below = projector.integrals(abdomen) > 5.0
        return {"right": below, "left": below}
    middle = int(np.clip(np.rint(visit.geometry.to_index([[0.0, 0.0, 0.0]])[0, 2]), 1, abdomen.shape[2] - 1))
    return {
        "right": projector.integrals(abdomen[:, :, :middle]) > 5.0,
        "left": projector.integrals(abdomen[:, :, middle:], (0, 0, middle)) > 5.0,
    }


def _shadow(lesion: Lesion, path: Array, tissue: Mapping[str, Array]) -> Mask:
    """Where a lesion can be seen: enough of it along the ray; for air, more of it than of lung."""
    if lesion.kind is LesionKind.PNEUMOTHORAX and lesion.side is not None:
        return np.asarray((path > 4.0) & (path > tissue[lesion.side]), dtype=bool)
    least = {LesionKind.NODULE: 1.0, LesionKind.MASS: 2.0, LesionKind.ATELECTASIS: 3.0}.get(lesion.kind, 6.0)
    return np.asarray(path > min(least, 0.5 * float(path.max())), dtype=bool)


def _largest(mask: Mask) -> Mask:
    """The largest connected part, its holes filled."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(labels == int(np.argmax(sizes))), dtype=bool)
