"""Bytes of one tensor to frames and back.  Pure; imports nothing of ours but the errors."""

from zipfs.codec.decode import FrameJob, decode_frames
from zipfs.codec.dtypes import item_nbytes
from zipfs.codec.frame import (
    FRAME_NBYTES,
    HEADER_NBYTES,
    FrameHeader,
    encode_frame,
    read_header,
)

__all__ = [
    "FRAME_NBYTES",
    "HEADER_NBYTES",
    "FrameHeader",
    "FrameJob",
    "decode_frames",
    "encode_frame",
    "item_nbytes",
    "read_header",
]
