"""`wetread doctor`: of every backend, expert, codec and service, whether it is ready, or why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from app.bootstrap import (
    keep_quiet,
    open_embedder,
    open_examinations,
    open_language_model,
    open_library,
    open_masks,
    open_peer,
    open_program,
    open_queue,
    open_registry,
)
from app.settings import Settings

if TYPE_CHECKING:
    from expert_models.finding import ExpertTag


@dataclass(frozen=True, slots=True)
class Checkup:
    """One thing looked at. is_needed: a report with the present settings cannot do without it."""

    kind: str  # storage, backend, service, expert, codec
    name: str
    is_ready: bool
    detail: str
    is_needed: bool = True


CODECS = {  # transfer syntax family -> the plug-in that decodes it
    "RLE Lossless": "rle",
    "JPEG and JPEG Lossless": "gdcm",
    "JPEG-LS": "jpeg_ls",
    "JPEG 2000 and HTJ2K": "openjpeg",
    "12-bit JPEG Extended": "imagecodecs",
}


def examine(settings: Settings) -> tuple[Checkup, ...]:
    """Look at everything; nothing here raises for a part that is missing."""
    keep_quiet()
    return (*_storage(settings), *_backends(settings), *_services(settings), *_experts(settings), *_codecs())


def _look(kind: str, name: str, try_it: Callable[[], str], *, is_needed: bool = True) -> Checkup:
    try:
        return Checkup(kind, name, True, try_it(), is_needed)
    except Exception as exc:  # whatever is wrong with a part is what doctor is asked for
        return Checkup(kind, name, False, str(exc) or type(exc).__name__, is_needed)


def _storage(settings: Settings) -> Iterator[Checkup]:
    def home() -> str:
        folder = settings.home.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".doctor"
        probe.write_bytes(b"wetread")
        probe.unlink()
        return str(folder)

    def archive() -> str:
        return f"{len(open_program(settings).archive.studies())} studies"

    def reports() -> str:
        with suppress(KeyError):
            open_program(settings).parts.reports.load("0")
        return settings.url_of("database_url").split("@")[-1]

    def queue() -> str:
        waiting = open_queue(settings).waiting()
        return "answers" if waiting is None else f"{waiting} jobs wait"

    def masks() -> str:
        open_masks(settings)
        return settings.url_of("blobs_url")

    def examinations() -> str:
        kept = open_examinations(settings)
        return f"{kept.count()} kept, {kept.size_mb():.1f} of {settings.examinations_mb} MiB"

    yield _look("storage", "home", home)
    yield _look("storage", "archive", archive)
    yield _look("storage", "reports", reports)
    yield _look("storage", "queue", queue)
    yield _look("storage", "masks", masks)
    yield _look("storage", "examinations", examinations)


def _backends(settings: Settings) -> Iterator[Checkup]:
    def encoder() -> str:
        embedder = open_embedder(settings)
        return f"{embedder.name}, {embedder.encode(['pleural effusion']).shape[1]} dimensions"

    def library() -> str:
        return f"{open_library(settings).count()} documents at {settings.url_of('vectors_url')}"

    def writer() -> str:
        model = open_language_model(settings)
        if model is None:
            return "the template writer; no language model is set"
        return f"the language model {model.name}, which is first asked when a report is written"

    yield _look("backend", "encoder", encoder)
    yield _look("backend", "library", library)
    yield _look("backend", "writer", writer)


def _services(settings: Settings) -> Iterator[Checkup]:
    """Other systems that the settings name. One that is away delays results and costs priors, never a report."""
    named = [("pacs_url", settings.pacs_url)] if settings.pacs_url else []
    for setting, url in [*named, *(("results_to", each) for each in settings.destinations)]:

        def answers(setting: str = setting, url: str = url) -> str:
            peer = open_peer(settings, url, setting)
            peer.echo()
            return f"{peer.name} answers"

        yield _look("service", setting, answers, is_needed=False)


def _experts(settings: Settings) -> Iterator[Checkup]:
    from expert_models.bundles.shelf import Shelf
    from expert_models.registry import PACKAGED

    if settings.device == "cuda":
        yield _look("backend", "cuda", _cuda)
    yield _look("backend", "expert runtime", lambda: _runtime(settings))
    registry = open_registry(settings)
    shelf = Shelf(settings.home.expanduser() / "experts")
    for label, expert in registry.ready.items():

        def ready(label: str = label, tag: ExpertTag = expert.tag) -> str:
            if label in shelf.names():
                shelf.added(label).check_files()
            weights = f"weights {tag.weights_sha256[:12]}" if tag.weights_sha256 else "a method without weights"
            return f"version {tag.version}, {weights}"

        yield _look("expert", expert.tag.name, ready, is_needed=label in PACKAGED)
    for label, reason in registry.missing.items():
        yield Checkup("expert", label, False, reason, is_needed=label in PACKAGED)


def _runtime(settings: Settings) -> str:
    os.environ["EXPERT_RUNTIME"] = settings.expert_runtime
    from expert_models.runtime import told

    return told(settings.device)


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device; install with `make setup TORCH=cuda`")
    return torch.cuda.get_device_name()


def _codecs() -> Iterator[Checkup]:
    for name, module in CODECS.items():

        def version(module: str = module) -> str:
            found = import_module(module)
            return f"{module} {getattr(found, '__version__', '')}".strip()

        yield _look("codec", name, version, is_needed=False)
