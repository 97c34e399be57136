"""From stored values to HU and to [0, 1]: expected numbers are worked by hand from the standard's formulas."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import DigitalXRayImageStorageForProcessing, ExplicitVRBigEndian

from dicom_io.errors import UnsupportedImage
from dicom_io.pixels import hounsfield, padding_of, radiograph, stored_frames, window
from dicom_io.read import parse


def shown(make, dataset: Dataset) -> np.ndarray:
    parsed = parse(make.encode(dataset))
    (stored,) = stored_frames(parsed)
    return radiograph(stored, parsed)


def lut(first: int, entries: list[int], bits: int = 8) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "US"
    return item


class TestHounsfield:
    def test_by_hand(self) -> None:
        stored = np.array([[0, 24, 1024], [2000, 4095, 32767]], dtype=np.int16)
        got = hounsfield(stored, 1, -1024)
        assert got.dtype == np.int16
        np.testing.assert_array_equal(got, [[-1024, -1000, 0], [976, 3071, 3071]])

    def test_unsigned_values_beyond_int16(self) -> None:
        got = hounsfield(np.array([0, 1000, 40000, 65535], dtype=np.uint16), 1, -1000)
        np.testing.assert_array_equal(got, [-1000, 0, 3071, 3071])

    def test_bytes(self) -> None:
        np.testing.assert_array_equal(hounsfield(np.array([0, 255], dtype=np.uint8), 1, -100), [-100, 155])

    def test_a_fractional_slope_is_rounded_to_the_nearest(self) -> None:
        # 3 * 0.4 - 0.5 = 0.7 -> 1; 10 * 0.4 - 0.5 = 3.5 -> 4 (half to even); -10 * 0.4 - 0.5 = -4.5 -> -4
        np.testing.assert_array_equal(hounsfield(np.array([3, 10, -10], dtype=np.int16), 0.4, -0.5), [1, 4, -4])

    def test_a_far_intercept_does_not_overflow(self) -> None:
        np.testing.assert_array_equal(hounsfield(np.array([32767, 31000], dtype=np.int16), 1, -32768), [-1, -1024])

    def test_padding_becomes_air_whatever_its_value(self) -> None:
        stored = np.array([-2000, 0, 63, 64, 1000], dtype=np.int16)
        np.testing.assert_array_equal(hounsfield(stored, 1, 0, (-2000, -2000)), [-1024, 0, 63, 64, 1000])
        np.testing.assert_array_equal(hounsfield(stored, 1, 0, (0, 63)), [-1024, -1024, -1024, 64, 1000])

    @settings(deadline=None)
    @given(
        st.lists(st.integers(-32768, 32767), min_size=1, max_size=20),
        st.sampled_from([1.0, 0.5, 2.0, -1.0]),
        st.integers(-33000, 33000),
    )
    def test_the_shortcut_and_the_formula_agree(self, values: list[int], slope: float, intercept: int) -> None:
        stored = np.array(values, dtype=np.int16)
        formula = np.clip(np.rint(stored.astype(np.float64) * slope + intercept), -1024, 3071)
        np.testing.assert_array_equal(hounsfield(stored, slope, intercept), formula)


class TestPadding:
    def test_one_value_or_a_range_in_any_order(self, make) -> None:
        assert padding_of(make.dx()) is None
        assert padding_of(make.dx(PixelPaddingValue=7)) == (7, 7)
        assert padding_of(make.dx(PixelPaddingValue=63, PixelPaddingRangeLimit=0)) == (0, 63)

    def test_a_negative_value_written_as_unsigned(self, make) -> None:
        dataset = make.ct(PixelPaddingValue=63536)
        dataset["PixelPaddingValue"].VR = "US"
        assert padding_of(parse(make.encode(dataset))) == (-2000, -2000)


class TestWindow:
    def test_linear_by_hand(self) -> None:
        # PS3.3 C.11.2.1.2.1 with c = 2048, w = 4096: y = (x - 2047.5) / 4095 + 0.5.
        np.testing.assert_allclose(window([0, 4095, 2047.5, -5, 5000], 2048, 4096), [0, 1, 0.5, 0, 1], atol=1e-6)
        # c = 0, w = 100: black up to -50, white above 49, and 10 -> 10.5 / 99 + 0.5.
        np.testing.assert_allclose(window([-50, 10, 49, 50], 0, 100), [0, 10.5 / 99 + 0.5, 1, 1], atol=1e-6)

    def test_a_window_of_one_is_a_step(self) -> None:
        np.testing.assert_array_equal(window([0, 1], 0.5 + 0.5, 1), [0, 1])

    def test_linear_exact_by_hand(self) -> None:
        # y = (x - c) / w + 0.5 with c = 10, w = 4.
        np.testing.assert_allclose(window([8, 9, 10, 12, 13], 10, 4, "LINEAR_EXACT"), [0, 0.25, 0.5, 1, 1])

    def test_sigmoid_by_hand(self) -> None:
        # y = 1 / (1 + exp(-4 (x - c) / w)) with c = 100, w = 50.
        expected = [1 / (1 + exp(-4 * (x - 100) / 50)) for x in (50, 100, 125)]
        np.testing.assert_allclose(window([50, 100, 125], 100, 50, "SIGMOID"), expected, rtol=1e-5)
        np.testing.assert_allclose(window([-1e9, 1e9], 100, 50, "SIGMOID"), [0, 1], atol=1e-6)

    @pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (0.5, "LINEAR"), (0, "SIGMOID"), (4, "GAMMA")])
    def test_an_impossible_window_is_refused(self, width: float, function: str) -> None:
        with pytest.raises(ValueError, match="no such window"):
            window([0], 0, width, function)


class TestRadiograph:
    """The maker's radiograph holds 0, 100 ... 1100."""

    def test_a_window_as_stated(self, make) -> None:
        got = shown(make, make.dx(WindowCenter=600, WindowWidth=1000))
        # From 600 - 0.5 - 499.5 = 100 up to 600 - 0.5 + 499.5 = 1099.
        assert got.dtype == np.float32
        np.testing.assert_allclose(got[0], [0, 0, 100 / 999, 200 / 999], atol=1e-6)
        assert got[2, 3] == 1

    def test_the_first_of_several_windows(self, make) -> None:
        one = shown(make, make.dx(WindowCenter=600, WindowWidth=1000))
        np.testing.assert_array_equal(shown(make, make.dx(WindowCenter=[600, 50], WindowWidth=[1000, 10])), one)

    def test_a_sigmoid_window(self, make) -> None:
        got = shown(make, make.dx(WindowCenter=500, WindowWidth=400, VOILUTFunction="SIGMOID"))
        assert got[1, 1] == pytest.approx(0.5)
        assert got[0, 0] == pytest.approx(1 / (1 + exp(5)), rel=1e-4)

    def test_monochrome1_is_turned_after_the_window(self, make) -> None:
        plain = shown(make, make.dx(WindowCenter=600, WindowWidth=1000))
        turned = shown(
            make,
            make.dx(
                WindowCenter=600,
                WindowWidth=1000,
                PhotometricInterpretation="MONOCHROME1",
                PresentationLUTShape="INVERSE",
            ),
        )
        np.testing.assert_allclose(turned, 1 - plain, atol=1e-6)

    def test_rescale_comes_before_the_window(self, make) -> None:
        plain = shown(make, make.dx(WindowCenter=600, WindowWidth=1000))
        scaled = make.dx(WindowCenter=1210, WindowWidth=1999, RescaleSlope=2, RescaleIntercept=10)
        # 2 x + 10 from 1209.5 - 999 to 1209.5 + 999, that is x from 100.25 to 1099.25.
        np.testing.assert_allclose(shown(make, scaled), plain, atol=1e-3)

    def test_a_modality_lut(self, make) -> None:
        table = [4095 - value for value in range(1101)]
        turned = make.dx(ModalityLUTSequence=[lut(0, table, 12)], WindowCenter=4095 - 600 + 1, WindowWidth=1000)
        plain = shown(make, make.dx(WindowCenter=600, WindowWidth=1000))
        np.testing.assert_allclose(shown(make, turned), 1 - plain, atol=2e-3)

    def test_a_voi_lut_and_its_ends(self, make) -> None:
        # 200 is the first value mapped: below it the first entry, beyond the third the last.
        got = shown(
            make, make.dx(VOILUTSequence=[lut(200, [51] + [102] * 100 + [255] * 100)], WindowCenter=5, WindowWidth=9)
        )
        np.testing.assert_allclose(got[0], [0.2, 0.2, 0.2, 0.4], atol=1e-6)
        np.testing.assert_allclose(got[1:], 1.0)

    def test_a_voi_lut_of_16_bit_entries_kept_as_bytes_in_either_order(self, make) -> None:
        entries = np.linspace(0, 65535, 1101).astype(np.uint16)
        for order, syntax in (("<", None), (">", ExplicitVRBigEndian)):
            item = lut(0, [0], 16)
            item.LUTDescriptor = [1101, 0, 16]
            item["LUTData"].VR = "OW"
            item.LUTData = entries.astype(f"{order}u2").tobytes()
            dataset = make.dx(VOILUTSequence=[item])
            if syntax:
                dataset.file_meta.TransferSyntaxUID = syntax
                stored = (np.arange(12) * 100).astype(">u2")
                dataset.PixelData = stored.tobytes()
            np.testing.assert_allclose(shown(make, dataset).ravel(), np.arange(12) / 11, atol=1e-4)

    def test_as_pydicom_applies_them(self, make) -> None:
        dataset = make.dx(VOILUTSequence=[lut(100, [min(4095, i * 5) for i in range(900)], 12)])
        expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset) / 4095
        np.testing.assert_allclose(shown(make, dataset), expected, atol=1e-6)

    def test_without_a_window_the_pictures_own_range(self, make) -> None:
        stored = np.arange(1000, dtype=np.uint16).reshape(20, 50)
        got = shown(make, make.dx(stored)).ravel()
        # Percentiles 0.5 and 99.5 of 0..999 are 4.995 and 994.005.
        np.testing.assert_allclose(got[500], (500 - 4.995) / (994.005 - 4.995), atol=1e-5)
        assert (got.min(), got.max()) == (0, 1)

    @pytest.mark.parametrize("values", [{"WindowWidth": 0, "WindowCenter": 5}, {"WindowCenter": 5}])
    def test_an_impossible_or_half_window_is_passed_over(self, make, values: dict) -> None:
        np.testing.assert_array_equal(shown(make, make.dx(**values)), shown(make, make.dx()))

    def test_padding_is_black_and_no_part_of_the_range(self, make) -> None:
        stored = np.array([[4095, 4095, 1000], [1100, 1500, 2000]], dtype=np.uint16)
        got = shown(make, make.dx(stored, PixelPaddingValue=4095))
        np.testing.assert_allclose(got, [[0, 0, 0], [0.1, 0.5, 1]], atol=0.02)
        inverted = shown(make, make.dx(stored, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1"))
        np.testing.assert_allclose(inverted, [[0, 0, 1], [0.9, 0.5, 0]], atol=0.02)

    def test_a_picture_of_one_value_is_black(self, make) -> None:
        stored = np.full((3, 4), 500, dtype=np.uint16)
        assert not shown(make, make.dx(stored)).any()
        assert not shown(make, make.dx(stored, PhotometricInterpretation="MONOCHROME1")).any()

    def test_nothing_but_padding_is_refused(self, make) -> None:
        with pytest.raises(UnsupportedImage, match="padding"):
            shown(make, make.dx(np.zeros((3, 4), dtype=np.uint16), PixelPaddingValue=0))

    def test_a_lookup_table_that_is_too_short_is_refused(self, make) -> None:
        item = lut(0, [1, 2, 3])
        item.LUTDescriptor = [500, 0, 8]
        with pytest.raises(UnsupportedImage, match="lookup table"):
            shown(make, make.dx(VOILUTSequence=[item]))


class TestForProcessing:
    """Denser tissue lets less of the beam through, and must come out brighter, however the sender counts."""

    BEAM = np.array([[4000, 2000], [1000, 500]], dtype=np.uint16)  # halved each time: equal steps of density
    STEPS = np.array([[0, 1 / 3], [2 / 3, 1]])

    def dataset(self, make, stored: np.ndarray, relationship: str, sign: int, **values) -> Dataset:
        return make.dx(
            stored,
            SOPClassUID=DigitalXRayImageStorageForProcessing,
            PixelIntensityRelationship=relationship,
            PixelIntensityRelationshipSign=sign,
            **values,
        )

    def test_linear_in_the_beam(self, make) -> None:
        np.testing.assert_allclose(shown(make, self.dataset(make, self.BEAM, "LIN", 1)), self.STEPS, atol=0.02)

    def test_linear_in_the_beam_counted_down(self, make) -> None:
        got = shown(make, self.dataset(make, 4095 - self.BEAM, "LIN", -1))
        np.testing.assert_allclose(got, self.STEPS, atol=0.02)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_logarithmic(self, make, sign: int) -> None:
        logarithm = np.array([[round(1000 * log(value / 100)) for value in row] for row in self.BEAM.tolist()])
        stored = (logarithm if sign > 0 else 4000 - logarithm).astype(np.uint16)
        np.testing.assert_allclose(shown(make, self.dataset(make, stored, "LOG", sign)), self.STEPS, atol=0.02)

    def test_without_a_sign_the_photometric_interpretation_tells(self, make) -> None:
        dataset = self.dataset(make, self.BEAM, "LIN", 1, PhotometricInterpretation="MONOCHROME1")
        del dataset.PixelIntensityRelationshipSign
        np.testing.assert_allclose(shown(make, dataset), self.STEPS, atol=0.02)
