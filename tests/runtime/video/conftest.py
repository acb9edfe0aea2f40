"""A clip in few short segments."""

from pathlib import Path

import pytest


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten frames make four segments, the last of one frame."""
    for module in ("upscale", "joining"):
        monkeypatch.setattr(f"drc_deploy.runtime.video.{module}.SEGMENT_FRAMES", 3)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of ten frames."""
    from tests.runtime.video.video_clips import write_clip  # needs PyAV

    write_clip(tmp_path / "in.mp4")
    return tmp_path / "in.mp4"
