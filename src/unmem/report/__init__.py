"""One self-contained page that shows what was found; computes nothing scientific itself."""

from unmem.report.page import Report

__all__ = ["Report"]
