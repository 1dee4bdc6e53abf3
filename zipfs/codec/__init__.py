"""Bytes of one tensor to frames and back. Pure; imports nothing of ours but errors and item types."""

from zipfs.codec.cast import FLOATS, Cast, cast_exactly
from zipfs.codec.decode import FrameJob, decode_frames
from zipfs.codec.frame import FRAME_NBYTES, HEADER_NBYTES, FrameHeader, encode_frame, frame_nbytes, read_header
from zipfs.dtypes import item_nbytes

__all__ = [
    "FLOATS",
    "FRAME_NBYTES",
    "HEADER_NBYTES",
    "Cast",
    "FrameHeader",
    "FrameJob",
    "cast_exactly",
    "decode_frames",
    "encode_frame",
    "frame_nbytes",
    "item_nbytes",
    "read_header",
]
