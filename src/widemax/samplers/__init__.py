"""Class frequencies to candidates: a shared draw of classes and how often each was to be expected."""

from widemax.samplers.base import (
    Candidates,
    Proposal,
    Query,
    Sampler,
    build_sampler,
    samplers,
)
from widemax.samplers.count_min_sketch import CountMinSketch
from widemax.samplers.cross_batch_queue import CrossBatchQueue
from widemax.samplers.frequency import Frequency
from widemax.samplers.hard_negatives import HardNegatives
from widemax.samplers.in_batch import InBatch
from widemax.samplers.indexed import IndexedSampler
from widemax.samplers.learned_frequency import LearnedFrequency
from widemax.samplers.log_uniform import LogUniform
from widemax.samplers.midx import Midx
from widemax.samplers.mixture import Mixture
from widemax.samplers.poisson import Poisson
from widemax.samplers.quadratic_kernel import QuadraticKernel
from widemax.samplers.replacement import ReplacementSampler
from widemax.samplers.uniform import Uniform

__all__ = [
    "Candidates",
    "CountMinSketch",
    "CrossBatchQueue",
    "Frequency",
    "HardNegatives",
    "InBatch",
    "IndexedSampler",
    "LearnedFrequency",
    "LogUniform",
    "Midx",
    "Mixture",
    "Poisson",
    "Proposal",
    "QuadraticKernel",
    "Query",
    "ReplacementSampler",
    "Sampler",
    "Uniform",
    "build_sampler",
    "samplers",
]
