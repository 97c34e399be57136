"""Who asks, what they may, and which study they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.accounts import Scope, Token
from app.bootstrap import Program
from app.ports import Accounts
from app.rest.problems import Problem
from dicom_io.identity import study_key

REALM = 'Bearer realm="wetread"'
BEARER = HTTPBearer(
    scheme_name="token",
    description="A token of `wetread tokens issue` (RFC 6750). Its scopes say what it may do.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request. actor: as the audit trail names it. key: as no other caller is called.

    study_uid: the one study that this caller may see; None when every study is open.
    """

    actor: str
    key: str
    scopes: frozenset[Scope]
    study_uid: str | None = None

    def sees(self, study_uid: str) -> bool:
        """Whether this study exists for the caller."""
        return self.study_uid in (None, study_uid)


LOCAL = Caller("local", "local", frozenset({Scope.READ, Scope.WRITE}))  # where nobody has to say who they are


def caller_of(authorization: str | None, accounts: Accounts) -> Caller:
    """The caller behind an Authorization header. Raises Problem 401 (RFC 6750 section 3)."""
    scheme, _, secret = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        detail = "this address needs a token: Authorization: Bearer …"
        raise Problem(401, detail, headers={"WWW-Authenticate": REALM})
    token = accounts.token(secret.strip())
    if token is None:
        detail = "the token is unknown, expired or revoked"
        raise Problem(401, detail, headers={"WWW-Authenticate": f'{REALM}, error="invalid_token"'})
    return from_token(token)


def from_token(token: Token) -> Caller:
    """The caller that a token stands for."""
    return Caller(token.label, token.id, token.scopes, token.study_uid)


def program_of(request: Request) -> Program:
    """The program that this API was made for."""
    return cast(Program, request.app.state.program)


class Needs:
    """A dependency: the caller, if it has the scope. Raises Problem 403 (RFC 6750 section 3.1)."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __call__(self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> Caller:
        """The caller that the gate has let in."""
        caller: Caller = request.state.caller
        if self._scope not in caller.scopes:
            program_of(request).audit.record(caller.actor, "refused", reason=f"no scope {self._scope}")
            header = f'{REALM}, error="insufficient_scope", scope="{self._scope}"'
            raise Problem(403, f"the token lacks the scope {self._scope}", headers={"WWW-Authenticate": header})
        return caller


Here = Annotated[Program, Depends(program_of)]
Reader = Annotated[Caller, Depends(Needs(Scope.READ))]
Writer = Annotated[Caller, Depends(Needs(Scope.WRITE))]
Auditor = Annotated[Caller, Depends(Needs(Scope.AUDIT))]

KEY_PATTERN = "^[0-9a-f]{32}$"
StudyKey = Annotated[str, Path(pattern=KEY_PATTERN, description="The study's keyed hash, 32 hexadecimal digits.")]


def no_such_study() -> Problem:
    """The same for a study that is not there and for one that is not the caller's: neither exists for it."""
    return Problem(404, "there is no such study")


def study_of(program: Program, caller: Caller, key: str) -> str:
    """The Study Instance UID behind a keyed hash. Raises Problem 404."""
    try:
        uid = program.worklist.uid_of(key)
    except KeyError:
        raise no_such_study() from None
    if not caller.sees(uid):
        program.audit.record(caller.actor, "refused", key, reason="the token opens another study")
        raise no_such_study()
    return uid


def key_of(program: Program, study_uid: str) -> str:
    """The keyed hash that stands for a study in addresses."""
    return study_key(study_uid, program.secret)
