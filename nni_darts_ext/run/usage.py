"""What a search uses of the machine: memory and energy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

RAPL = '/sys/class/powercap'
"""Where Linux counts the energy of processors. Since 2020, only root may read it by default."""


class Usage:
    """Reads what this process has used, epoch by epoch. What the machine does not tell is left out."""

    def __init__(self) -> None:
        self._energy = dict(_counters())

    def read(self) -> Dict[str, float]:
        """``peak_memory`` and ``peak_gpu_memory`` of this process so far, in bytes, and the ``energy`` since the last reading in
        joules: of processors and GPUs, of which PyTorch uses only the current one, whoever else uses them."""
        found: Dict[str, float] = {}
        memory = _peak_memory()
        if memory:
            found['peak_memory'] = memory
        cuda = _cuda()
        if cuda is not None:
            found['peak_gpu_memory'] = cuda.max_memory_allocated()
        before, self._energy = self._energy, dict(_counters())
        used = [(now - before[name][0]) % limit for name, (now, limit) in self._energy.items() if name in before]
        if used:
            found['energy'] = sum(used)
        return found


def _peak_memory() -> Optional[float]:
    try:
        import resource
    except ImportError:  # on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def _cuda() -> Any:
    """``torch.cuda`` if this process uses it, else None."""
    cuda = getattr(sys.modules.get('torch'), 'cuda', None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _counters() -> Iterator[Tuple[str, Tuple[float, float]]]:
    """Counters of energy by name: joules, and the joules at which they start again at 0."""
    for zone in Path(RAPL).glob('intel-rapl:*'):  # of AMD's processors too
        if zone.name.count(':') == 1:  # a whole processor
            try:
                joules, limit = (int((zone / name).read_text('ascii')) / 1e6 for name in ('energy_uj', 'max_energy_range_uj'))
            except (OSError, ValueError):
                continue
            yield zone.name, (joules, limit)
    try:
        cuda = _cuda()
        if cuda is not None:
            import pynvml
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{cuda.get_device_properties(cuda.current_device()).uuid}'.encode())
            yield 'gpu', (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float('inf'))
    except Exception:  # pynvml is not installed, or the GPU or PyTorch is too old to tell
        return
