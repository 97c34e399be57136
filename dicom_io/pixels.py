"""Pixel data -> stored values -> Hounsfield units, or a radiograph in [0, 1].

Decoding follows PS3.5 (sections 8 and A.4); what the values mean follows PS3.3 C.7.6.3, C.11.1 (Modality LUT) and
C.11.2 (VOI LUT), in the order of PS3.4 N.2. docs/dicom.md states every rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_io.errors import UnsupportedImage
from dicom_io.read import text
from dicom_io.screen import sop_class

Stored = npt.NDArray[np.integer[Any]]
Float = npt.NDArray[np.float32]

LOWEST_HU, HIGHEST_HU = -1024, 3071  # what 12 bits hold with the usual intercept; air and padding to dense metal
ROBUST_PERCENT = (0.5, 99.5)  # of the pixels, shown as black and white where the file says nothing of a window

# The decoder to try first, by measured speed; then whichever other can; then imagecodecs, for 12-bit JPEG above all.
FASTEST = {
    RLELossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    JPEGBaseline8Bit: "pillow",
}
IMAGECODECS = {
    JPEGBaseline8Bit: "jpeg8_decode",
    JPEGExtended12Bit: "jpeg8_decode",
    JPEGLossless: "ljpeg_decode",
    JPEGLosslessSV1: "ljpeg_decode",
    JPEGLSLossless: "jpegls_decode",
    JPEGLSNearLossless: "jpegls_decode",
    JPEG2000: "jpeg2k_decode",
    JPEG2000Lossless: "jpeg2k_decode",
    HTJ2K: "htj2k_decode",
    HTJ2KLossless: "htj2k_decode",
    HTJ2KLosslessRPCL: "htj2k_decode",
}
COMPRESSED = (*IMAGECODECS, RLELossless)  # every compressed transfer syntax that is decoded here


def transfer_syntax(dataset: Dataset) -> UID:
    """The transfer syntax as stated, or for a file without meta information as its encoding shows."""
    meta = getattr(dataset, "file_meta", None)
    stated = text(meta, "TransferSyntaxUID") if meta is not None else ""
    if stated:
        return UID(stated)
    is_implicit, is_little = dataset.original_encoding
    if is_little is False:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def stored_frames(dataset: Dataset, frames: Sequence[int] = (0,)) -> Iterator[Stored]:
    """The stored values of the frames asked for (counted from 0), each (rows, columns), one at a time.

    Respects BitsStored, HighBit and PixelRepresentation; no LUT is applied. The dataset's pixel data stay where they
    are: what is read here is let go of. Raises UnsupportedImage when they cannot be decoded.
    """
    deferred = dataset.get_item("PixelData", keep_deferred=True)
    try:
        buffer = dataset.get_item("PixelData").value
        yield from _decoded(dataset, buffer, frames)
    finally:
        dataset["PixelData"] = deferred


def hounsfield(
    stored: Stored,
    slope: float,
    intercept: float,
    padding: tuple[int, int] | None = None,
    out: npt.NDArray[np.int16] | None = None,
) -> npt.NDArray[np.int16]:
    """Stored CT values to Hounsfield units (PS3.3 C.11.1.1.2), of the same shape, rounded, clipped to [-1024, 3071].

    padding: the closed range of stored values that lie outside the picture (PS3.3 C.7.5.1.1.2); they become -1024.
    out: where to write the result, if there is a place already.
    """
    if out is None:
        out = np.empty(stored.shape, dtype=np.int16)
    if slope == 1.0 and float(intercept).is_integer() and abs(intercept) <= 16384:
        shift = int(intercept)  # clip first, so that int16 is wide enough and no copy is made
        bounds = np.iinfo(stored.dtype)
        low, high = (int(np.clip(hu - shift, bounds.min, bounds.max)) for hu in (LOWEST_HU, HIGHEST_HU))
        np.clip(stored, low, high, out=out, casting="unsafe")
        out += np.int16(shift)
    else:
        values = stored * np.float64(slope) + np.float64(intercept)
        np.clip(np.rint(values, out=values), LOWEST_HU, HIGHEST_HU, out=values)
        out[...] = values
    if padding is not None:
        out[(stored >= padding[0]) & (stored <= padding[1])] = LOWEST_HU
    return out


def padding_of(dataset: Dataset) -> tuple[int, int] | None:
    """The closed range of stored values that is padding, from PixelPaddingValue and PixelPaddingRangeLimit."""
    values = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = dataset.get(keyword)
        if not isinstance(value, int):
            break
        if dataset.get("PixelRepresentation") == 1 and value >= 1 << (dataset.BitsAllocated - 1):
            value -= 1 << dataset.BitsAllocated  # a negative value that was written as an unsigned one
        values.append(value)
    return (min(values), max(values)) if values else None


def radiograph(stored: Stored, dataset: Dataset) -> Float:
    """A CR or DX image's stored values (rows, columns) to [0, 1], brighter = denser (PS3.4 N.2).

    For presentation: Modality LUT, then VOI LUT or window, then the inversion that MONOCHROME1 asks for. Without a
    VOI: the range of the picture itself, between its 0.5 and 99.5 percentiles. For processing: the logarithm of the
    beam's intensity, turned so that denser is brighter, over the same range. Padding becomes 0; so does a picture of
    one value. Raises UnsupportedImage when nothing but padding is there or a LUT cannot be read.
    """
    padding = padding_of(dataset)
    is_padding = None if padding is None else (stored >= padding[0]) & (stored <= padding[1])
    if is_padding is not None and is_padding.all():
        raise UnsupportedImage("it holds nothing but padding")
    if stored.min() == stored.max():
        return np.zeros(stored.shape, dtype=np.float32)
    is_inverted = text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1"
    try:
        if is_for_processing(dataset):
            shown = _over_own_range(_density(stored, dataset, is_inverted), is_padding)
        else:
            values = _modality_lut(stored, dataset)
            applied = _voi_lut(values, dataset)
            shown = _over_own_range(values, is_padding) if applied is None else applied
            if is_inverted:
                shown = 1.0 - shown
    except (AttributeError, ValueError, TypeError, IndexError, KeyError) as exc:
        raise UnsupportedImage("a lookup table or window in its header cannot be read") from exc
    if is_padding is not None:
        shown[is_padding] = 0.0
    return shown.astype(np.float32, copy=False)


def is_for_processing(dataset: Dataset) -> bool:
    """True for a radiograph that was sent before the vendor's image processing."""
    return (
        sop_class(dataset) == DigitalXRayImageStorageForProcessing
        or text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING"
    )


def window(values: npt.ArrayLike, centre: float, width: float, function: str = "LINEAR") -> Float:
    """Values to [0, 1] by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3), of the same shape.

    function: LINEAR (width at least 1), LINEAR_EXACT or SIGMOID (width above 0). Raises ValueError for others.
    """
    values = np.asarray(values, dtype=np.float32)
    match function:
        case "LINEAR" if width > 1:
            shown = (values - np.float32(centre - 0.5)) / np.float32(width - 1) + np.float32(0.5)
        case "LINEAR" if width == 1:
            shown = (values > centre - 0.5).astype(np.float32)
        case "LINEAR_EXACT" if width > 0:
            shown = (values - np.float32(centre)) / np.float32(width) + np.float32(0.5)
        case "SIGMOID" if width > 0:
            exponent = np.float32(-4.0) * (values - np.float32(centre)) / np.float32(width)
            shown = 1 / (1 + np.exp(np.clip(exponent, -80, 80)))
        case _:
            raise ValueError("no such window")
    return _between_0_and_1(shown)


# ------------------------------------------------------------------------------------------------------------ decoding


def _decoded(dataset: Dataset, buffer: bytes, frames: Sequence[int]) -> Iterator[Stored]:
    syntax = transfer_syntax(dataset)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as exc:
        raise UnsupportedImage("its compression (transfer syntax) is not one that wetread decodes") from exc
    options = _options(dataset)
    is_native = not syntax.is_encapsulated
    shift = int(dataset.get("HighBit", options["bits_stored"] - 1)) + 1 - options["bits_stored"]
    if is_native and shift > 0:  # retired since 2004: the value does not start at the lowest bit
        options |= {"bits_stored": options["bits_allocated"], "pixel_representation": 0}
    for frame in frames:
        index = frame if options["number_of_frames"] > 1 else None
        array = _first_that_can(
            lambda plugin, index=index: decoder.as_array(  # type: ignore[misc]
                buffer, raw=True, index=index, decoding_plugin=plugin, **options
            )[0],
            "" if is_native else FASTEST.get(syntax, ""),
            lambda frame=frame: _by_imagecodecs(dataset, buffer, frame, syntax),  # type: ignore[misc]
        )
        yield _unshifted(array, shift, dataset) if is_native and shift > 0 else array


def _options(dataset: Dataset) -> dict[str, Any]:
    element = dataset.get_item("PixelData")
    return {
        "bits_allocated": int(dataset.BitsAllocated),
        "bits_stored": int(dataset.BitsStored),
        "columns": int(dataset.Columns),
        "rows": int(dataset.Rows),
        "number_of_frames": int(dataset.get("NumberOfFrames") or 1),
        "photometric_interpretation": text(dataset, "PhotometricInterpretation"),
        "pixel_keyword": "PixelData",
        "pixel_representation": int(dataset.get("PixelRepresentation") or 0),
        "pixel_vr": element.VR if element is not None and element.VR in ("OB", "OW") else "OW",
        "samples_per_pixel": 1,
    }


def _first_that_can(
    by_pydicom: Callable[[str], Stored], fastest: str, by_imagecodecs: Callable[[], Stored | None]
) -> Stored:
    failure: Exception | None = None
    for plugin in dict.fromkeys((fastest, "")):
        try:
            return by_pydicom(plugin)
        except Exception as exc:  # codecs raise whatever they like at damaged data
            failure = exc
    try:
        array = by_imagecodecs()
    except Exception as exc:
        array, failure = None, exc
    if array is None:
        raise UnsupportedImage("its pixel data cannot be decoded: they are damaged or incomplete") from failure
    return array


def _by_imagecodecs(dataset: Dataset, buffer: bytes, frame: int, syntax: UID) -> Stored | None:
    if syntax not in IMAGECODECS:
        return None
    import imagecodecs

    count = int(dataset.get("NumberOfFrames") or 1)
    encoded = list(generate_frames(buffer, number_of_frames=count))[frame]
    array: Stored = np.asarray(getattr(imagecodecs, IMAGECODECS[syntax])(encoded))
    if array.shape != (dataset.Rows, dataset.Columns):
        raise ValueError("decoded to another size than the header states")
    if dataset.PixelRepresentation == 1 and array.dtype.kind == "u":
        return _unshifted(array, 0, dataset)
    return array


def _unshifted(array: Stored, shift: int, dataset: Dataset) -> Stored:
    """Unsigned words -> the BitsStored bits from `shift` up, with their sign when they have one."""
    bits = int(dataset.BitsStored)
    values = (array.astype(np.int64) >> shift) & ((1 << bits) - 1)
    if dataset.get("PixelRepresentation") == 1:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.astype(np.int32)


# --------------------------------------------------------------------------------------- the grayscale transformations


def _modality_lut(stored: Stored, dataset: Dataset) -> npt.NDArray[Any]:
    sequence = dataset.get("ModalityLUTSequence")
    if sequence:
        return _look_up(stored, sequence[0], dataset)[0]
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None or not np.isfinite([float(slope), float(intercept)]).all() or slope == 0:
        return stored
    if slope == 1 and intercept == 0:
        return stored
    return (stored * np.float64(slope) + np.float64(intercept)).astype(np.float32)


def _voi_lut(values: npt.NDArray[Any], dataset: Dataset) -> Float | None:
    """By the first VOI LUT, else the first window; None when there is neither, or only an impossible window."""
    sequence = dataset.get("VOILUTSequence")
    if sequence:
        entries, bits = _look_up(values, sequence[0], dataset)
        return entries.astype(np.float32) / np.float32((1 << bits) - 1)
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if centre is None or width is None:
        return None
    try:
        return window(values, centre, width, function)
    except ValueError:
        return None


def _look_up(values: npt.NDArray[Any], item: Dataset, dataset: Dataset) -> tuple[npt.NDArray[np.uint16], int]:
    """Entries of a LUT (PS3.3 C.11.1.1.1 and C.11.2.1.1) for the values, and the bits per entry."""
    count, first, bits = (int(part) for part in item.LUTDescriptor)
    count = count or 1 << 16
    if "ModalityLUTSequence" not in dataset and dataset.PixelRepresentation == 1 and first >= 1 << 15:
        first -= 1 << 16  # a signed value that was written as an unsigned one
    raw = item.LUTData
    if isinstance(raw, bytes):
        order = ">" if dataset.original_encoding[1] is False else "<"
        raw = np.frombuffer(raw, dtype=np.uint8 if len(raw) < 2 * count else f"{order}u2")
    entries = np.asarray(raw, dtype=np.int64).astype(np.uint16)[:count]
    if len(entries) != count or not 8 <= bits <= 16:
        raise ValueError("the lookup table is not as long as its descriptor says")
    index = np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
    return entries[np.clip(index - first, 0, count - 1)], bits


def _density(stored: Stored, dataset: Dataset, is_inverted: bool) -> npt.NDArray[Any]:
    """Values that grow with density, of an image for processing (PS3.3 C.8.11.3.1.2)."""
    relationship = text(dataset, "PixelIntensityRelationship").upper()
    sign = _first(dataset.get("PixelIntensityRelationshipSign")) or (1.0 if is_inverted else -1.0)
    values = _modality_lut(stored, dataset)
    if relationship != "LIN":  # LOG, or processed already: linear in density but for its direction
        return values if sign < 0 else np.negative(values.astype(np.float32))
    beam = values.astype(np.float32)  # proportional to the intensity that reached the detector
    if sign < 0:
        beam = np.float32((1 << int(dataset.BitsStored)) - 1) - beam
    return np.negative(np.log(np.maximum(beam, 1.0)))


def _over_own_range(values: npt.NDArray[Any], is_padding: npt.NDArray[np.bool_] | None) -> Float:
    picture = values if is_padding is None else values[~is_padding]
    low, high = np.percentile(picture, ROBUST_PERCENT)
    if high <= low:  # almost everything has one value: the full range, or nothing to show
        low, high = float(picture.min()), float(picture.max())
    if high <= low:
        return np.zeros(values.shape, dtype=np.float32)
    return _between_0_and_1((values.astype(np.float32) - np.float32(low)) / np.float32(high - low))


def _between_0_and_1(values: Float) -> Float:
    shown: Float = np.clip(values, 0, 1)
    return shown


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None when there is none."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value[0] if hasattr(value, "__getitem__") else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None
