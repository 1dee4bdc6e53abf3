"""Which base for which tensor: sketches, predicted sizes, the choice."""

from zipfs.lineage.choose import Choice, choose_base
from zipfs.lineage.predict import predict_against, predict_alone
from zipfs.lineage.sketch import SKETCH_MAX_NBYTES, sketch

__all__ = [
    "SKETCH_MAX_NBYTES",
    "Choice",
    "choose_base",
    "predict_against",
    "predict_alone",
    "sketch",
]
