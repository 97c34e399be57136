"""docker-compose.yml as Compose reads it: what reaches what, what is published, and that our settings are settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.adapters.database.engine import Database
from app.bootstrap import open_queue
from app.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
OURS = ("app", "worker", "listener")
SERVERS = ("postgres", "rabbitmq", "chroma", "mllm")
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<kind>:[-?])(?P<rest>[^}]*)\}")
GIVEN = {"POSTGRES_PASSWORD": "p", "RABBITMQ_PASSWORD": "r"}


def filled(value: Any) -> Any:
    """With variables filled in: a given one, else its default; one that is required must be given."""
    if isinstance(value, dict):
        return {key: filled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each) for each in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda m: GIVEN[m["name"]] if m["kind"] == ":?" else GIVEN.get(m["name"], m["rest"]), value)


def compose() -> dict[str, Any]:
    """The file as Compose reads it."""
    parsed: dict[str, Any] = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return parsed


SERVICES: dict[str, Any] = compose()["services"]


def test_every_service_is_known_here() -> None:
    assert set(SERVICES) == {*OURS, *SERVERS, "orthanc"}


@pytest.mark.parametrize("name", SERVERS)
def test_servers_have_no_way_out_and_publish_nothing(name: str) -> None:
    assert SERVICES[name]["networks"] == ["inside"]
    assert "ports" not in SERVICES[name]
    assert compose()["networks"]["inside"]["internal"] is True


def test_only_the_dicom_port_is_open_to_the_hospital() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == ["11112:11112"]


@pytest.mark.parametrize("name", OURS)
def test_our_settings_are_settings_and_open_what_they_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[name]
    environment = {key: value for key, value in service["environment"].items() if key.startswith("WETREAD_")}
    assert {key.removeprefix("WETREAD_").lower() for key in environment} <= set(Settings.model_fields)
    for key, value in environment.items():
        monkeypatch.setenv(key, str(value))
    settings = load_settings()
    Database(settings.url_of("database_url")).close()
    open_queue(settings)
    for url in (settings.url_of("database_url"), settings.url_of("queue_url"), settings.url_of("vectors_url")):
        assert urlsplit(url).hostname in SERVICES
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_the_endpoint_beyond_loopback_asks_who_is_there() -> None:
    environment = SERVICES["app"]["environment"]
    assert environment["WETREAD_SERVE_HOST"] == "0.0.0.0"
    assert "WETREAD_AUTHENTICATION" not in environment
    assert Settings.model_fields["authentication"].default == "required"


def test_the_health_check_may_ask() -> None:
    names = SERVICES["app"]["environment"]["WETREAD_SERVE_NAMES"].split(",")
    url = re.search(r"http://([\d.]+):(\d+)/live", SERVICES["app"]["healthcheck"]["test"][-1])
    assert url is not None
    assert url[1] in names
    assert int(url[2]) == Settings.model_fields["serve_port"].default


def test_every_image_has_its_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert {images[name] for name in OURS} == {f"wetread:{version[1]}"}
    assert images["chroma"] == f"chromadb/chroma:{pinned['chromadb']}"
    assert all(re.search(r":v?\d", image) for image in images.values())


def test_every_volume_and_config_is_declared() -> None:
    parsed = compose()
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in parsed["volumes"] or source.startswith("./")
        assert {each["source"] for each in service.get("configs", [])} <= set(parsed["configs"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_the_example_environment_names_every_variable() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert example <= used
    assert {name for name in used if name.endswith("_PASSWORD")} <= example
