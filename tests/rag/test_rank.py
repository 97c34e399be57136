from __future__ import annotations

import pytest

from rag.rank import Cut, fused


def test_fusion_by_hand() -> None:
    # 1/61 + 1/62 for 7; 1/62 + 1/61 for 8: a tie, by number. 9 is in one order only: 1/63.
    assert fused([8, 7], [7, 8, 9]) == [7, 8, 9]
    # 5: 1/62 + 1/62 = 0.0323; 1: 1/61 = 0.0164; 2: 1/61.
    assert fused([1, 5], [2, 5]) == [5, 1, 2]
    assert fused([], []) == []


def test_relevance_by_hand() -> None:
    cut = Cut(lexical_share=0.25)
    assert cut.relevance(0.8, 0.4) == pytest.approx(0.7)
    assert cut.relevance(-0.5, 0.0) == 0.0  # a negative cosine is no relevance, and passes no ratio
    assert cut.relevance(1.0001, 1.0) == 1.0


def test_the_floor_may_leave_nothing() -> None:
    assert Cut(floor=0.5).kept([1, 2], {1: 0.49, 2: 0.3}) == []


def test_the_ratio_is_to_the_top_and_the_order_stays() -> None:
    relevance = {1: 0.6, 2: 0.9, 3: 0.5, 4: 0.61}
    assert Cut(floor=0.1, ratio=1.5).kept([1, 2, 3, 4], relevance) == [1, 2, 4]
    assert Cut(floor=0.1, ratio=2.0).kept([3, 1, 2, 4], relevance) == [3, 1, 2, 4]
