"""Public data sets and users' own files as one validated `Dataset`; see `load` and `check`."""

from simulation.data.checking import CheckReport, check
from simulation.data.dataset import Clock, Dataset
from simulation.data.errors import DataError
from simulation.data.loading import find_mapping, load
from simulation.data.mapping import Mapping, MerchantRule, MerchantsBy

__all__ = [
    "CheckReport",
    "Clock",
    "DataError",
    "Dataset",
    "Mapping",
    "MerchantRule",
    "MerchantsBy",
    "check",
    "find_mapping",
    "load",
]
