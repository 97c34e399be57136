"""The one place that names concrete adapters: settings in, the parts of the program out.

Nothing is opened here. A backend opens at its first use, so `wetread --help` and `wetread studies` stay quick.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import structlog

from app.context import ArchiveInContext
from app.errors import WHY, AppError, BadSetting, StorageFailed, UnknownBackend
from app.pipeline import Parts
from app.ports import Accounts, Audit, Deliveries, Jobs, Orders, Queue, Requests, Versions, Worklist
from app.settings import Settings
from dicom_io.archive import FolderArchive
from dicom_io.identity import site_secret
from dicom_io.ports import Peer
from expert_models.ports import Experts, Masks
from medmllm.ports import LanguageModel, Writer
from rag.ports import Embedder, VectorStore
from rag.retrieve import HybridLibrary

if TYPE_CHECKING:
    from app.adapters.examinations import FolderExaminations
    from expert_models.isolated import Isolated
    from expert_models.registry import Registry
    from medmllm.answer import Asked

log = structlog.get_logger()

# Dependencies that would otherwise ask the network for something, or tell it something.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",  # of Chroma and FastAPI, whose spans would hold addresses and bodies
    "FASTAPI_OTEL_AUTO_CONFIGURE": "false",
}


@dataclass(frozen=True, slots=True)
class Program:
    """Everything a way in needs: the parts of the pipeline, and what stands around them.

    archive is the folder itself, for bringing studies in; parts.archive knows their orders and reports as well.
    """

    settings: Settings
    parts: Parts
    archive: FolderArchive
    library: HybridLibrary
    masks: Masks
    secret: bytes
    queue: Queue
    jobs: Jobs
    versions: Versions
    deliveries: Deliveries
    worklist: Worklist
    orders: Orders
    requests: Requests
    accounts: Accounts
    audit: Audit


def keep_quiet() -> None:
    """Turn the telemetry and the downloads of every dependency off, for this process and its children."""
    os.environ.update(QUIET)


def open_program(settings: Settings) -> Program:
    """Put the program together. Raises BadSetting when a URL cannot be understood."""
    from app.adapters.database.accounts import DatabaseAccounts
    from app.adapters.database.deliveries import DatabaseDeliveries, DatabaseOutbox
    from app.adapters.database.engine import Database
    from app.adapters.database.jobs import DatabaseJobs
    from app.adapters.database.orders import DatabaseOrders, DatabaseRequests
    from app.adapters.database.trail import DatabaseAudit
    from app.adapters.database.versions import DatabaseReports
    from app.adapters.database.worklist import DatabaseWorklist

    keep_quiet()
    os.environ["EXPERT_RUNTIME"] = settings.expert_runtime  # for the process that examines, which sees no setting
    if settings.threads:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # read when torch and NumPy's BLAS are first loaded
    if settings.pacs_url:
        open_peer(settings, settings.pacs_url, "pacs_url")  # only to see now, and not at night, whether it can be
    for destination in settings.destinations:
        open_peer(settings, destination, "results_to")
    home = settings.home.expanduser()
    secret = site_secret(home)
    archive = FolderArchive(home / "archive", secret, priors=settings.priors)
    masks = open_masks(settings)
    library = open_library(settings)
    database = Database(settings.url_of("database_url"))
    versions, orders = DatabaseReports(database, settings.destinations), DatabaseOrders(database)
    parts = Parts(
        archive=ArchiveInContext(archive, orders, versions),
        experts=open_experts(settings, masks),
        library=library,
        writer=open_writer(settings),
        reports=versions,
        outbox=DatabaseOutbox(database, versions, settings.destinations, secret),
    )
    return Program(
        settings=settings,
        parts=parts,
        archive=archive,
        library=library,
        masks=masks,
        secret=secret,
        queue=open_queue(settings),
        jobs=DatabaseJobs(database),
        versions=versions,
        deliveries=DatabaseDeliveries(database),
        worklist=DatabaseWorklist(database),
        orders=orders,
        requests=DatabaseRequests(database),
        accounts=DatabaseAccounts(database),
        audit=DatabaseAudit(database),
    )


def open_queue(settings: Settings) -> Queue:
    """What carries ids of jobs to workers."""
    url = settings.url_of("queue_url")
    match urlsplit(url).scheme:
        case "huey+memory" | "huey+sqlite" | "huey+redis":
            from app.adapters.huey_queue import HueyQueue

            return HueyQueue(url)
        case "celery+amqp" | "celery+redis":
            from app.adapters.celery_queue import CeleryQueue

            return CeleryQueue(url)
        case other:
            known = ["huey+memory", "huey+sqlite", "huey+redis", "celery+amqp", "celery+redis"]
            raise UnknownBackend("queue_url", other, known)


def open_masks(settings: Settings) -> Masks:
    """Where masks are kept."""
    from app.adapters.blobs import FolderMasks

    url = settings.url_of("blobs_url")
    match urlsplit(url).scheme:
        case "file":
            return FolderMasks(Path(unquote(urlsplit(url).path)))
        case other:
            raise UnknownBackend("blobs_url", other, ["file"])


def open_peer(settings: Settings, url: str, setting: str) -> Peer:
    """A PACS. setting: which one the URL is from. Raises BadSetting, which does not repeat the URL's password."""
    try:
        match urlsplit(url).scheme:
            case "dicom" | "dicom+get":
                from dicom_io.query import DicomPeer

                return DicomPeer.at(url, settings.ae_title)
            case "dicomweb+http" | "dicomweb+https":
                from dicom_io.dicomweb import DicomWebPeer

                return DicomWebPeer(url)
            case other:
                raise UnknownBackend(setting, other, ["dicom", "dicom+get", "dicomweb+http", "dicomweb+https"])
    except ValueError as exc:
        raise BadSetting(f"{setting}: {exc}") from None


def open_embedder(settings: Settings) -> Embedder:
    """The encoder of the literature."""
    match urlsplit(settings.embedder_url).scheme:
        case "minilm":
            from rag.adapters.minilm import MiniLmEmbedder

            return MiniLmEmbedder()
        case "hashing":
            from rag.adapters.hashing import HashingEmbedder

            return HashingEmbedder()
        case other:
            raise UnknownBackend("embedder_url", other, ["minilm", "hashing"])


def open_vectors(settings: Settings) -> VectorStore:
    """Where the passages' vectors are kept."""
    url = settings.url_of("vectors_url")
    match urlsplit(url).scheme:
        case "memory":
            from rag.adapters.memory import MemoryStore

            return MemoryStore()
        case "chroma+file" | "chroma+http":
            from rag.adapters.chroma import ChromaStore

            return ChromaStore(url)
        case other:
            raise UnknownBackend("vectors_url", other, ["memory", "chroma+file", "chroma+http"])


def open_library(settings: Settings) -> HybridLibrary:
    """The literature: dense and lexical search, fused."""
    return HybridLibrary(open_vectors(settings), open_embedder(settings), most=settings.evidence)


def open_experts(settings: Settings, masks: Masks) -> Experts:
    """Every expert behind one panel. Raises AppError when one that ships cannot be made: a report must not lack it."""
    from expert_models.panel import Panel
    from expert_models.registry import PACKAGED

    registry = open_registry(settings)
    for label, reason in registry.missing.items():
        if label in PACKAGED:
            raise AppError(f"the installation is damaged: {label}: {reason}")
        log.warning("an expert cannot be used", expert=label, reason=reason)
    experts = [isolated(settings, registry, label) for label in registry.ready]
    return Panel(experts, masks, open_examinations(settings) if settings.examinations_mb else None)


def open_examinations(settings: Settings) -> FolderExaminations:
    """Where findings are kept, so that nothing is examined twice."""
    from app.adapters.examinations import FolderExaminations

    return FolderExaminations(settings.home.expanduser() / "examinations", settings.examinations_mb)


def open_registry(settings: Settings) -> Registry:
    """The experts that ship, those that are installed, and the bundles that were added below home."""
    from expert_models.registry import registered

    shelf = settings.home.expanduser() / "experts"
    try:
        return registered(settings.device, shelf)
    except OSError as exc:
        raise StorageFailed(f"{shelf} cannot be read: {WHY.get(exc.errno or 0, exc.strerror)}") from exc


def isolated(settings: Settings, registry: Registry, label: str) -> Isolated:
    """An expert that examines in another process, within the limits that the settings give it."""
    from expert_models.isolated import Isolated, Limits, process_of

    recipe = registry.recipes[label]
    limits = Limits(settings.expert_timeout_s, settings.expert_memory_mb)
    process = process_of(limits, label if recipe.is_foreign else "")
    return Isolated(registry.ready[label], recipe, settings.device, process)


def open_language_model(settings: Settings) -> LanguageModel | None:
    """The model that writes, or None when the template does."""
    match urlsplit(settings.mllm_url).scheme:
        case "template":
            return None
        case "openai+http" | "openai+https":
            from medmllm.adapters.openai import OpenAiModel

            try:
                return OpenAiModel(
                    settings.mllm_url,
                    model=settings.mllm_model or None,
                    api_key=settings.mllm_api_key.get_secret_value(),
                    timeout_s=settings.mllm_timeout_s,
                )
            except ValueError as exc:
                raise BadSetting(f"mllm_url: {exc}") from exc
        case "local":
            from medmllm.adapters.local import PACKAGED, LocalModel

            folder = unquote(urlsplit(settings.mllm_url).path)
            try:
                return LocalModel(Path(folder) if folder else PACKAGED)
            except ValueError as exc:
                raise BadSetting(f"mllm_url: {exc}") from exc
        case "scripted":
            from medmllm.adapters.scripted import ScriptedModel

            script = Path(unquote(urlsplit(settings.mllm_url).path))
            if not script.is_file():
                raise BadSetting(f"mllm_url names a script that is no file: {script}")
            answers = script.read_text(encoding="utf-8").split("\n---\n")
            return ScriptedModel(answers)
        case other:
            raise UnknownBackend("mllm_url", other, ["template", "local", "scripted", "openai+http", "openai+https"])


def open_writer(settings: Settings) -> Writer:
    """Who writes the report."""
    from medmllm.template import TemplateWriter
    from medmllm.write import MllmWriter

    model = open_language_model(settings)
    return TemplateWriter() if model is None else MllmWriter(model, TemplateWriter())


def open_asked(settings: Settings) -> Asked:
    """Our own model, to be asked anything and not only for reports. BadSetting when mllm_url names another."""
    from medmllm.adapters.local import LocalModel

    model = open_language_model(settings)
    if not isinstance(model, LocalModel):
        raise BadSetting(f"{settings.mllm_url} is not a model in a folder, which local:///FOLDER names")
    return model
