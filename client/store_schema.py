"""The event store's tables. What they leave readable: the holder, pseudonyms, and the number and size of
rows.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table

from privacy.database import meta_table

PART: Final = "store"
SCHEMA_VERSION: Final = 1

metadata = MetaData()
meta = meta_table(metadata)

holders = Table(
    "holders",
    metadata,
    Column("holder", String, primary_key=True),
    Column("key_check", LargeBinary, nullable=False),
)
"""One row per holder: a random key wrapped by the holder's keys, which shows whether the right ones were brought."""

data_keys = Table(
    "data_keys",
    metadata,
    Column("holder", String, primary_key=True),
    Column("shopper", String, primary_key=True),
    Column("key_id", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("next_number", BigInteger, nullable=False),
)
"""One row per shopper: the data key, wrapped, and the number that the shopper's next row of events will have."""

events = Table(
    "events",
    metadata,
    Column("holder", String, primary_key=True),
    Column("shopper", String, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)
"""One row per envelope: 1 to 64 events of one shopper, sealed together under the shopper's data key."""

event_ids = Table(
    "event_ids",
    metadata,
    Column("holder", String, primary_key=True),
    Column("shopper", String, primary_key=True),
    Column("blind", LargeBinary, primary_key=True),
)
"""One row per stored event that came with an id: its blind index, by which a repetition is known."""
