"""Eight writers in the same moment, on every database: the first one's row is everyone's, and nobody fails."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from app.accounts import Account, Scope
from app.adapters.database.accounts import DatabaseAccounts
from app.adapters.database.engine import Database
from app.adapters.database.orders import DatabaseOrders, DatabaseRequests
from app.adapters.database.worklist import DatabaseWorklist
from app.orders import Order
from app.worklist import Arrival
from dicom_io.study import Modality

NOW = datetime(2024, 3, 5, 10, 15, tzinfo=UTC)
ARRIVAL = Arrival("1.2.3", "a" * 32, "b" * 32, None, (Modality.DX,), 1, NOW)
HOUSE = Account("house", "Dr G. House", frozenset({Scope.READ}))
WRITES: list[Callable[[Database], None]] = [
    lambda database: DatabaseRequests(database).remember("ehr", "key", "d" * 64, "e" * 32),
    lambda database: DatabaseOrders(database).put(Order("A-1", "Cough")),
    lambda database: DatabaseWorklist(database).put(ARRIVAL),
    lambda database: DatabaseAccounts(database).add(HOUSE, "correct horse battery"),
]


@pytest.mark.parametrize("write", WRITES, ids=["request", "order", "arrival", "account"])
def test_who_comes_second_finds_it_done(database: Database, write: Callable[[Database], None]) -> None:
    with database.reading():
        pass  # the schema is there
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, database) for _ in range(8)]:
            done.result()
