"""Examples with stable ids, and where they come from."""

from unmem.data.examples import Examples, Ids, Scaling, as_ids, find_ids
from unmem.data.sources import load, pick_device
from unmem.data.splits import Splits, flip_labels, stratified_sample, stratified_split

__all__ = [
    "Examples",
    "Ids",
    "Scaling",
    "Splits",
    "as_ids",
    "find_ids",
    "flip_labels",
    "load",
    "pick_device",
    "stratified_sample",
    "stratified_split",
]
