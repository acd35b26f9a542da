"""What survives on this host: the nouns, in SQLite."""

from cnm.store.database import Store

__all__ = ["Store"]
