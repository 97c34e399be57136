"""The command line: `wetread --help`.

Exit codes: 0 done; 1 a fault; 2 a wrong command, path or setting; 3 nothing that can be reported on; 4 a folder or
database cannot be read or written, or the queue does not answer. Heavy modules are imported inside the commands, so
that help is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.cli_access import audit, serve, tokens_app, users_app
from app.cli_evaluate import evaluate_app
from app.cli_experts import experts_app
from app.cli_guideline import guideline_app
from app.cli_train import train_app
from app.errors import AppError, BadSetting, NothingToReport, StorageFailed, storage
from app.opening import check_paths, open_here, open_settings, print_json

if TYPE_CHECKING:
    from app.bootstrap import Program
    from dicom_io.archive import Ingested
    from rag.evidence import Document

app = typer.Typer(
    name="wetread",
    help="A preliminary, grounded draft report on a CT or X-ray study, on site, with nothing sent out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
library_app = typer.Typer(help="The literature that reports cite.", no_args_is_help=True)
app.add_typer(library_app, name="library")
app.add_typer(experts_app, name="experts")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(tokens_app, name="tokens")
app.add_typer(users_app, name="users")
app.add_typer(guideline_app, name="guideline")

Paths = Annotated[list[Path], typer.Argument(help="DICOM files, folders, zip archives or a DICOMDIR.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def demo(
    out: Out = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Which phantom patient.")] = 24,
) -> None:
    """Make a phantom patient (X-ray with a prior, and CT), report on both, write every result."""
    from app.demo import run_demo

    run_demo(out, seed, open_settings(home=out / "home"))


@app.command()
def workbench(
    demo: Annotated[bool, typer.Option("--demo", help="Over a phantom patient, in ./workbench-demo.")] = False,
) -> None:
    """Serve, and open the clinician's workbench in the browser, until Ctrl-C or SIGTERM."""
    from app.workbench.start import ALONE, start, start_demo

    if demo:
        folder = Path("workbench-demo")
        start_demo(folder, open_settings(home=folder / "home", **ALONE))
    else:
        start(open_here())


@app.command()
def report(
    paths: Paths,
    prior: Annotated[list[Path] | None, typer.Option("--prior", help="An earlier study of the same patient.")] = None,
    out: Out = Path("wetread-output"),
    as_json: AsJson = False,
) -> None:
    """Report on every study in PATHS and write JSON, HTML, PDF, DICOM SR and SEG, and FHIR to OUT."""
    from app.reporting import report_studies
    from app.terminal import show_left_out

    program = open_here()
    check_paths([*paths, *(prior or [])])
    earlier = ingest_with_progress(program, prior, "ingesting the prior") if prior else None
    if earlier is not None and not earlier.study_uids:
        show_left_out(earlier.left_out)
        raise NothingToReport("the prior holds no CT or X-ray study that can be compared with", earlier.left_out)
    current = ingest_with_progress(program, paths, "ingesting")
    left_out = [*(earlier.left_out if earlier else ()), *current.left_out]
    show_left_out(left_out)
    if not current.study_uids:
        raise NothingToReport("none of the files given is part of a CT or X-ray study", left_out)
    earlier_uids = set(earlier.study_uids) if earlier else set()
    wanted = [uid for uid in current.study_uids if uid not in earlier_uids]
    if not wanted:
        raise NothingToReport("every study given is also given as a prior", left_out)
    report_studies(program, wanted, out, priors_given=earlier_uids, as_json=as_json, left_out=left_out)


@app.command()
def ingest(paths: Paths) -> None:
    """Put studies into the archive without reporting on them."""
    from app.terminal import out, show_left_out

    program = open_here()
    check_paths(paths)
    ingested = ingest_with_progress(program, paths, "ingesting")
    show_left_out(ingested.left_out)
    if not ingested.study_uids:
        raise NothingToReport("none of the files given is part of a CT or X-ray study", ingested.left_out)
    out.print(f"{len(ingested.study_uids)} studies in the archive, {len(ingested.left_out)} files left out")


@app.command()
def studies(as_json: AsJson = False) -> None:
    """List the studies of the archive. Studies and patients go under keyed hashes."""
    from app.terminal import out
    from dicom_io.identity import study_key

    program = open_here()
    rows = program.archive.studies()
    keys = {row.uid: study_key(row.uid, program.secret)[:12] for row in rows}
    if as_json:
        print_json(
            [
                {
                    "study": keys[row.uid],
                    "patient": row.patient_key[:12],
                    "acquired_on": row.acquired_on.isoformat() if row.acquired_on else None,
                    "modalities": row.modalities,
                    "instances": row.instances,
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        modalities = "+".join(row.modalities)
        out.print(
            f"{keys[row.uid]}  {row.patient_key[:12]}  {row.acquired_on}  {modalities}  {row.instances} instances"
        )
    if not rows:
        out.print("the archive is empty")


@app.command()
def worker() -> None:
    """Make the reports that wait in the queue, until Ctrl-C or SIGTERM; the one in hand is finished first."""
    from functools import partial

    from app.pacs.deliver import deliver_due
    from app.pacs.priors import bring_priors
    from app.terminal import say
    from app.worker import desk_of, stop_on_signals, work

    program = open_here()
    if program.settings.url_of("queue_url").startswith("huey+memory:"):
        raise BadSetting("queue_url huey+memory: reaches no other process, so a worker has nothing to take from it")
    stop = stop_on_signals()
    say(f"working, {program.queue.waiting()} jobs wait")  # a queue that is not there ends this command at once
    work(desk_of(program, before=partial(bring_priors, program), deliver=partial(deliver_due, program)), stop)


@app.command()
def listen() -> None:
    """Receive studies from modalities and the PACS (DICOM Storage SCP), archive them, and have them reported on."""
    from app.pacs.serve import listen as serve

    serve(open_here())


@app.command()
def batch(
    sources: Annotated[list[str], typer.Argument(help="DICOM files, folders, zips, or pacs:Keyword=value,...")],
    enqueue: Annotated[bool, typer.Option("--enqueue", help="Leave the reports to the workers.")] = False,
) -> None:
    """Report on every study of a folder or of a query at the PACS; go on where an earlier run stopped."""
    from app.pacs.batch import run_batch

    run_batch(open_here(), sources, enqueue=enqueue)


app.command()(serve)
app.command()(audit)


@app.command()
def phantom(
    out: Out,
    seed: Annotated[int, typer.Option(help="Same seed, same patient.")] = 7,
    varied: Annotated[
        bool, typer.Option("--varied", help="From a wider range of bodies, views, devices, makers.")
    ] = False,
) -> None:
    """Write a synthetic patient: CT and chest radiographs as DICOM, with priors and the truth about them."""
    from app.terminal import out as terminal
    from dicom_io.phantom.write import write_patient
    from dicom_io.phantom.write_varied import write_varied

    with storage(out):
        written = write_varied(seed, out) if varied else write_patient(seed, out)
    terminal.print(f"{len(written)} files in {out}")


@library_app.command("add")
def library_add(paths: Annotated[list[Path], typer.Argument(help="TOML, Markdown or text files, or folders.")]) -> None:
    """Add documents to the literature, or replace them."""
    from app.terminal import out, show_left_out
    from dicom_io.study import LeftOut
    from rag.documents import read_documents

    program = open_here()
    check_paths(paths)
    documents: list[Document] = []
    left_out: list[LeftOut] = []
    for path in paths:
        found, refused = read_documents(path)
        documents += found
        left_out += [LeftOut(each.name, each.reason) for each in refused]
    show_left_out(left_out)
    if not documents:
        raise NothingToReport("none of the files given is a document with a citation", left_out)
    passages = program.library.add(documents)
    out.print(f"{len(documents)} documents, {passages} passages")


@library_app.command("search")
def library_search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    most: Annotated[int, typer.Option(help="At most so many passages.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Search the literature."""
    from dataclasses import asdict

    from rich.markup import escape

    from app.terminal import out

    found = open_here().library.search(text, most)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    for each in found:
        cited = each.citation
        out.print(f"[bold]{escape(cited.title)}[/bold]\n{escape(cited.authors)} {escape(cited.journal)} {cited.year}")
        out.print(f"[dim]{escape(cited.identifier)}  score {each.score:.2f}[/dim]\n{escape(each.text)}\n")
    if not found:
        out.print("nothing in the library is near enough")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say of every backend, expert, codec and service: ready, or why not."""
    from dataclasses import asdict

    from rich.markup import escape

    from app.doctor import examine
    from app.terminal import out

    checks = examine(open_settings())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            mark = "[green]ready  [/green]" if check.is_ready else "[yellow]missing[/yellow]"
            out.print(f"{mark} {check.kind:8} {check.name:28} [dim]{escape(check.detail)}[/dim]")
    if any(check.is_needed and not check.is_ready for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """Run a command; what the user can mend is one sentence on stderr and an exit code, the rest a traceback."""
    from dicom_io.errors import ArchiveUnavailable, DicomError
    from expert_models.errors import MasksUnavailable

    try:
        app()
    except AppError as exc:
        fail(str(exc), exc.exit_code)
    except (ArchiveUnavailable, MasksUnavailable) as exc:
        fail(str(exc), StorageFailed.exit_code)
    except DicomError as exc:
        fail(str(exc), NothingToReport.exit_code)


def fail(sentence: str, code: int) -> NoReturn:
    """Say why on stderr and end."""
    from rich.markup import escape

    from app.terminal import err

    err.print(f"[red]wetread:[/red] {escape(sentence)}")
    sys.exit(code)


def ingest_with_progress(program: Program, paths: list[Path], what: str) -> Ingested:
    """Archive the files with a progress bar."""
    from app.terminal import counting

    with counting(what) as tick:
        return program.archive.ingest(paths, progress=tick)
