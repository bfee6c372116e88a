"""The store, the lease, and records that are not what was written."""

from __future__ import annotations

from typing import ClassVar

from perdure.core.errors.base import Category, PerdureError


class StoreError(PerdureError):
    """The store could not do its work."""

    code = "store_error"
    category: ClassVar[Category] = "store"


class StoreWriteError(StoreError):
    """A write failed (disk full, IO error, lost connection); nothing of it is acknowledged."""

    code = "store_write_failed"
    retryable = True
    default_hint = "check the disk; runs go on from what was committed"


class StoreReadOnlyError(StoreError):
    """The store's file, or its directory, may only be read; nothing was written."""

    code = "store_read_only"
    default_hint = "commands that only look still work; to change runs, make the file and its directory writable"


class StoreReadError(StoreError):
    """A read failed."""

    code = "store_read_failed"
    retryable = True


class OutcomeUnknownError(StoreError):
    """A commit was sent and not confirmed: it may or may not have happened."""

    code = "outcome_unknown"
    retryable = True
    default_hint = "send the same command again with the same command id"


class StoreBusyError(StoreError):
    """Another process held the store's write lock for too long."""

    code = "store_busy"
    retryable = True


class StoreUrlError(StoreError):
    """A store URL is not understood."""

    code = "store_url"
    default_hint = "write sqlite:///path/to/file.db or memory://"


class StoreNotFoundError(StoreError):
    """There is no store where one is to be read; nothing was made."""

    code = "store_not_found"
    default_hint = (
        "check --store or PERDURE_STORE (sqlite:///path/to/file.db); 'perdure run' makes a store where none is"
    )


class NotAStoreError(StoreError):
    """The file is not a Perdure store."""

    code = "not_a_store"
    default_hint = "check the path given with --store; a new file is made where none exists"


class StoreVersionError(StoreError):
    """The store was written by a newer version of Perdure, or its migrations were changed."""

    code = "store_version"
    default_hint = "upgrade perdure"


class StoreCorruptError(StoreError):
    """The store's file is damaged."""

    code = "store_corrupt"
    category: ClassVar[Category] = "integrity"
    default_hint = "restore the file from a backup"


class StoreClosedError(StoreError):
    """The store or runtime is closed."""

    code = "store_closed"


class ForkedProcessError(StoreError):
    """A store was used across fork()."""

    code = "store_forked"
    default_hint = "open the store in the process that uses it"


class FencedError(PerdureError):
    """Another worker owns the run now; the append was refused."""

    code = "fenced"
    category: ClassVar[Category] = "lease"


class CorruptRecordError(PerdureError):
    """A record of a journal is not what was written."""

    code = "corrupt_record"
    category: ClassVar[Category] = "integrity"
    default_hint = "restore the store from a backup; nothing acts on a journal that was changed"
