"""What is at hand to learn from: every two films of a patient, and how often each is drawn."""

from __future__ import annotations

import pytest
from exams_by_hand import film, healthy, lesion, real

from medmllm.train.exams import Exam, pairs, shares


def test_a_patient_is_every_two_of_its_films() -> None:
    """By hand: two films of each visit; an effusion that grew, a nodule that came and one film does not show."""
    before, grown = lesion("a", "effusion", "left"), lesion("a", "effusion", "left", "larger")
    came = lesion("b", "nodule", "right", "new")
    then, again = film(30, before), film(40, before)
    now, hidden = film(50, grown, came), film(60, grown)
    made = list(pairs([Exam(7, 90, then, now, ()), Exam(7, 90, again, hidden, ()), healthy(), real()]))
    told = [
        (
            int(each.then.picture[9, 9]) if each.then else None,
            int(each.now.picture[9, 9]),
            {shown.name: shown.change for shown in each.now.lesions},
            [shown.name for shown in each.gone],
        )
        for each in made
    ]
    grows, shrinks, stays = {"a": "larger"}, {"a": "smaller"}, {"a": "stable"}
    assert told[:-2] == [
        (30, 50, {**grows, "b": "new"}, []),
        (50, 30, shrinks, ["b"]),
        (30, 60, grows, []),
        (60, 30, shrinks, []),
        (40, 50, {**grows, "b": "new"}, []),
        (50, 40, shrinks, ["b"]),
        (40, 60, grows, []),
        (60, 40, shrinks, []),
        (30, 40, stays, []),
        (50, 60, stays, ["b"]),
    ]
    assert [each[:2] for each in told[-2:]] == [(30, 40), (None, 120)]


def test_rare_lesions_are_drawn_more_often() -> None:
    """By hand, of four exams: half of the draws is 1/8 each; the other half is a third each for none, mass, nodule.

    Two exams without a lesion share a third, two with a mass another; one of these alone has a nodule, before.
    """
    nodule, mass = lesion("n", "nodule", "left"), lesion("m", "mass", "left")
    both = Exam(4, 9, film(30, nodule), film(30, mass), ())
    one = Exam(5, 9, film(30), film(30, mass), ())
    of_each = shares([healthy(), both, healthy(), one])
    assert of_each.tolist() == pytest.approx([1 / 8 + 1 / 12, 1 / 8 + 1 / 4, 1 / 8 + 1 / 12, 1 / 8 + 1 / 12])
    with_films = shares([real(), healthy(), both, real(), healthy(), one])
    assert with_films[[1, 2, 4, 5]].tolist() == pytest.approx((0.75 * of_each).tolist())
    assert with_films[[0, 3]].tolist() == pytest.approx([0.125, 0.125])
