"""One self-contained page that shows what was found; computes nothing scientific itself."""

from unmem.report.libraries import PageError
from unmem.report.page import Report

__all__ = ["PageError", "Report"]
