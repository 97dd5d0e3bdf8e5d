"""Networks by name, and model files: a state and what is needed to build the module it belongs to."""

from unmem.models.bases import start_from
from unmem.models.card import Card, card_of
from unmem.models.files import arch_at, class_names, load, said_by, save
from unmem.models.folders import folder_of, save_like
from unmem.models.forgotten import Forgotten
from unmem.models.identity import identity
from unmem.models.logits import logits_of
from unmem.models.names import MODELS, build, check_state, constructor, runs_code, source_of
from unmem.models.residual import resnet18, resnet50
from unmem.models.small import mlp, small_cnn
from unmem.models.vgg import vgg16
from unmem.models.vit import vit

__all__ = [
    "MODELS",
    "Card",
    "Forgotten",
    "arch_at",
    "build",
    "card_of",
    "check_state",
    "class_names",
    "constructor",
    "folder_of",
    "identity",
    "load",
    "logits_of",
    "mlp",
    "resnet18",
    "resnet50",
    "runs_code",
    "said_by",
    "save",
    "save_like",
    "small_cnn",
    "source_of",
    "start_from",
    "vgg16",
    "vit",
]
