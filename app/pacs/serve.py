"""`wetread listen`: the Storage SCP, and beside it the way from the spool into the archive."""

from __future__ import annotations

from app.bootstrap import Program
from app.errors import BadSetting, storage
from app.pacs.arrivals import take_in_arrivals
from app.pacs.spool import Spool
from app.terminal import say
from app.worker import stop_on_signals
from dicom_io.listen import Listener


def listen(program: Program) -> None:
    """Listen until SIGTERM or Ctrl-C. Raises BadSetting when the address cannot be had, StorageFailed for the spool."""
    settings = program.settings
    home = settings.home.expanduser()
    spool = Spool(home, program.secret)
    listener = Listener(
        settings.ae_title,
        spool.incoming,
        spool.keep,
        host=settings.listen_host,
        port=settings.listen_port,
        callers=settings.callers,
    )
    stop = stop_on_signals()
    with storage(spool.incoming):
        spool.prepare()
        try:
            port = listener.start()
        except OSError as exc:
            where = f"{settings.listen_host}:{settings.listen_port}"
            raise BadSetting(f"listen_host, listen_port: nothing can listen on {where}: {exc.strerror}") from exc
    who = ", ".join(settings.callers) or "anybody"
    say(f"listening as {settings.ae_title} on {settings.listen_host}:{port} for {who}")
    try:
        take_in_arrivals(program, spool, stop)
    finally:
        listener.stop()
