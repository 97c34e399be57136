"""Commands that measure, on data that no shipped model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import BadSetting
from app.opening import open_settings, print_json

if TYPE_CHECKING:
    from expert_models.evaluate import Evaluation, Metric

evaluate_app = typer.Typer(help="Measure on data the models never saw.", no_args_is_help=True)

Data = Annotated[str, typer.Option(help="A folder of data packs, or phantom:START-STOP.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Limit = Annotated[int | None, typer.Option(help="At most so many films.")]
Model = Annotated[str, typer.Option(help="Who is asked: local:, the model that ships, or local:///FOLDER.")]


@evaluate_app.command("experts")
def evaluate_experts_command(
    data: Data,
    limit: Annotated[int | None, typer.Option(help="At most so many cases of each pack.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score the experts, with bootstrap 95 % intervals."""
    from app.bootstrap import keep_quiet
    from app.terminal import say
    from expert_models.evaluate import evaluate_experts

    keep_quiet()
    try:
        evaluation = evaluate_experts(data, limit=limit, progress=say)
    except ValueError as exc:
        raise BadSetting(f"--data {data}: {exc}") from exc
    show_evaluation(evaluation, as_json)


@evaluate_app.command("reports")
def evaluate_reports_command(
    data: Data,
    limit: Annotated[int | None, typer.Option(help="At most so many studies of each pack.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Go without experts, prior, regions, pictures or checks; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score the reports of the writer that is set up (mllm_url), with bootstrap 95 % intervals."""
    from app.bootstrap import keep_quiet, open_writer
    from app.terminal import say
    from medmllm.ablate import Ablated
    from medmllm.evaluate_reports import evaluate_reports

    keep_quiet()
    writer = open_writer(open_settings())
    try:
        writer = Ablated(writer, without) if without else writer
    except ValueError as exc:
        raise BadSetting(f"--without: {exc}") from exc
    try:
        evaluation = evaluate_reports(data, writer, limit=limit, progress=say)
    except ValueError as exc:
        raise BadSetting(f"--data {data}: {exc}") from exc
    if without:
        evaluation = replace(evaluation, suite=f"{evaluation.suite} without {', '.join(sorted(set(without)))}")
    show_evaluation(evaluation, as_json)


@evaluate_app.command("grounding")
def evaluate_grounding_command(
    data: Data, model: Model = "local:", limit: Limit = None, as_json: AsJson = False
) -> None:
    """Score our own model on what is where: regions, places, masks and reports from the pictures alone."""
    from medmllm.evaluate_grounding import evaluate_grounding

    _evaluate_model("grounding", (evaluate_grounding,), data, model, limit, as_json)


@evaluate_app.command("temporal")
def evaluate_temporal_command(
    data: Data, model: Model = "local:", limit: Limit = None, as_json: AsJson = False
) -> None:
    """Score our own model on what became of findings since the film before, and on inventing it without one."""
    from medmllm.evaluate_temporal import evaluate_temporal

    _evaluate_model("temporal", (evaluate_temporal,), data, model, limit, as_json)


@evaluate_app.command("controls")
def evaluate_controls_command(
    data: Data, model: Model = "local:", limit: Limit = None, as_json: AsJson = False
) -> None:
    """Score our own model on noise, on nothing, on another patient's films, and on calling experts."""
    from medmllm.evaluate_calls import evaluate_calls
    from medmllm.evaluate_controls import evaluate_controls

    _evaluate_model("controls", (evaluate_controls, evaluate_calls), data, model, limit, as_json)


@evaluate_app.command("confusion")
def evaluate_confusion_command(
    data: Data, model: Model = "local:", limit: Limit = None, as_json: AsJson = False
) -> None:
    """Score our own model on pairs of films that are easily confused."""
    from medmllm.evaluate_confusion import evaluate_confusion

    _evaluate_model("confusion", (evaluate_confusion,), data, model, limit, as_json)


def _evaluate_model(
    suite: str,
    scores: Sequence[Callable[..., list[Metric]]],
    data: str,
    model: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """One suite of our own model, one score after the other. The patients that it draws are not kept."""
    from importlib.metadata import version

    from app.bootstrap import keep_quiet, open_asked
    from app.terminal import say
    from expert_models.evaluate import Evaluation
    from medmllm.train.films import held_out_exams

    keep_quiet()
    asked = open_asked(open_settings(mllm_url=model))
    try:
        with TemporaryDirectory() as kept:
            drawn = [score(asked, held_out_exams(data, Path(kept), limit), limit, say) for score in scores]
        metrics = [metric for each in drawn for metric in each]
        if not metrics:
            raise ValueError("it holds no film that the model can be asked about")
    except ValueError as exc:
        raise BadSetting(f"--data {data}: {exc}") from exc
    show_evaluation(Evaluation(suite, data, version("wetread"), tuple(metrics)), as_json)


def show_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    """The metrics, for machines or one a line."""
    from app.terminal import out

    if as_json:
        print_json(evaluation.as_json())
        return
    if " without " in evaluation.suite:  # else a kept table would pass for a whole run
        out.print(evaluation.suite)
    for metric in evaluation.metrics:
        out.print(f"{metric.name:40} {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]  n={metric.n}")
