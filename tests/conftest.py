"""Fixtures that several test files use."""

from __future__ import annotations

from rtsp import mjpeg_server, rtsp_server

__all__ = ["mjpeg_server", "rtsp_server"]
