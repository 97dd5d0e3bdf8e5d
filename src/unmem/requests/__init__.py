"""What is to be forgotten: ids from files, examples by their columns, label issues that another tool found, copies."""

from unmem.requests.check import check_request
from unmem.requests.duplicates import Copies, Copy, find_copies, shared_inputs
from unmem.requests.ids import Listed, checked_ids, read_ids
from unmem.requests.issues import Issues, order_of, read_issues
from unmem.requests.where import Condition, ids_where, parse_condition

__all__ = [
    "Condition",
    "Copies",
    "Copy",
    "Issues",
    "Listed",
    "check_request",
    "checked_ids",
    "find_copies",
    "ids_where",
    "order_of",
    "parse_condition",
    "read_ids",
    "read_issues",
    "shared_inputs",
]
