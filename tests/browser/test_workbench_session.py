"""Sessions and the brake on passwords, with a clock that the test turns."""

from __future__ import annotations

import pytest

from app.accounts import Account, Scope
from app.workbench.session import LONGEST_S, RECHECK_S, Brake, Sessions, cookie_of


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class OneAccount:
    """Knows one account, which can be disabled and get another password."""

    def __init__(self) -> None:
        self.is_disabled = False
        self.mark = "first"

    def get(self, name: str) -> Account:
        return Account(name, "Dr. Reader", frozenset([Scope.READ]), self.is_disabled, self.mark)


def test_a_session_ends() -> None:
    clock, accounts = Clock(), OneAccount()
    sessions = Sessions(accounts, clock)  # type: ignore[arg-type]
    secret = sessions.open(accounts.get("reader"))
    assert sessions.of(secret) is not None
    assert sessions.of(secret + "x") is None
    assert sessions.of("") is None
    clock.now += LONGEST_S + 1
    assert sessions.of(secret) is None


def test_a_disabled_account_is_out() -> None:
    clock, accounts = Clock(), OneAccount()
    sessions = Sessions(accounts, clock)  # type: ignore[arg-type]
    secret = sessions.open(accounts.get("reader"))
    accounts.is_disabled = True
    clock.now += RECHECK_S + 1
    assert sessions.of(secret) is None


def test_a_new_password_ends_what_the_old_one_opened() -> None:
    clock, accounts = Clock(), OneAccount()
    sessions = Sessions(accounts, clock)  # type: ignore[arg-type]
    secret = sessions.open(accounts.get("reader"))
    accounts.mark = "second"
    clock.now += RECHECK_S + 1
    assert sessions.of(secret) is None
    assert sessions.of(sessions.open(accounts.get("reader"))) is not None


def test_guesses_are_slowed() -> None:
    clock = Clock()
    brake = Brake(clock)
    pauses = []
    for _ in range(6):
        clock.now += brake.pause_s("reader", "10.0.0.9")
        brake.tried("Reader" if len(pauses) % 2 else "reader", "10.0.0.9")  # capitals make no other account
        pauses.append(round(brake.pause_s("reader", "10.0.0.9")))
    assert pauses == [0, 0, 0, 2, 4, 8]
    assert brake.pause_s("reader", "10.0.0.1") == 0  # a colleague elsewhere is not locked out
    assert brake.pause_s("other", "10.0.0.9") == 0
    for number in range(30):
        brake.tried(f"guess {number}", "10.0.0.9")
    assert brake.pause_s("other", "10.0.0.9") > 0
    brake.passed("other", "10.0.0.9")
    clock.now += 3601
    brake.tried("somebody", "10.0.0.2")  # forgets what is old
    assert brake.pause_s("reader", "10.0.0.9") == 0


@pytest.mark.parametrize("header", ["", "a=b", "wetread-session", "wetread-session=; x=\x00", '"'])
def test_no_cookie_of_ours(header: str) -> None:
    assert not cookie_of(header)
