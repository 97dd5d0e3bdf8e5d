"""One self-contained page that shows what was found; computes nothing scientific itself."""

from unmem.report.evidence import EVIDENCE, evidence_rows
from unmem.report.page import Report

__all__ = ["EVIDENCE", "Report", "evidence_rows"]
