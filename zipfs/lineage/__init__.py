"""Which base for which tensor: sketches, predicted sizes, the choice."""

from zipfs.lineage.choose import Choice, choose_base
from zipfs.lineage.predict import predict_against, predict_alone
from zipfs.lineage.search import Search
from zipfs.lineage.signature import signature
from zipfs.lineage.sketch import SKETCH_MAX_NBYTES, sketch
from zipfs.lineage.survey import LEAST_MEMBER_NBYTES, LEAST_NBYTES

__all__ = [
    "LEAST_MEMBER_NBYTES",
    "LEAST_NBYTES",
    "SKETCH_MAX_NBYTES",
    "Choice",
    "Search",
    "choose_base",
    "predict_against",
    "predict_alone",
    "signature",
    "sketch",
]
