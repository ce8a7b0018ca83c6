"""What a signal raises amid any work: nothing that takes faults of others for answers may take these."""

from __future__ import annotations


class Ending(Exception):
    """This process ends, or its run does."""


class Stopped(Ending):
    """The supervisor ends this process."""


class RunStopped(Ending):
    """The SuperLink ends the run."""
