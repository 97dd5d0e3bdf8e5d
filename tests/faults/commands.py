"""Commands as the harness runs them: in a forked child, without the large scripts of a page."""

from __future__ import annotations

from unittest import mock

import torch

from unmem.cli import app
from unmem.report import page


def run(*arguments: str) -> None:
    torch.set_num_threads(1)
    with mock.patch.object(page, "chart_libraries", return_value=""):
        app.main(list(arguments))
