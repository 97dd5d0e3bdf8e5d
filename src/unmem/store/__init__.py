"""Files that are whole or not there: atomic writes, locks, and the run folder that a command fills."""

from unmem.store.files import atomic_path, load_arrays, path_from, save_arrays, write_text
from unmem.store.locks import locked
from unmem.store.runs import (
    CROSSFIT,
    LOGS,
    MEMBERS,
    PRIVATE,
    RESULT,
    RUN_FILES,
    TRACE,
    RunFolder,
    free_folder,
    pending,
    published,
    retrained_in,
    retrained_name,
)

__all__ = [
    "CROSSFIT",
    "LOGS",
    "MEMBERS",
    "PRIVATE",
    "RESULT",
    "RUN_FILES",
    "TRACE",
    "RunFolder",
    "atomic_path",
    "free_folder",
    "load_arrays",
    "locked",
    "path_from",
    "pending",
    "published",
    "retrained_in",
    "retrained_name",
    "save_arrays",
    "write_text",
]
