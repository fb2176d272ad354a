"""Options of sampling, checked and completed before any work."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from service.api.answer import NPY, PNG
from service.api.operations.options import Body, Count, Seed
from service.errors import LimitExceeded, Unfit
from service.runtime.filtered_sampling import FilteredSamples
from service.runtime.model import LoadedModel
from service.settings import Settings

DEFAULT_BUDGET: Final = 16


class SampleRequest(Body):
    """What to draw. Sample i of a seed depends on the version, the seed, the method and i alone."""

    count: Count = 1
    """How many samples: offset, offset + 1, ... Left out, a density picture has as many as it may have."""
    seed: Seed | None = None
    """Names the noise; a fresh one is drawn, and answered, if null."""
    offset: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The first sample's number."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Scales the prior's standard deviation: below 1 typical, above 1 unusual samples."""
    output: Literal["mean", "draw"] = "mean"
    """The likelihood's mean, or a draw from the likelihood (VAE)."""
    method: Literal["direct", "rejection", "resample", "metropolis"] = "direct"
    """`direct`: the prior pushed forward, every sample kept. The others choose each sample among proposals
    of its own by the discriminator's logit (GAN): `rejection` the first accepted one, `resample` one by
    importance, `metropolis` the last accepted one of a chain that starts at a real item."""
    budget: Count | None = None
    """Proposals for each sample, 16 if null; not for `direct`."""
    return_latents: bool = False
    """Whether the JSON answer holds the latents too."""


def settled(
    request: SampleRequest, loaded: LoadedModel, media_type: str, settings: Settings
) -> SampleRequest:
    """The request with its count and budget as they are meant, checked before any work.

    Raises:
        OperationNotOffered: the version has no discriminator to choose by.
        LimitExceeded: more samples or proposals than are answered as that media type.
        Unfit: options that exclude each other.
    """
    if media_type == PNG and loaded.makes_densities and "count" not in request.model_fields_set:
        request = request.model_copy(update={"count": settings.max_json_count})
    check_count(request.count, media_type, settings)
    if request.method != "direct":
        return request.model_copy(update={"budget": _settled_budget(request, loaded, settings)})
    if request.budget is not None:
        raise Unfit("`budget` is for the methods rejection, resample and metropolis; leave it out")
    return request


def check_count(count: int, media_type: str, settings: Settings) -> None:
    """Raises LimitExceeded if more samples are asked for than are answered as that media type."""
    limit = settings.max_count if media_type == NPY else settings.max_json_count
    if count > limit:
        hint = f"; ask for {NPY} to get more" if media_type != NPY else ""
        raise LimitExceeded(f"count is {count}, at most {limit} go into {media_type}{hint}")


def _settled_budget(request: SampleRequest, loaded: LoadedModel, settings: Settings) -> int:
    """How many proposals each sample has; raises as `settled` does where none may be chosen among."""
    loaded.filter(request.method)
    if request.temperature != 1.0:
        raise Unfit(
            f"`temperature` is {request.temperature:g}; the method {request.method} takes 1 alone, since the "
            "discriminator was calibrated for samples of the prior as it is"
        )
    if request.output != "mean":
        raise Unfit(f"the output `draw` is for the method direct; {request.method} takes `mean`")
    budget = DEFAULT_BUDGET if request.budget is None else request.budget
    if budget > settings.max_budget:
        raise LimitExceeded(f"budget is {budget}, at most {settings.max_budget} are taken")
    if request.count * budget > settings.max_proposals:
        raise LimitExceeded(
            f"{request.count} samples of {budget} proposals are {request.count * budget}, over the limit of "
            f"{settings.max_proposals} a request; ask for fewer samples or a smaller budget"
        )
    return budget


def told_of(request: SampleRequest, chosen: FilteredSamples | None) -> dict[str, Any]:
    """What the answer tells of how its samples were chosen."""
    told: dict[str, Any] = {"method": request.method, "budget": request.budget, "acceptance_rate": None}
    if chosen is None:
        return told | {"effective_sample_size": None, "unfilled": None}
    if request.method != "resample":
        told["acceptance_rate"] = float(chosen.accepted.mean()) / (request.budget or 1)
    return told | {
        "effective_sample_size": float(chosen.effective_sample_sizes.mean()),
        "unfilled": int((~chosen.filled).sum()),
    }
