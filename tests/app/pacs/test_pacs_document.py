"""docs/pacs.md says what the listener does: its SOP classes, transfer syntaxes, status codes and limits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import AllTransferSyntaxes, SecondaryCaptureImageStorage
from pynetdicom import build_context

from app.settings import Settings
from dicom_io import dimse, listen
from dicom_io.dimse import NATIVE, SYNTAXES_OF, entity
from dicom_io.listen import Listener
from dicom_io.pixels import COMPRESSED

PAGE = (Path(__file__).parents[3] / "docs" / "pacs.md").read_text()


def test_every_image_is_taken_in_every_syntax_that_can_be_decoded(tmp_path: Path) -> None:
    decoded = set()
    for syntax in AllTransferSyntaxes:
        try:
            decoded |= {syntax} if get_decoder(syntax).is_available else set()
        except NotImplementedError:
            continue
    assert {*NATIVE, *COMPRESSED} == decoded
    listener = Listener("WETREAD", tmp_path, lambda received: None, port=0)
    port = listener.start()
    contexts = [build_context(uid, syntax) for uid, syntaxes in SYNTAXES_OF.items() for syntax in syntaxes]
    association = entity("TEST").associate(
        "127.0.0.1", port, [*contexts, build_context(SecondaryCaptureImageStorage)], ae_title="WETREAD"
    )
    accepted = [(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts]
    association.release()
    listener.stop()
    assert accepted == [(each.abstract_syntax, each.transfer_syntax[0]) for each in contexts]


def test_the_page_names_what_is_taken_and_answered() -> None:
    short = {
        "CT Image Storage": "CT,",
        "Enhanced CT Image Storage": "Enhanced CT,",
        "Legacy Converted Enhanced CT Image Storage": "Legacy Converted Enhanced CT",
        "Computed Radiography Image Storage": "CR,",
        "Digital X-Ray Image Storage - For Presentation": "DX for presentation",
        "Digital X-Ray Image Storage - For Processing": "DX for processing",
        "Basic Text SR Storage": "Basic Text,",
        "Enhanced SR Storage": "Enhanced and",
        "Comprehensive SR Storage": "Comprehensive SR",
    }
    assert {uid.name for uid in SYNTAXES_OF} == set(short)
    assert [words for words in short.values() if words not in PAGE] == []
    statuses = (listen.SUCCESS, listen.OUT_OF_RESOURCES, listen.NOT_ITS_SOP_CLASS, listen.CANNOT_UNDERSTAND)
    assert {int(each, 16) for each in re.findall(r"^\| (0x[0-9A-F]{4}) ", PAGE, re.MULTILINE)} == set(statuses)
    limits = (dimse.MAX_PDU_BYTES, int(dimse.ANSWER_S), int(dimse.IDLE_S), dimse.IMPLEMENTATION)
    assert [each for each in limits if str(each) not in PAGE] == []


@pytest.mark.parametrize("block", re.findall(r"```(?:toml|json)\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_are_what_they_look_like(block: str) -> None:
    import tomllib

    if block.startswith("{"):
        assert json.loads(block)["DicomModalities"]["wetread"][0] == "WETREAD"
    else:
        Settings(**tomllib.loads(block))
