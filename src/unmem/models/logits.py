"""A module around another one, to make it give logits and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from unmem.errors import UserError


class Logits(nn.Module):
    """Calls `inner` with the batch and gives its logits [B, C], also where they come in a dictionary, an output object
    of Hugging Face, or first in a tuple. The state is that of `inner`, key by key."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.inner(x))

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.inner.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.load_state_dict(*args, **kwargs)


def logits_of(output: Any) -> Tensor:
    """The logits in what a model gave. Raises `UserError` if they are not [B, C]."""
    found: Any = output
    if isinstance(output, Mapping):  # Hugging Face's outputs are mappings too
        found = output.get("logits")  # pyright: ignore[reportUnknownMemberType]
    elif hasattr(output, "logits"):  # those of networks with auxiliary outputs too, while they train
        found = output.logits
    elif isinstance(output, tuple | list) and output:
        found = output[0]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(found, Tensor) or found.ndim != 2:
        what = f"of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(output).__name__}"
        raise UserError(
            "model", None, f"it gives {what}, not logits [B, C]", "return a tensor, or a dict with logits in it"
        )
    return found
