"""Examples with stable ids, and where they come from."""

from unmem.data.devices import pick_device
from unmem.data.examples import Examples, Ids, Positions, as_ids, find_ids
from unmem.data.modules import module_at, sources_beside
from unmem.data.scaling import Scaling, named_scalings
from unmem.data.sources import KNOWN, load, runs_code
from unmem.data.splits import Splits, flip_labels, numbered_as, stratified_sample, stratified_split
from unmem.data.streaming import Stream
from unmem.data.text import holds_tokenizer

__all__ = [
    "KNOWN",
    "Examples",
    "Ids",
    "Positions",
    "Scaling",
    "Splits",
    "Stream",
    "as_ids",
    "find_ids",
    "flip_labels",
    "holds_tokenizer",
    "load",
    "module_at",
    "named_scalings",
    "numbered_as",
    "pick_device",
    "runs_code",
    "sources_beside",
    "stratified_sample",
    "stratified_split",
]
