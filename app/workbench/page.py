"""The page, put together with Gradio: `mount` hangs it under /workbench of the application that serves REST.

Gradio carries the events, the uploads and the timer. What is special to reading images (viewer, linked sentences,
editor) is one script of ours in `assets`; what is special to patients' data (who may see what) is in session.py.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import gradio as gr
import structlog
from fastapi import FastAPI, Request
from gradio.themes import Base
from gradio.themes.utils import colors

from app.accounts import Scope
from app.bootstrap import Program, keep_quiet
from app.errors import AppError
from app.workbench.acts import Act, answer
from app.workbench.desk import Desk, desk_of
from app.workbench.routes import router_of
from app.workbench.session import COOKIE, ROOT, Guard
from app.workbench.words import templates
from app.workbench.worklist import Identities, Watched, arrivals_html, brought_in, worklist_html
from app.worker import place

FAST_S, SLOW_S = 1.5, 10.0  # how often the list is looked at while jobs run, and otherwise
STALE_S = 24 * 3600  # an upload that was broken off is removed after so long
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
SCRIPTS = "".join(
    f'<script src="{ROOT}/own/{name}.js"></script>'
    for name in ("pane", "viewer", "report", "views")  # in this order
)
HEAD = (
    f'<link rel="icon" href="{ROOT}/own/icon.svg"><link rel="stylesheet" href="{ROOT}/own/workbench.css">'
    '<meta name="robots" content="noindex">'
)
LIST = (
    '<p class="said" role="status" aria-live="polite"></p>'
    '<input class="filter" type="search" placeholder="Filter the list" aria-label="Filter the list">'
    '<div class="rows"></div>'
)
STUDY = (
    '<div class="strip"></div><p class="said" role="status" aria-live="polite" hidden></p><div class="room">'
    '<section class="viewer" aria-label="Images"></section>'
    '<section class="reading" aria-label="Report"></section></div>'
)

log = structlog.get_logger()


def mount(api: FastAPI, program: Program) -> FastAPI:
    """The application with the workbench under /workbench, and "/" leading there."""
    keep_quiet()
    # Uploads wait below home, on the disk that is meant for patients' data, until they are archived and removed.
    os.environ["GRADIO_TEMP_DIR"] = str(program.settings.home.expanduser().resolve() / "workbench-uploads")
    desk = desk_of(program)
    api.add_middleware(Guard, sessions=desk.sessions)
    api.include_router(router_of(desk))
    gr.mount_gradio_app(
        api,
        blocks_of(desk),
        ROOT,
        auth_dependency=lambda request: name_of(desk, request),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=f"{program.settings.max_upload_mb}mb",
        theme=dark_theme(),
        head=HEAD,
    )
    return api


def name_of(desk: Desk, request: Request) -> str | None:
    """The account's name, for Gradio; None closes its routes, should one ever be reached around the guard."""
    session = desk.sessions.of(request.cookies.get(COOKIE))
    return session.account.name if session else None


def dark_theme() -> Base:
    """A dim room's colours for Gradio's own parts, whatever the browser prefers; no font is loaded."""
    theme = Base(primary_hue=colors.sky, neutral_hue=colors.slate, font=SYSTEM_FONTS, font_mono=("monospace",))
    tones = {
        "body_background_fill": "#0b0e12",
        "body_text_color": "#e3e8ee",
        "body_text_color_subdued": "#a2afbd",
        "background_fill_primary": "#12171d",
        "background_fill_secondary": "#12171d",
        "block_background_fill": "#12171d",
        "block_border_color": "#28313b",
        "border_color_primary": "#28313b",
        "block_label_background_fill": "#12171d",
        "block_label_text_color": "#a2afbd",
        "table_even_background_fill": "#12171d",
        "table_odd_background_fill": "#12171d",
        "link_text_color": "#7cb9ec",
    }
    return theme.set(**tones, **{f"{name}_dark": tone for name, tone in tones.items()})


def blocks_of(desk: Desk) -> gr.Blocks:
    """The page: a bar, the worklist with a place to drop files, and the study's view; one of the two is visible."""
    identities = Identities(desk.program)
    blocks: gr.Blocks
    with gr.Blocks(title="Wetread", analytics_enabled=False, fill_width=True, delete_cache=(3600, STALE_S)) as blocks:
        watched = gr.State(Watched())
        timer = gr.Timer(SLOW_S)
        bar = gr.HTML(elem_id="bar", padding=False, apply_default_css=False, js_on_load=None)
        with gr.Row(elem_id="list-view"):
            with gr.Column(scale=3):
                listed = html_of(LIST, "wetread.list(element, props, watch)", "worklist")
            with gr.Column(scale=1, min_width=320):
                files = gr.File(
                    label="Drop DICOM files or a zip archive", file_count="multiple", height=170, elem_id="drop"
                )
                arrivals = html_of('<div class="slot"></div>', "wetread.arrivals(element, props, watch)", "arrivals")
        study = html_of(STUDY, "wetread.study(element, props, trigger, watch); // 'act'", "study-view")

        def first(request: gr.Request) -> tuple[str, str, gr.Timer, gr.File]:
            session = desk.session(secret_of(request), Scope.READ)
            page, timer_then = listing(desk, identities)
            bar_html = templates().get_template("bar.html.j2").render(root=ROOT, account=session.account)
            return bar_html, page, timer_then, gr.File(visible=session.may(Scope.WRITE))

        def tick(now: Watched, request: gr.Request) -> tuple[object, ...]:
            desk.session(secret_of(request), Scope.READ)
            page, timer_then = listing(desk, identities)
            body, then = arrived(desk, now) if now.keys else (gr.skip(), now)
            return page, body, then, timer_then

        def bring(paths: list[str] | None, request: gr.Request) -> tuple[object, ...]:
            try:
                session = desk.session(secret_of(request), Scope.WRITE)
                now = brought_in(desk.program, paths or [], session.account.name)
            except AppError as exc:
                now = Watched(said=str(exc))
            except Exception as exc:  # its message may hold the name of a file
                log.error("an upload failed", error=type(exc).__name__, where=place(exc))
                now = Watched(said="Something went wrong; the server's log says where.")
            finally:
                for path in paths or []:
                    Path(path).unlink(missing_ok=True)
            body, then = arrived(desk, now)
            return None, body, then, listing(desk, identities)[0], gr.Timer(FAST_S)

        def act(event: gr.EventData, request: gr.Request) -> tuple[str, object]:
            made = acted(desk, secret_of(request), event._data)
            return made.body, listing(desk, identities)[0] if made.is_change else gr.skip()

        blocks.load(first, None, [bar, listed, timer, files], show_progress="hidden", api_visibility="private")
        timer.tick(tick, watched, [listed, arrivals, watched, timer], show_progress="hidden", api_visibility="private")
        files.upload(
            bring,
            files,
            [files, arrivals, watched, listed, timer],
            concurrency_limit=2,
            show_progress="hidden",
            api_visibility="private",
        )
        study.act(act, None, [study, listed], concurrency_limit=4, show_progress="hidden", api_visibility="private")
        blocks.queue(api_open=False, default_concurrency_limit=8)
    return blocks


def html_of(template: str, script: str, name: str) -> gr.HTML:
    """A part of the page that our script fills; the template never holds a value, so nothing in one is ever run."""
    return gr.HTML(
        html_template=template,
        js_on_load=script,
        head=SCRIPTS,
        elem_id=name,
        padding=False,
        apply_default_css=False,
    )


def secret_of(request: gr.Request) -> str | None:
    """The session's secret that came with an event."""
    secret: str | None = request.cookies.get(COOKIE)
    return secret


def listing(desk: Desk, identities: Identities) -> tuple[str, gr.Timer]:
    """The worklist, and when to look again; a sentence where a store does not answer."""
    try:
        page, is_busy = worklist_html(desk.program, identities)
    except AppError as exc:
        log.warning("the worklist cannot be shown", reason=str(exc))
        return '<p class="notice">The list cannot be read now; it is tried again.</p>', gr.Timer(SLOW_S)
    return page, gr.Timer(FAST_S if is_busy else SLOW_S)


def arrived(desk: Desk, now: Watched) -> tuple[str, Watched]:
    """What the page shows of the jobs that are waited for; `open` names the study to go to when all are done."""
    body, then = arrivals_html(desk.program, now)
    is_over = bool(then.keys) and set(then.done) == set(then.keys)
    if is_over:
        then = Watched(left_out=then.left_out, said=then.said)
    return json.dumps({"html": body, "open": newest_of(desk, now.keys) if is_over else None}), then


def newest_of(desk: Desk, keys: tuple[str, ...]) -> str | None:
    """Of the studies brought in, the one acquired last that has a report."""
    rows = [desk.program.worklist.row(desk.program.worklist.uid_of(key)) for key in keys]
    found = [(row.arrival.acquired_on, row.arrival.study_key) for row in rows if row.version]
    dated = [(when.isoformat(), key) for when, key in found if when is not None]
    return max(dated)[1] if dated else (found[0][1] if found else None)


def acted(desk: Desk, secret: str | None, data: object) -> Act:
    """What an event of the study's view comes to. What goes wrong is one sentence; the page keeps what it shows."""
    try:
        return answer(desk, secret, data)
    except KeyError:
        sentence = "There is no such report; it may have been taken away."
    except (AppError, ValueError) as exc:
        sentence = str(exc)
    except Exception as exc:
        log.error("an action of the workbench failed", error=type(exc).__name__, where=place(exc))
        sentence = "Something went wrong; the server's log says where. Nothing was changed."
    sentence = f"{sentence[:1].upper()}{sentence[1:]}".rstrip(".") + "."
    return Act(json.dumps({"said": sentence, "serial": secrets.token_hex(4)}))
