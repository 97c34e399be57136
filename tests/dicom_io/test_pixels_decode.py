"""Every transfer syntax gives back the picture that was put in, whoever encoded it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
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
from dicom_io.pixels import stored_frames, transfer_syntax
from dicom_io.read import parse

ROWS, COLUMNS = 40, 48
RAMP = np.add.outer(np.arange(ROWS) * 20, np.arange(COLUMNS) * 15)  # 0..1485
NOISE = np.random.default_rng(20240131).integers(0, 200, (ROWS, COLUMNS))
UNSIGNED = (RAMP + NOISE).astype(np.uint16)  # 12 bits
SIGNED = (RAMP + NOISE - 1000).astype(np.int16)  # 16 bits, as CT


def j2k(stored: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k"))


def ljpeg(bits: int) -> Callable[[np.ndarray], bytes]:
    return lambda stored: bytes(imagecodecs.ljpeg_encode(stored.view(np.uint16), bitspersample=bits))


def jls(stored: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpegls_encode(stored.view(np.uint16)))


def htj2k(stored: np.ndarray) -> bytes:
    return bytes(imagecodecs.htj2k_encode(stored, reversible=True))


def encapsulated(make: Any, stored: np.ndarray, syntax: UID, encoder: Callable[[np.ndarray], bytes]) -> Dataset:
    bits = 16 if stored.dtype.kind == "i" else 12 if stored.dtype.itemsize == 2 else 8
    dataset = make.dx(stored, BitsStored=bits, HighBit=bits - 1)
    dataset.PixelData = encapsulate([encoder(stored)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def decoded(make: Any, dataset: Dataset) -> np.ndarray:
    (stored,) = stored_frames(parse(make.encode(dataset)))
    return stored


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("picture", [UNSIGNED, SIGNED, UNSIGNED.astype(np.uint8)], ids=["uint16", "int16", "uint8"])
def test_uncompressed(make, syntax: UID, picture: np.ndarray) -> None:
    bits = picture.dtype.itemsize * 8
    dataset = make.dx(picture, BitsStored=bits, HighBit=bits - 1)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = picture.astype(picture.dtype.newbyteorder(">")).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(decoded(make, dataset), picture)


@pytest.mark.parametrize("picture", [UNSIGNED, SIGNED], ids=["uint12", "int16"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name[:12])
def test_what_pydicom_encoded(make, syntax: UID, picture: np.ndarray) -> None:
    bits = 16 if picture.dtype.kind == "i" else 12
    dataset = make.dx(picture, BitsStored=bits, HighBit=bits - 1)
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(decoded(make, dataset), picture)


def test_near_lossless_jpeg_ls_stays_within_its_stated_error(make) -> None:
    dataset = make.dx(UNSIGNED)
    dataset.compress(JPEGLSNearLossless, jls_error=2, generate_instance_uid=False)
    assert np.abs(decoded(make, dataset).astype(int) - UNSIGNED).max() <= 2


@pytest.mark.parametrize(
    ("syntax", "picture", "encoder"),
    [
        (JPEGLossless, UNSIGNED, ljpeg(12)),
        (JPEGLosslessSV1, UNSIGNED, ljpeg(12)),
        (JPEGLosslessSV1, SIGNED, ljpeg(16)),
        (JPEGLSLossless, SIGNED, jls),
        (JPEG2000, UNSIGNED, j2k),
        (JPEG2000Lossless, SIGNED, j2k),
        (HTJ2KLossless, UNSIGNED, htj2k),
        (HTJ2KLossless, SIGNED, htj2k),
        (HTJ2KLosslessRPCL, UNSIGNED, htj2k),
        (HTJ2K, UNSIGNED, htj2k),
    ],
    ids=lambda value: value.name[:40] if isinstance(value, UID) else getattr(value, "dtype", ""),
)
def test_what_imagecodecs_encoded_without_loss(make, syntax: UID, picture: np.ndarray, encoder) -> None:
    np.testing.assert_array_equal(decoded(make, encapsulated(make, picture, syntax, encoder)), picture)


def test_jpeg_baseline_8_bit_and_extended_12_bit(make) -> None:
    eight = (UNSIGNED >> 4).astype(np.uint8)
    baseline = encapsulated(
        make, eight, JPEGBaseline8Bit, lambda stored: bytes(imagecodecs.jpeg8_encode(stored, level=100))
    )
    assert np.abs(decoded(make, baseline).astype(int) - eight).max() <= 1
    extended = encapsulated(
        make,
        UNSIGNED,
        JPEGExtended12Bit,
        lambda stored: bytes(imagecodecs.jpeg8_encode(stored, level=100, bitspersample=12)),
    )
    assert np.abs(decoded(make, extended).astype(int) - UNSIGNED).max() <= 1


def test_frames_one_at_a_time_in_the_order_asked_for(make) -> None:
    frames = np.stack([UNSIGNED + number for number in range(4)])
    dataset = make.dx(frames)
    got = list(stored_frames(parse(make.encode(dataset)), [3, 0]))
    np.testing.assert_array_equal(got, frames[[3, 0]])
    dataset.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(list(stored_frames(parse(make.encode(dataset)), [2, 1])), frames[[2, 1]])


def test_pixel_data_stay_in_the_file_after_decoding(make, tmp_path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(make.encode(make.dx(np.zeros((200, 200), dtype=np.uint16))))
    dataset = pydicom.dcmread(path, defer_size=32 * 1024)
    (first,) = stored_frames(dataset)
    assert dataset.get_item("PixelData", keep_deferred=True).value is None
    (again,) = stored_frames(dataset)
    np.testing.assert_array_equal(first, again)


def test_bits_above_bits_stored_are_not_part_of_the_value(make) -> None:
    # An overlay in bit 12 and rubbish in bit 15, as old modalities wrote them.
    stored = UNSIGNED | np.uint16(1 << 12) | np.uint16(1 << 15)
    np.testing.assert_array_equal(decoded(make, make.dx(stored, BitsStored=12, HighBit=11)), UNSIGNED)


def test_negative_values_of_12_bits(make) -> None:
    # -2048..2047 in the low 12 of 16 bits, the high 4 not sign-extended.
    values = (SIGNED.astype(int) % 4096 - 2048).astype(np.int16)
    stored = (values & 0x0FFF).astype(np.uint16).view(np.int16)
    dataset = make.dx(stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(decoded(make, dataset), values)


def test_values_in_the_high_bits(make) -> None:
    # Retired from the standard, still in old archives: 12 bits stored, high bit 15.
    dataset = make.dx(UNSIGNED << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(decoded(make, dataset), UNSIGNED)


def test_the_transfer_syntax_of_a_file_without_meta_information(make) -> None:
    dataset = make.dx(UNSIGNED)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data = make.encode(dataset)
    headless = parse(data[data.index(b"\x08\x00\x08\x00") :])  # from ImageType, the first element, on
    assert transfer_syntax(headless) == ImplicitVRLittleEndian
    (stored,) = stored_frames(headless)
    np.testing.assert_array_equal(stored, UNSIGNED)


def test_rubbish_for_pixel_data_is_unsupported_not_a_crash(make) -> None:
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, JPEGBaseline8Bit, HTJ2KLossless):
        dataset = encapsulated(make, UNSIGNED, syntax, lambda _: b"\xff\x4f\x00\x01rubbish" * 5)
        with pytest.raises(UnsupportedImage, match="cannot be decoded"):
            decoded(make, dataset)


def test_too_few_uncompressed_values_are_unsupported(make) -> None:
    dataset = make.dx(UNSIGNED)
    dataset.PixelData = dataset.PixelData[:-100]
    with pytest.raises(UnsupportedImage, match="damaged or incomplete"):
        decoded(make, dataset)


def test_an_unknown_transfer_syntax_says_so(make) -> None:
    dataset = encapsulated(make, UNSIGNED, UID("1.2.840.10008.1.2.4.100"), lambda _: b"MPEG2")
    with pytest.raises(UnsupportedImage, match="compression"):
        decoded(make, dataset)
