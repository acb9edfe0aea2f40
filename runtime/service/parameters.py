"""What a request may say about its result."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from drc_deploy.images.formats import saving_of
from drc_deploy.images.output_size import OutputSize
from drc_deploy.runtime.service.work import Wanted

_OPTION = re.compile("--([a-z]+(?:-[a-z]+)*)")


class Parameters(BaseModel):
    """The query of ``POST /v1/upscale``; each is as the option of ``drc-deploy upscale``."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of a network; none: the first of /v1/models.")
    format: Literal["png", "jpg", "jpeg", "webp", "avif", "tiff", "bmp"] = Field("png", description="Of the result.")
    scale: float | None = Field(None, gt=0, description="Times as large as the image.")
    width: int | None = Field(None, ge=1, description="Of the result, in pixels.")
    height: int | None = Field(None, ge=1, description="Of the result, in pixels.")
    max_side: int | None = Field(None, ge=1, description="Of the longer side, at most.")
    fit: str | None = Field(None, pattern=r"^\d{1,9}x\d{1,9}$", description="A frame, such as 1920x1080.")
    linear_light: bool = Field(False, description="Reduce light instead of samples.")
    quality: int | None = Field(None, ge=1, le=100, description="Of JPEG, WebP and AVIF.")
    background: str | None = Field(None, max_length=32, description="Colour behind transparent pixels.")

    def wanted(self, scale: int) -> Wanted:
        """Return what is asked for of a network for ``scale``.

        Raises:
            UsageError: no image can get that.
        """
        sides = [int(side) for side in self.fit.split("x")] if self.fit else []
        fit = (sides[0], sides[1]) if sides else None
        size = OutputSize(self.scale, self.width, self.height, self.max_side, fit)
        wanted = Wanted(f".{self.format}", size, self.linear_light, saving_of(self.quality, self.background))
        wanted.check(scale)
        return wanted


def with_parameters(text: str) -> str:
    """Return a text of the commands in which options are called as the parameters of requests are."""
    return _OPTION.sub(lambda option: _parameter(option) or option[0], text)


def for_callers(hint: str) -> str:
    """Return a hint of the commands as ``with_parameters`` does, without what no request can have.

    That is what needs an option of the commands, and JPEG 2000.
    """
    parts = re.split(r"(?<=[.;]) ", hint.replace(" JPEG 2000,", ""))
    kept = [part for part in parts if all(map(_parameter, _OPTION.finditer(part)))]
    return re.sub(";$", ".", with_parameters(" ".join(kept))) or "Ask who runs this service."


def _parameter(option: re.Match[str]) -> str:
    name = option[1].replace("-", "_")
    return name if name in Parameters.model_fields else ""
