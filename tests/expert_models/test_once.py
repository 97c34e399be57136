from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from expert_models.once import Once


def test_threads_that_ask_at_once_get_the_same_value() -> None:
    made: list[object] = []
    start = Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    value = Once(make)

    def ask(_: int) -> object:
        start.wait(timeout=30)
        return value()

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(ask, range(8)))
    assert len(made) == 1
    assert all(each is made[0] for each in got)


def test_what_failed_is_tried_again() -> None:
    answers = iter([None, 5])

    def make() -> int:
        answer = next(answers)
        if answer is None:
            raise ValueError("not yet")
        return answer

    value = Once(make)
    with pytest.raises(ValueError, match="not yet"):
        value()
    assert value() == 5
    assert value() == 5
