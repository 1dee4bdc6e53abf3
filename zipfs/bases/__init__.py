"""Which base for which tensor: sketches, predicted sizes, the choice."""

from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.choose_base import Choice, choose_base
from zipfs.bases.similarity.signature import signature
from zipfs.bases.similarity.size_model import predict_against, predict_standalone
from zipfs.bases.similarity.sketch import LEAST_MEMBER_NBYTES, LEAST_NBYTES, SKETCH_MAX_NBYTES, sketch

__all__ = [
    "LEAST_MEMBER_NBYTES",
    "LEAST_NBYTES",
    "SKETCH_MAX_NBYTES",
    "CandidateSearch",
    "Choice",
    "choose_base",
    "predict_against",
    "predict_standalone",
    "signature",
    "sketch",
]
