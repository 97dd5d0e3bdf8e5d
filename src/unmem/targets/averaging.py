"""Average weights: the mean of the weights over the steps of the second part of a training.

    θ̄ = mean over steps t > T/2 of θ_t

While the learning rate is high a network moves around a solution, and the mean lies nearer to it than any of the steps:
what annealing takes many epochs for. Batch-norm statistics are recomputed for the mean.
Source: stochastic weight averaging, Izmailov et al. 2018 (arXiv 1803.05407); here over steps and from scratch.
"""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples


class AverageWeights:
    """Call it after every optimizer step; it averages those after the first half.

    Args:
        model: The model in training.
        steps: Steps of the whole run.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        self._model, self._start = model, steps // 2
        self._average = AveragedModel(model)
        self._done = 0

    def __call__(self) -> None:
        self._done += 1
        if self._done > self._start:
            self._average.update_parameters(self._model)

    def finished(self, examples: Examples) -> nn.Module:
        """The averaged model in evaluation mode, with batch-norm statistics of `examples`."""
        model: nn.Module = self._average.module.eval()
        recompute_batchnorm(model, examples)
        return model
