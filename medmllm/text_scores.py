"""How alike two texts are, in words: BLEU-1 and BLEU-4, ROUGE-L and METEOR, of one reference each.

Words are runs of letters, digits and inner points or hyphens in lower case ("1.4", "part-solid"); punctuation is none.
METEOR is nltk's. BLEU and ROUGE-L are a few lines: BLEU's counts are kept by text, and a bootstrap only sums them.

BLEU: Papineni et al., ACL 2002, of a whole corpus, without smoothing: 0 where no n-gram of a length is shared.
ROUGE-L: Lin, ACL workshop 2004, the F-measure of the longest common subsequence with beta 1, the summary as one text.
METEOR: Banerjee and Lavie, ACL workshop 2005: 10PR / (R + 9P), less 0.5 (chunks / matches)^3, with the stages exact and
stem (Porter, 1980). No synonyms: it is not above a METEOR that has them, and not to be compared with one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

WORD = re.compile(r"[^\W_]+(?:[.\-'][^\W_]+)*")
ORDER = 4  # of the longest n-gram
STEMMER = PorterStemmer(PorterStemmer.ORIGINAL_ALGORITHM)


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
    return float(single_meteor_score(words(reference), words(text), stemmer=STEMMER, wordnet=NoSynonyms()))


class NoSynonyms:
    """Stands where nltk would ask WordNet, whose data are a download."""

    def synsets(self, word: str) -> list[object]:
        """None."""
        return []
