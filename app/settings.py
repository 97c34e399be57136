"""Settings: from the constructor, from WETREAD_… variables, from wetread.toml, in this order of precedence.

docs/configuration.md documents every one; a test fails when it does not. An unknown key is an error.
"""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from app.errors import BadSetting

PREFIX = "WETREAD_"
CONFIG_VARIABLE = "WETREAD_CONFIG"  # names another file than ./wetread.toml; not itself a setting


def default_home() -> Path:
    """The folder that holds archive, masks, literature and database: $XDG_DATA_HOME/wetread, or its usual place."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "wetread"


class Settings(BaseSettings):
    """Every setting with its default. URLs left empty lie below `home`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    home: Path = Field(default_factory=default_home, description="Folder for everything wetread keeps.")
    database_url: str = Field("", description="SQLAlchemy URL of the reports' database; empty: SQLite in home.")
    queue_url: str = Field("", description="huey+sqlite:///file, huey+redis://, celery+amqp://, celery+redis://.")
    lease_s: float = Field(60.0, ge=1, description="Seconds without a sign of life until a worker's job is taken up.")
    job_limit_s: float = Field(3600.0, ge=1, description="Seconds for one report; then it has failed.")
    results_to: str = Field("", description="Where results go, URLs separated by commas; empty: nowhere.")
    ae_title: str = Field("WETREAD", description="Our DICOM AE title, 1 to 16 characters.")
    listen_host: str = Field("127.0.0.1", description="Address that `wetread listen` listens on.")
    listen_port: int = Field(11112, ge=0, le=65535, description="Port that `wetread listen` listens on; 0: a free one.")
    allowed_callers: str = Field("", description="AE titles that may send to us, separated by commas; empty: any.")
    quiet_s: float = Field(30.0, ge=0.1, description="Seconds without a new image after which a study is complete.")
    pacs_url: str = Field("", description="Where priors are looked for: dicom://, dicom+get:// or dicomweb+http(s)://.")
    prior_deadline_s: float = Field(60.0, gt=0, description="Seconds in which priors must come from the PACS.")
    organization: str = Field("", description="Who answers for signed reports beside the person who signs.")
    serve_host: str = Field("127.0.0.1", description="Address that `wetread serve` listens on.")
    serve_port: int = Field(8080, ge=0, le=65535, description="Port that `wetread serve` listens on; 0: a free one.")
    serve_names: str = Field("", description="Hosts a request may be for, by commas; empty: loopback's own, else any.")
    trusted_proxies: str = Field("127.0.0.1", description="Proxies whose X-Forwarded-… headers count, by commas.")
    authentication: Literal["required", "none"] = Field("required", description="none: on loopback only.")
    max_upload_mb: int = Field(1024, ge=1, description="MiB that one upload over REST may have.")
    blobs_url: str = Field("", description="Where masks are kept (file:///folder); empty: a folder in home.")
    vectors_url: str = Field("", description="memory:, chroma+file:///folder or chroma+http://host:port.")
    embedder_url: str = Field("minilm:", description="Encoder of the literature: minilm: or hashing:.")
    mllm_url: str = Field(
        "template:",
        description="Who writes: template:, local: (the one that ships), local:///folder, openai+http(s)://host:port/v1.",
    )
    mllm_model: str = Field("", description="Model name at mllm_url; empty: the only one it offers.")
    mllm_api_key: SecretStr = Field(SecretStr(""), description="Bearer token for mllm_url.")
    mllm_timeout_s: float = Field(120.0, gt=0, description="Seconds to wait for the language model.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the experts run.")
    expert_runtime: Literal["auto", "torch", "openvino"] = Field("auto", description="What runs the networks on a CPU.")
    threads: int = Field(0, ge=0, description="Threads of the experts; 0: as many as there are cores.")
    expert_timeout_s: float = Field(600.0, gt=0, description="Seconds in which an expert must examine one series.")
    expert_memory_mb: int = Field(0, ge=0, description="MiB of memory the experts may take; 0: 3/4 of the machine's.")
    examinations_mb: int = Field(64, ge=0, description="MiB of findings kept, to examine nothing twice; 0: none.")
    priors: int = Field(3, ge=0, le=20, description="How many earlier studies to attach.")
    evidence: int = Field(6, ge=0, le=20, description="How many passages of literature a report may cite.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="Least level logged.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines on stderr look.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Constructor, then environment, then the TOML file; neither .env nor secret files."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    @field_validator("ae_title")
    @classmethod
    def _is_ae_title(cls, title: str) -> str:
        """As PS3.5 table 6.2-1 says of the VR AE."""
        if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
            raise ValueError("it must have 1 to 16 printable characters of ASCII and no backslash")
        if title != title.strip():
            raise ValueError("it must not begin or end with a space")
        return title

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, proxies: str) -> str:
        for each in proxies.split(","):
            try:
                ip_network(each.strip() or "::1")
            except ValueError:
                raise ValueError("each must be an IP address or a network such as 172.18.0.0/16") from None
        return proxies

    @property
    def proxies(self) -> tuple[str, ...]:
        """Whose word on the client's address and on HTTPS is believed."""
        return tuple(each.strip() for each in self.trusted_proxies.split(",") if each.strip())

    @property
    def callers(self) -> tuple[str, ...]:
        """Who may send to us; empty: anybody."""
        return tuple(each.strip() for each in self.allowed_callers.split(",") if each.strip())

    @property
    def destinations(self) -> tuple[str, ...]:
        """Where results go."""
        return tuple(each.strip() for each in self.results_to.split(",") if each.strip())

    def url_of(self, name: Literal["database_url", "queue_url", "blobs_url", "vectors_url"]) -> str:
        """The URL as set, or the default one below home."""
        home = self.home.expanduser().resolve()
        below_home = {
            "database_url": f"sqlite:///{home / 'wetread.db'}",
            "queue_url": f"huey+sqlite:///{home / 'jobs.db'}",
            "blobs_url": f"file://{home / 'masks'}",
            "vectors_url": f"chroma+file://{home / 'literature'}",
        }
        url: str = getattr(self, name)
        return url or below_home[name]


def config_file() -> Path:
    """The TOML file that is read if it exists."""
    return Path(os.environ.get(CONFIG_VARIABLE) or "wetread.toml")


def load_settings(**given: Any) -> Settings:
    """Settings with every source applied. Raises BadSetting with one sentence that names the key."""
    if os.environ.get(CONFIG_VARIABLE) and not config_file().is_file():
        raise BadSetting(f"{CONFIG_VARIABLE} names a file that does not exist: {config_file()}")
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG_VARIABLE}
    if unknown := sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known):
        raise BadSetting(f"unknown setting in the environment: {', '.join(unknown)}")
    try:
        return Settings(**given)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = "unknown setting" if first["type"] == "extra_forbidden" else first["msg"].lower()
        raise BadSetting(f"setting {where}: {said}") from None
    except ValueError as exc:  # the TOML itself cannot be parsed
        raise BadSetting(f"{config_file()} is not valid TOML: {exc}") from exc
