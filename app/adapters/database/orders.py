"""Orders from the EHR, and which request of a client has led to which job."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from app.adapters.database.engine import Database
from app.adapters.database.tables import idempotency, orders
from app.orders import Order, is_text


class DatabaseOrders:
    """Implements app.ports.Orders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, order: Order) -> None:
        """Keep an order, or replace the one with its accession number."""
        values = {"indication": order.indication, "procedure": order.procedure, "received_at": datetime.now(UTC)}
        with self._database.writing() as connection:
            self._database.alone(connection, orders)
            changed = connection.execute(orders.update().where(orders.c.accession == order.accession).values(**values))
            if changed.rowcount == 0:
                connection.execute(orders.insert().values(accession=order.accession, **values))

    def get(self, accession: str) -> Order:
        """KeyError when there is none."""
        if not is_text(accession):
            raise KeyError("no order can have it")
        with self._database.reading() as connection:
            row = connection.execute(sa.select(orders).where(orders.c.accession == accession)).one_or_none()
        if row is None:
            raise KeyError("no such order")
        return Order(accession, row._mapping["indication"], row._mapping["procedure"])


class DatabaseRequests:
    """Implements app.ports.Requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def seen(self, actor: str, key: str) -> tuple[str, str] | None:
        """What was asked under this key before, and the job it led to."""
        same = sa.select(idempotency).where(idempotency.c.actor == actor, idempotency.c.key == key)
        with self._database.reading() as connection:
            row = connection.execute(same).one_or_none()
        return None if row is None else (row._mapping["request"], row._mapping["job_id"])

    def remember(self, actor: str, key: str, request: str, job_id: str) -> None:
        """Keep it; what was kept first stays."""
        with self._database.writing() as connection:
            self._database.alone(connection, idempotency)
            same = sa.select(idempotency.c.job_id).where(idempotency.c.actor == actor, idempotency.c.key == key)
            if connection.scalar(same) is None:
                row = {"actor": actor, "key": key, "request": request, "job_id": job_id}
                connection.execute(idempotency.insert().values(**row, created_at=datetime.now(UTC)))
