"""What one mounted workbench works with, and the question that every action asks first: who is it, and may they?"""

from __future__ import annotations

from dataclasses import dataclass

from app.accounts import Scope
from app.bootstrap import Program
from app.errors import NotAllowed
from app.workbench.session import Brake, Session, Sessions
from app.workbench.viewer import Readings

REFUSALS = {
    Scope.READ: "Your account may not look at studies.",
    Scope.WRITE: "Your account may not bring in studies.",
    Scope.SIGN: "Your account may neither edit nor sign reports.",
    Scope.AUDIT: "Your account may not read the audit trail.",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """The program, who is logged in, the brake on their passwords, and the studies that are open."""

    program: Program
    sessions: Sessions
    brake: Brake
    readings: Readings

    def session(self, secret: str | None, scope: Scope) -> Session:
        """The session with this secret. Raises NotAllowed when it has ended, or its account lacks the scope."""
        session = self.sessions.of(secret)
        if session is None:
            raise NotAllowed("Your log-in has ended. Log in again.")
        if not session.may(scope):
            raise NotAllowed(REFUSALS[scope])
        return session


def desk_of(program: Program) -> Desk:
    """A desk for this program, with nobody at it."""
    return Desk(program, Sessions(program.accounts), Brake(), Readings(program))
