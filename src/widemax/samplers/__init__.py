"""Class frequencies to candidates: a shared draw of classes and how often each was to be expected."""

from widemax.samplers.base import Candidates, Sampler, samplers
from widemax.samplers.frequency import Frequency
from widemax.samplers.log_uniform import LogUniform
from widemax.samplers.replacement import ReplacementSampler
from widemax.samplers.uniform import Uniform

__all__ = [
    "Candidates",
    "Frequency",
    "LogUniform",
    "ReplacementSampler",
    "Sampler",
    "Uniform",
    "samplers",
]
