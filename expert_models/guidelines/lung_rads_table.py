"""The rows of ACR Lung-RADS v2022 (November 2022), in our words. Lengths are mean diameters.

American College of Radiology Committee on Lung-RADS; Christensen et al., J Am Coll Radiol 2024;21:473-488,
doi:10.1016/j.jacr.2023.09.009. What was confirmed where is in docs/guidelines.md.
"""

from __future__ import annotations

from expert_models.guidelines.answer import Row, Source
from expert_models.guidelines.nodule import Category

SOURCE = Source(
    name="ACR Lung-RADS v2022",
    authors="Christensen J, Prosper AE, Wu CC, et al.",
    title="ACR Lung-RADS v2022: Assessment Categories and Management Recommendations",
    journal="J Am Coll Radiol 21:473-488",
    year=2024,
    doi="10.1016/j.jacr.2023.09.009",
)

_ANNUAL = "Screening with low-dose CT in 12 months."
_SIX = "Low-dose CT in 6 months."
_THREE = "Low-dose CT in 3 months; PET/CT may be considered for a solid nodule or component of 8 mm (268 mm³) or more."
_WORKUP = (
    "Diagnostic chest CT with or without contrast; PET/CT may be considered for a solid nodule or component of 8 mm "
    "(268 mm³) or more; tissue sampling; and/or referral for clinical evaluation, as that evaluation, the patient's "
    "preference and the probability of malignancy suggest."
)
_MANAGEMENT = {
    Category.NEGATIVE: _ANNUAL,
    Category.BENIGN: _ANNUAL,
    Category.PROBABLY_BENIGN: _SIX,
    Category.SUSPICIOUS: _THREE,
    Category.VERY_SUSPICIOUS: _WORKUP,
    Category.ADDITIONAL_FEATURES: _WORKUP,
}


def _row(category: str, name: str, words: str, management: str = "") -> Row:
    found = Category(category)
    return Row(f"LR-{category}-{name}", words, management or _MANAGEMENT[found], found)


ROWS = {
    row.id: row
    for row in (
        _row("0", "prior", "A prior chest CT is being located", "Compare with the prior CT, then categorize."),
        _row("0", "coverage", "Part or all of the lungs cannot be evaluated",
             "Additional screening CT images are needed."),
        _row("0", "inflammatory", "Findings suggest an inflammatory or infectious process",
             "Low-dose CT in 1 to 3 months."),
        _row("1", "none", "No lung nodule"),
        _row("1", "benign-features",
             "Complete, central, popcorn or concentric ring calcification, or fat, in every nodule"),
        _row("2", "juxtapleural",
             "Juxtapleural solid nodule under 10 mm (524 mm³), baseline or new, smooth, oval, lentiform or triangular"),
        _row("2", "solid-baseline", "Solid nodule under 6 mm (113 mm³) at baseline"),
        _row("2", "solid-new", "New solid nodule under 4 mm (34 mm³)"),
        _row("2", "part-solid-baseline", "Part-solid nodule under 6 mm (113 mm³) in all at baseline"),
        _row("2", "ground-glass-small", "Ground-glass nodule under 30 mm (14,137 mm³), baseline, new or growing"),
        _row("2", "ground-glass-indolent",
             "Ground-glass nodule of 30 mm (14,137 mm³) or more, stable or slowly growing"),
        _row("2", "airway-subsegmental", "Subsegmental airway nodule, baseline, new or stable"),
        _row("2", "from-3", "Category 3 lesion, stable or smaller at 6 months"),
        _row("2", "proven-benign", "Category 4B lesion, proven benign by diagnostic workup"),
        _row("2", "from-2", "Category 2 lesion that has not crossed a size threshold since (note 5)"),
        _row("3", "solid-baseline", "Solid nodule of 6 to under 8 mm (113 to under 268 mm³) at baseline"),
        _row("3", "solid-new", "New solid nodule of 4 to under 6 mm (34 to under 113 mm³)"),
        _row("3", "part-solid-baseline",
             "Part-solid nodule of 6 mm (113 mm³) or more with a solid component under 6 mm (113 mm³) at baseline"),
        _row("3", "part-solid-new", "New part-solid nodule under 6 mm (113 mm³) in all"),
        _row("3", "ground-glass-large", "Ground-glass nodule of 30 mm (14,137 mm³) or more, baseline or new"),
        _row("3", "cyst-cavity-grows", "Thick-walled cyst whose cystic component grows"),
        _row("3", "from-4A", "Category 4A lesion, stable or smaller at 3 months; not in an airway"),
        _row("4A", "solid-baseline", "Solid nodule of 8 to under 15 mm (268 to under 1,767 mm³) at baseline"),
        _row("4A", "solid-growing", "Growing solid nodule under 8 mm (268 mm³)"),
        _row("4A", "solid-new", "New solid nodule of 6 to under 8 mm (113 to under 268 mm³)"),
        _row("4A", "part-solid-baseline",
             "Part-solid nodule of 6 mm (113 mm³) or more with a solid component of 6 to under 8 mm (113 to under 268 "
             "mm³) at baseline"),
        _row("4A", "part-solid-component",
             "Part-solid nodule of 6 mm (113 mm³) or more with a new or growing solid component under 4 mm (34 mm³)"),
        _row("4A", "airway-proximal", "Segmental or more proximal airway nodule, baseline or new"),
        _row("4A", "cyst-thick-walled", "Thick-walled cyst"),
        _row("4A", "cyst-multilocular", "Multilocular cyst at baseline"),
        _row("4A", "cyst-became-multilocular", "Thin- or thick-walled cyst that became multilocular"),
        _row("4B", "solid-baseline", "Solid nodule of 15 mm (1,767 mm³) or more at baseline"),
        _row("4B", "solid-new-growing", "New or growing solid nodule of 8 mm (268 mm³) or more"),
        _row("4B", "part-solid-baseline",
             "Part-solid nodule with a solid component of 8 mm (268 mm³) or more at baseline"),
        _row("4B", "part-solid-component",
             "Part-solid nodule with a new or growing solid component of 4 mm (34 mm³) or more"),
        _row("4B", "airway-proximal", "Segmental or more proximal airway nodule, stable or growing",
             "Referral for clinical evaluation."),
        _row("4B", "cyst-wall-grows", "Thick-walled cyst whose wall grows thicker or more nodular"),
        _row("4B", "cyst-grows", "Growing multilocular cyst"),
        _row("4B", "cyst-denser", "Multilocular cyst with more loculations, or with a new or larger opacity"),
        _row("4B", "slow-growth",
             "Solid or part-solid nodule that grew slowly over several CTs; it may be classified 4B (note 8)",
             _WORKUP + " It may not take up FDG; biopsy, if feasible, or surgical evaluation may be the better way."),
        _row("4X", "features", "Category 3 or 4 nodule with features that raise suspicion further"),
    )
}  # fmt: skip
