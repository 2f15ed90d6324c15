"""Observers of a run: they use the event hooks of ``i2i.hookspecs`` and nothing else."""

from i2i.engine.observers.console import Console
from i2i.engine.observers.log import JsonLog
from i2i.engine.observers.previews import Previews
from i2i.engine.observers.tensorboard import TensorBoard

__all__ = ["Console", "JsonLog", "Previews", "TensorBoard"]
