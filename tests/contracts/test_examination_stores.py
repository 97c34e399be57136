"""One suite over every adapter of expert_models.ports.Examinations, and what the folder does with what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.adapters.examinations import FINDINGS, FolderExaminations
from expert_models.codes import LONG_AXIS, LUNG_NODULE, MILLIMETER
from expert_models.finding import Box, ExpertTag, Finding, Line, Measurement, Presence, Region, Side
from expert_models.ports import Examinations
from expert_models.remembered import Remembered

KEY = "a" * 64
LINE = Line("1.2", (3.0, 1.5, 0.1), (3.0, 8.5, 7.7), "1.2.3")
FINDING = Finding(
    "f1",
    LUNG_NODULE,
    Presence.PRESENT,
    ExpertTag("nodules", "1", "ab"),
    probability=0.1 + 0.2,  # no short decimal: it must come back bit for bit
    side=Side.LEFT,
    regions=(Region("1.2", Box((3, 1, 0), (4, 9, 8)), "1.2.3", "key"),),
    measurements=(Measurement(LONG_AXIS, 10.3, MILLIMETER, (LINE,)),),
)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Examinations:
    return FolderExaminations(tmp_path / "kept", 1) if request.param == "folder" else Remembered()


def test_findings_come_back_as_they_went_in(store: Examinations) -> None:
    assert store.load(KEY) is None
    store.save(KEY, [FINDING])
    assert store.load(KEY) == (FINDING,)
    assert FINDINGS.dump_json(store.load(KEY)) == FINDINGS.dump_json((FINDING,))  # byte for byte
    store.save("b" * 64, [])
    assert store.load("b" * 64) == ()


@pytest.mark.parametrize("spoil", [b"", b"[]", b"\xff\xfe", b"cut", b"flipped"])
def test_what_cannot_be_read_is_no_examination_and_is_made_again(tmp_path: Path, spoil: bytes) -> None:
    store = FolderExaminations(tmp_path, 1)
    store.save(KEY, [FINDING])
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes({b"cut": whole[:-5], b"flipped": whole.replace(b"10.3", b"10.4")}.get(spoil, spoil))
    assert store.load(KEY) is None
    assert list(tmp_path.iterdir()) == []
    store.save(KEY, [FINDING])
    assert store.load(KEY) == (FINDING,)


def test_those_not_used_for_longest_make_room(tmp_path: Path) -> None:
    store = FolderExaminations(tmp_path, 1)
    long = Finding("f1", LUNG_NODULE, Presence.NOT_ASSESSED, ExpertTag("x", "1"), reason="x" * 300_000)
    for number, key in enumerate("abc"):  # 0.9 MiB of 1
        store.save(key, [long])
        os.utime(tmp_path / f"{key}.json", (number, number))
    assert store.load("a") is not None  # used now
    store.save("d", [long])
    assert sorted(each.stem for each in tmp_path.iterdir()) == ["a", "c", "d"]
    assert store.count() == 3
    assert 0.8 < store.size_mb() < 1.0


def test_a_folder_that_takes_nothing_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = FolderExaminations(tmp_path / "file", 1)
    store.save(KEY, [FINDING])
    assert store.load(KEY) is None


HAMMER = """
import sys
from pathlib import Path
from app.adapters.examinations import FolderExaminations
from expert_models.codes import LUNG_NODULE
from expert_models.finding import ExpertTag, Finding, Presence

store = FolderExaminations(Path(sys.argv[1]), 1)
for number in range(60):
    reason = str(number % 12) + "x" * 150_000
    finding = Finding("f1", LUNG_NODULE, Presence.NOT_ASSESSED, ExpertTag("x", "1"), reason=reason)
    store.save(f"{number % 12:064}", [finding])
    found = store.load(f"{(number * 7) % 12:064}")
    assert found is None or found[0].reason[:2].strip("x") == str((number * 7) % 12), found[0].reason[:3]
"""


def test_several_processes_on_one_folder_read_what_one_of_them_wrote_or_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HAMMER, str(tmp_path)]
    working = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for each in working:
        said, _ = each.communicate(timeout=120)
        assert each.returncode == 0, said
        assert "ignored" not in said  # nobody saw half a file
    assert FolderExaminations(tmp_path, 1).size_mb() <= 1.0
