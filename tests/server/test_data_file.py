"""``couchdal serve --data``: a served emulator whose data outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import couchdal_serve

from couchdal import CouchDAL, NotConfigured
from couchdal.server.options import check_backend, read_options


def test_start_line_says_where_data_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "data.db")
    with couchdal_serve("--data", path) as (address, _), pytest.raises(NotConfigured, match=f"at {address}"):
        CouchDAL(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"backend": "sqlite"}, "add --data FILE"),
        ({"backend": "memory", "data": "a.db"}, "--backend memory keeps no data"),
        ({"backend": "couch", "data": "a.db"}, "--data is for the embedded CouchDB"),
    ],
)
def test_option_that_makes_no_sense_is_refused(flags: dict[str, str], said: str) -> None:
    with pytest.raises(NotConfigured, match=said):
        check_backend(read_options(flags, {}))
