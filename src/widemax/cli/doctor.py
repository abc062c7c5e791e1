"""``widemax doctor``: versions, devices, threads, and what is missing."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from widemax.cli.options import Json, print_result

PACKAGES = ("widemax", "torch", "numpy", "scipy", "scikit-learn", "pyarrow", "pydantic", "safetensors")
EXTRAS = {"images": "PIL", "onnx": "onnx", "pretrained": "sentence_transformers", "sign": "cryptography"}


def command(json: Json = False) -> None:
    """Show versions, devices, threads, and which extras are missing."""
    facts = examine()
    width = max(map(len, facts))
    lines = (f"{name.removesuffix('_bytes'):<{width}}  {shown(name, value)}" for name, value in facts.items())
    print_result(facts, lines, json=json)


def shown(name: str, value: Any) -> str:
    """A fact for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items()) or "none"
    return f"{value / 1e9:.1f} GB" if name.endswith("_bytes") else str(value)


def examine() -> dict[str, Any]:
    """What this machine has."""
    import psutil
    import torch

    from widemax import native
    from widemax.devices import device_of
    from widemax.machine import machine_file, this_machine

    machine = this_machine()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "machine": {
            "flops_per_s": machine.flops_per_s,
            "bytes_per_s": machine.bytes_per_s,
            "kept in": str(machine_file()),
        },
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "native": native.state(),
        "device": device_of("auto").type,
        "cuda_devices": {
            f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        },
        "memory_bytes": psutil.virtual_memory().total,
        "memory_available_bytes": psutil.virtual_memory().available,
        "disk_free_bytes": shutil.disk_usage(".").free,
        "widemax_data": os.environ.get("WIDEMAX_DATA", "not set"),
        "missing_extras": {
            extra: f"pip install 'widemax[{extra}]'"
            for extra, module in EXTRAS.items()
            if not find_spec(module)
        },
    }


def installed_version(package: str) -> str:
    """The version of a package, or "missing"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
