"""Commands about experts: which there are, and those that are added to them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import BadSetting, NothingToReport, storage
from app.opening import open_here, open_settings, print_json

if TYPE_CHECKING:
    from app.settings import Settings
    from dicom_io.study import Study
    from expert_models.bundles.shelf import Shelf
    from expert_models.finding import Finding
    from expert_models.ports import Expert

experts_app = typer.Typer(help="The experts that examine, and those of yours among them.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
ACTOR = "command line"  # who did it, in the audit trail


@dataclass(frozen=True, slots=True)
class Listed:
    """An expert on one line. reason: why it cannot be used. not_reported: channels of a bundle without a code."""

    name: str
    version: str = ""
    answers_for: tuple[str, ...] = ()
    is_added: bool = False
    is_trusted: bool = False
    not_reported: tuple[str, ...] = ()
    reason: str = ""


@experts_app.command("list")
def list_experts(as_json: AsJson = False) -> None:
    """List every expert: what it answers for, and why one that is there cannot be used."""
    from rich.markup import escape

    from app.bootstrap import open_registry
    from app.terminal import out

    settings = open_settings()
    registry, shelf = open_registry(settings), open_shelf(settings)
    rows = [listed(label, expert, shelf) for label, expert in registry.ready.items()]
    rows += [Listed(label, reason=reason) for label, reason in registry.missing.items()]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        if row.reason:
            out.print(f"[yellow]missing[/yellow] {escape(row.name)}: {escape(row.reason)}")
            continue
        trust = " (added, trusted)" if row.is_trusted else " (added)" if row.is_added else ""
        out.print(f"{escape(row.name)} {escape(row.version)}{trust}: {escape(', '.join(row.answers_for))}")


@experts_app.command("add")
def add_expert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A MONAI bundle: a folder or a zip archive; or torchxrayvision:MODEL, totalsegmentator:total, "
            "totalsegmentator:total-fast.",
        ),
    ],
    card: Annotated[
        Path | None, typer.Option("--card", help="What a bundle's channels are; else the wetread.toml in it.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let it run its own Python code, with your rights. Read it first.")
    ] = False,
) -> None:
    """Add a MONAI bundle, or a model of an installed package, as an expert: copied, checked, and built once."""
    from rich.markup import escape

    from app.bootstrap import isolated, open_registry
    from app.terminal import out
    from expert_models.adapters.adapted import is_adapter
    from expert_models.bundles.shelf import Added
    from expert_models.errors import ExpertError

    program = open_here()
    shelf = open_shelf(program.settings)
    path = Path(source)
    is_adapted = is_adapter(source) and not path.exists()
    name_of = source if is_adapted else path.name
    if not is_adapted and not path.exists():
        raise BadSetting(f"{path} does not exist")
    if card is not None and not card.is_file():
        raise BadSetting(f"{card} is no file")
    if card is not None and is_adapted:
        raise BadSetting(f"{source} takes no card: what its labels are is known")
    try:
        with storage(program.settings.home.expanduser() / "experts"):
            taken = [expert.tag.name for expert in open_registry(program.settings).ready.values()]
            added = (
                shelf.add_adapted(source, trusted=trust, taken=taken)
                if is_adapted
                else shelf.add(path, card, trusted=trust, taken=taken)
            )
    except ExpertError as exc:
        raise BadSetting(f"{name_of} cannot be added: {exc}") from None
    name = added.record.name
    registry = open_registry(program.settings)
    try:
        if name not in registry.ready:
            raise ExpertError(registry.missing.get(name, "it cannot be made"))
        isolated(program.settings, registry, name).prepare()
    except ExpertError as exc:
        shelf.remove(name)
        raise BadSetting(f"{name_of} cannot be added: {exc}") from None
    program.audit.record(ACTOR, "expert added", expert=name, weights=added.tag.weights_sha256, trusted=int(trust))
    told = ", ".join(concept.meaning for concept in registry.ready[name].concepts)
    out.print(f"{escape(name)} {escape(added.tag.version)} is an expert for {escape(told)}")
    if added.unmapped:
        why = "no finding is made of them" if is_adapted else "the card does not name them"
        out.print(f"not reported, since {why}: {escape(', '.join(added.unmapped))}")
    if isinstance(added, Added) and added.intended_use:
        out.print(f"intended use, by its makers: {escape(added.intended_use)}")


@experts_app.command("remove")
def remove_expert(name: Annotated[str, typer.Argument(help="As `wetread experts list` shows it.")]) -> None:
    """Remove an expert that was added."""
    program = open_here()
    try:
        open_shelf(program.settings).remove(name)
    except KeyError:
        raise BadSetting(f"no expert named {name} was added") from None
    program.audit.record(ACTOR, "expert removed", expert=name)


@experts_app.command("try")
def try_expert(
    name: Annotated[str, typer.Argument(help="As `wetread experts list` shows it.")],
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, folders or zip archives of a study.")],
    as_json: AsJson = False,
) -> None:
    """Run one expert on a study that is kept nowhere, and print its findings and how long it took."""
    from rich.markup import escape

    from app.bootstrap import isolated, keep_quiet, open_registry
    from app.terminal import out
    from expert_models.panel import Panel
    from expert_models.wire import CarriedMasks

    settings = open_settings()
    keep_quiet()
    registry = open_registry(settings)
    labels = [label for label, expert in registry.ready.items() if name in (label, expert.tag.name)]
    if not labels:
        raise BadSetting(f"no expert named {name} is ready: {registry.missing.get(name, 'see wetread experts list')}")
    panel = Panel([isolated(settings, registry, labels[0])], CarriedMasks())
    rows = []
    for study in read_studies(paths):
        started = perf_counter()
        findings = panel.examine(study)
        rows.append({"seconds": round(perf_counter() - started, 2), "findings": [as_row(each) for each in findings]})
        if not as_json:
            for each in findings:
                out.print(escape(in_words(each)))
            out.print(f"{rows[-1]['seconds']} s", style="dim")
    if as_json:
        print_json(rows)


def listed(label: str, expert: Expert, shelf: Shelf) -> Listed:
    """The line of an expert that is ready."""
    told = tuple(concept.meaning for concept in expert.concepts)
    if label not in shelf.names():
        return Listed(expert.tag.name, expert.tag.version, told)
    added = shelf.added(label)
    return Listed(expert.tag.name, expert.tag.version, told, True, added.record.is_trusted, added.unmapped)


def open_shelf(settings: Settings) -> Shelf:
    """Where those that were added are kept."""
    from expert_models.bundles.shelf import Shelf

    return Shelf(settings.home.expanduser() / "experts")


def read_studies(paths: list[Path]) -> list[Study]:
    """The studies in files that are archived nowhere. NothingToReport when there is none."""
    from secrets import token_bytes

    from app.terminal import show_left_out
    from dicom_io.archive import FolderArchive

    for path in paths:
        if not path.exists():
            raise BadSetting(f"{path} does not exist")
    with TemporaryDirectory() as folder:
        archive = FolderArchive(Path(folder), token_bytes(32), priors=0)
        ingested = archive.ingest(paths)
        show_left_out(ingested.left_out)
        if not ingested.study_uids:
            raise NothingToReport("none of the files given is part of a CT or X-ray study", ingested.left_out)
        return [archive.load(uid) for uid in ingested.study_uids]


def as_row(finding: Finding) -> dict[str, object]:
    """A finding for machines, without its regions."""
    return {
        "concept": [finding.concept.value, finding.concept.scheme, finding.concept.meaning],
        "presence": finding.presence.value,
        "side": finding.side.value if finding.side else None,
        "probability": finding.probability,
        "measurements": {each.code.meaning: [each.value, each.unit.value] for each in finding.measurements},
        "attributes": {each.concept.meaning: [each.value.meaning, each.probability] for each in finding.attributes},
        "reason": finding.reason,
    }


def in_words(finding: Finding) -> str:
    """A finding on one line."""
    side = f"{finding.side.value} " if finding.side else ""
    measured = "".join(f", {each.code.meaning} {each.value} {each.unit.meaning}" for each in finding.measurements)
    measured += "".join(f", {each.value.meaning.lower()}" for each in finding.attributes)
    sure = f" ({finding.probability:.0%})" if finding.probability is not None else ""
    said = finding.reason and f": {finding.reason}"
    presence = finding.presence.value.replace("_", " ")
    return f"{side}{finding.concept.meaning}: {presence}{sure}{measured}{said}"
