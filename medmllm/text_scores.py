"""How alike two texts are, in words: BLEU-1 and BLEU-4, ROUGE-L and METEOR, of one reference each.

Words are runs of letters, digits and inner points or hyphens in lower case ("1.4", "part-solid"); punctuation is none.
No package of the environment scores text, and each of these is a few lines.

BLEU: Papineni et al., ACL 2002, of a whole corpus, without smoothing: 0 where no n-gram of a length is shared.
ROUGE-L: Lin, ACL workshop 2004, the F-measure of the longest common subsequence with beta 1, the summary as one text.
METEOR: Banerjee and Lavie, ACL workshop 2005: 10PR / (R + 9P), less 0.5 (chunks / matches)^3, with the stages exact and
stem (Porter). No synonyms: it is not above a METEOR that has them, and not to be compared with one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

WORD = re.compile(r"[^\W_]+(?:[.\-'][^\W_]+)*")
ORDER = 4  # of the longest n-gram


def words(text: str) -> list[str]:
    """The words of a text, lower case, in order."""
    return WORD.findall(text.lower())


# ----------------------------------------------------------------------------------------------------------------- BLEU


def bleu_counts(text: str, reference: str) -> npt.NDArray[np.int64]:
    """(2 + 2 ORDER,): words of the text and of the reference; then for n = 1 to ORDER shared and all n-grams.

    The counts of a corpus are the sum of those of its texts.
    """
    said, meant = words(text), words(reference)
    counts = [len(said), len(meant)]
    for n in range(1, ORDER + 1):
        own, other = _grams(said, n), _grams(meant, n)
        counts += [(own & other).total(), own.total()]
    return np.array(counts, dtype=np.int64)


def bleu(counts: npt.NDArray[np.int64], order: int = ORDER) -> float:
    """BLEU in [0, 1] from the counts of `bleu_counts`, up to n-grams of `order` words."""
    length, wanted = counts[:2].tolist()
    shared, every = counts[2 : 2 + 2 * order : 2], counts[3 : 3 + 2 * order : 2]
    if not length or not shared.all():
        return 0.0
    brevity = min(1.0, float(np.exp(1 - wanted / length)))
    return brevity * float(np.exp(np.log(shared / every).mean()))


def _grams(said: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(said[start : start + n]) for start in range(len(said) - n + 1))


# -------------------------------------------------------------------------------------------------------------- ROUGE-L


def rouge_l(text: str, reference: str) -> float:
    """The F-measure of the longest common subsequence of words, in [0, 1]; 0 where a text has none."""
    said, meant = words(text), words(reference)
    longest = [0] * (len(meant) + 1)  # of what was read of `said` with each beginning of `meant`
    for word in said:
        above_left = 0
        for at, other in enumerate(meant, 1):
            above = longest[at]
            longest[at] = above_left + 1 if word == other else max(above, longest[at - 1])
            above_left = above
    return 2 * longest[-1] / (len(said) + len(meant)) if said and meant else 0.0


# --------------------------------------------------------------------------------------------------------------- METEOR


def meteor(text: str, reference: str) -> float:
    """METEOR with the stages exact and stem, in [0, 1]; 0 where no word is shared."""
    said, meant = words(text), words(reference)
    pairs = align(said, meant)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(said), len(pairs) / len(meant)
    mean = 10 * precision * recall / (recall + 9 * precision)
    chunks = 1 + sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in pairwise(pairs))
    return mean * (1 - 0.5 * (chunks / len(pairs)) ** 3)


def align(said: Sequence[str], meant: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (place in said, place in meant), each place once, by words, then by stems of what is left; in order.

    Each stage pairs as many words as can be paired, the longest common run first, of equal runs the first. That gives
    few chunks, and not surely the fewest: the search of the original is a heuristic as well.
    """
    pairs: dict[int, int] = {}
    for form in (str, stem):
        ours, theirs = [form(word) for word in said], [form(word) for word in meant]
        taken = set(pairs.values())
        free = {
            (here, there)
            for here, word in enumerate(ours)
            for there, other in enumerate(theirs)
            if word == other and here not in pairs and there not in taken
        }
        while free:
            here, there, length = _longest_run(free)
            pairs |= {here + step: there + step for step in range(length)}
            free = {(a, b) for a, b in free if not (here <= a < here + length or there <= b < there + length)}
    return sorted(pairs.items())


def _longest_run(cells: Collection[tuple[int, int]]) -> tuple[int, int, int]:
    """Start and length of the longest diagonal of cells, the first of several."""
    best = (0, 0, 0)
    for here, there in sorted(cells):
        if (here - 1, there - 1) not in cells:
            length = 1
            while (here + length, there + length) in cells:
                length += 1
            best = max(best, (here, there, length), key=lambda run: run[2])
    return best


# ----------------------------------------------------------------------------------------------------- Porter's stemmer

STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "abli": "able", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble",
}  # fmt: skip
STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


@cache
def stem(word: str) -> str:
    """The stem of a lower-case English word (Porter, Program 14:130-137, 1980); words of two letters stay."""
    if len(word) <= 2:
        return word
    word = _past(_plural(word))
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _stripped(_replaced(_replaced(word, STEP_2), STEP_3))
    if word.endswith("e"):
        base = word[:-1]
        if _measure(base) > 1 or (_measure(base) == 1 and not _is_short(base)):
            word = base
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _plural(word: str) -> str:
    """Step 1a."""
    for ending, other in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(ending):
            return word.removesuffix(ending) + other
    return word


def _past(word: str) -> str:
    """Step 1b."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    base = next((word.removesuffix(each) for each in ("ed", "ing") if word.endswith(each)), None)
    if base is None or not _has_vowel(base):
        return word
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if _ends_double(base) and base[-1] not in "lsz":
        return base[:-1]
    return base + "e" if _measure(base) == 1 and _is_short(base) else base


def _replaced(word: str, endings: Mapping[str, str]) -> str:
    """Steps 2 and 3: of the endings that fit, the longest decides."""
    ending = max((each for each in endings if word.endswith(each)), key=len, default="")
    base = word.removesuffix(ending)
    return base + endings[ending] if ending and _measure(base) > 0 else word


def _stripped(word: str) -> str:
    """Step 4."""
    ending = max((each for each in STEP_4 if word.endswith(each)), key=len, default="")
    base = word.removesuffix(ending)
    if not ending or _measure(base) <= 1 or (ending == "ion" and not base.endswith(("s", "t"))):
        return word
    return base


def _shape(word: str) -> str:
    """The word as c and v; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        is_vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if is_vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often a consonant follows a vowel: m of [C](VC)^m[V]."""
    return _shape(word).count("vc")


def _has_vowel(word: str) -> bool:
    return "v" in _shape(word)


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word).endswith("c")


def _is_short(word: str) -> bool:
    """Ends with consonant, vowel, consonant, and not with w, x or y."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
