"""The audit trail, for those who may read it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.rest.callers import KEY_PATTERN, Auditor, Here, key_of, no_such_study
from app.rest.problems import problems
from app.rest.views import EntryList, EntryView

router = APIRouter(prefix="/v1", tags=["audit"])


@router.get("/audit", summary="What was done, by whom, when", responses=problems(404, 422))
def audit(
    caller: Auditor,
    program: Here,
    study: Annotated[str | None, Query(pattern=KEY_PATTERN, description="Of this study alone.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many.")] = 1000,
) -> EntryList:
    """The newest entries, newest first. `wetread audit --verify` checks the chain."""
    if caller.study_uid is not None:
        own = key_of(program, caller.study_uid)
        if study not in (None, own):
            raise no_such_study()
        study = own
    program.audit.record(caller.actor, "audit read", study or "")
    return EntryList(entries=[EntryView.of(entry) for entry in program.audit.entries(study_key=study, limit=limit)])
