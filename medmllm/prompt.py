"""The prompt: everything the model is given, within a budget, and nothing that names the patient.

The texts are files beside this module (prompts/*.txt). Findings come as lines of fixed fields, after the idea of
MedTrinity-25M (Xie et al., 2024, arXiv 2408.02900); references with the warning of MMed-RAG (Xia et al., 2024,
arXiv 2410.13085) that they are to be compared and not copied. The answer is one sentence per line, "section | sentence
| ids": unlike JSON, a line that is broken or cut off costs that line and not the whole answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Comparison, Finding, Measurement, Presence
from medmllm import wording
from medmllm.brief import brief
from medmllm.ports import Prompt
from medmllm.scrub import scrub, scrubbed_indication
from medmllm.views import Picture
from rag.evidence import Evidence

TEXTS = Path(__file__).parent / "prompts"
BUDGET = 16_000  # characters of text, about 4,000 tokens
SHARE_OF_EVIDENCE = 0.35
MOST_OF_PASSAGE = 700
ORDER = (Presence.PRESENT, Presence.INDETERMINATE, Presence.NOT_ASSESSED, Presence.ABSENT)


def build_prompt(
    study: Study,
    findings: Sequence[Finding],
    comparisons: Sequence[Comparison],
    evidence: Sequence[Evidence],
    pictures: Sequence[Picture] = (),
    budget: int = BUDGET,
) -> Prompt:
    """What the model reads; its text has at most `budget` characters beyond the fixed texts.

    Where the budget is short, evidence gives way first, then findings from the end of: present, indeterminate, not
    assessed, absent. What is left out is counted in the prompt, and the writer adds its sentences afterwards.
    """
    for_evidence = int(budget * SHARE_OF_EVIDENCE)
    compared = _within([_comparison(each, study) for each in comparisons], budget // 4, "comparisons")
    stated = [_finding(each) for each in sorted(findings, key=lambda each: ORDER.index(each.presence))]
    listed = _within(stated, budget - for_evidence - len(compared), "findings")
    task = Template(_text("task")).substitute(
        study=_study(study),
        pictures=_within([_picture(number, each) for number, each in enumerate(pictures, 1)], budget // 4, "pictures"),
        indication=_data(scrubbed_indication(study)) or "none given",
        findings=listed or "none",
        comparisons=compared or "none: no comparison with a prior study was made, so do not compare",
        evidence=_within([_evidence(each) for each in evidence], for_evidence, "passages") or "none",
    )
    told = brief(study, findings, comparisons, evidence)
    return Prompt(_text("system"), task, tuple(each.view for each in pictures), told)


def repair_prompt(prompt: Prompt, answer: str, problems: Sequence[str]) -> Prompt:
    """The same task once more, with the first answer and what was wrong with it."""
    text = Template(_text("repair")).substitute(
        task=prompt.text,
        answer=_data(answer, most=6000),
        problems="\n".join(f"- {problem}" for problem in problems[:20]),
    )
    return replace(prompt, text=text)


def _text(name: str) -> str:
    return (TEXTS / f"{name}.txt").read_text(encoding="utf-8").strip()


def _data(text: str, most: int = 800) -> str:
    """Foreign text that cannot close its fence: one JSON string, without angle brackets."""
    if not text:
        return ""
    return json.dumps(text[:most].replace("<", "‹").replace(">", "›"), ensure_ascii=False)


def _within(lines: Sequence[str], budget: int, what: str) -> str:
    """As many whole lines as fit, and how many did not."""
    kept: list[str] = []
    used = 0
    for line in lines:
        if used + len(line) + 1 > budget:
            break
        kept.append(line)
        used += len(line) + 1
    if len(kept) < len(lines):
        kept.append(f"({len(lines) - len(kept)} further {what} are not listed here)")
    return "\n".join(kept)


def _study(study: Study) -> str:
    lines = []
    for series in study.series:
        line = f"{wording.picture(series)} ({series.modality}), {series.volume.shape[0]} image(s)"
        if series.modality.is_projection and not wording.view(series):
            line += ", view position not stated"
        lines.append(line)
    for prior in study.priors[:3]:
        pictures = wording.listed(list(dict.fromkeys(wording.picture(each) for each in prior.series)))
        lines.append(f"prior: {wording.earlier_study(study, prior.uid)} ({pictures})")
    return "\n".join(lines or ["no series"])


def _picture(number: int, picture: Picture) -> str:
    view = picture.view
    regions = "; ".join(f"{name} {list(corners)}" for name, corners in view.regions)
    return f"picture {number}: {view.caption}" + (
        f"; regions, 0..999 of width and height: {regions}" if regions else ""
    )


def _finding(finding: Finding) -> str:
    presence = finding.presence.value.replace("_", " ")
    if finding.presence is Presence.INDETERMINATE and finding.probability is not None:
        presence += f" (calibrated probability {wording.percent(finding.probability)})"
    if finding.reason:
        presence += f": {scrub(finding.reason)}"
    fields = (
        finding.id,
        wording.adjectives(finding) + finding.concept.meaning + _organ(finding),
        presence,
        f"side {finding.side.value}" if finding.side else "side not stated",
        f"site {finding.site.meaning}" if finding.site else "site not stated",
        _measured(finding.measurements),
        f"region {finding.id}" if finding.regions else "no region",
        f"{finding.expert.name} {finding.expert.version}",
    )
    return " | ".join(field.replace("|", "/").replace("\n", " ") for field in fields)


def _organ(finding: Finding) -> str:
    return " (organ)" if finding.concept in codes.ANATOMY else ""


def _measured(measurements: Sequence[Measurement]) -> str:
    return wording.measured(measurements) or "nothing measured"


def _comparison(comparison: Comparison, study: Study) -> str:
    growth = "growth not measured" if comparison.growth is None else f"growth {100 * comparison.growth:.0f}%"
    if comparison.doubling_time is not None:
        growth += f", {wording.measured([comparison.doubling_time])}"
    prior = comparison.prior_finding
    fields = (
        comparison.id,
        comparison.change.value,
        comparison.finding_id or (f"was {wording.thing(prior)}" if prior else "no finding"),
        wording.earlier_study(study, comparison.prior_study_uid),
        growth,
        _measured(prior.measurements) if prior else "not there before",
    )
    return " | ".join(fields)


def _evidence(evidence: Evidence) -> str:
    about = f" for {' '.join(evidence.finding_ids)}" if evidence.finding_ids else ""
    text = " ".join(evidence.text.split())[:MOST_OF_PASSAGE]
    return f"{evidence.id}{about}, {evidence.citation.year}: <data>{_data(text)}</data>"
