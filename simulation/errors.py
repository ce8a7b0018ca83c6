"""What can go wrong in the simulation room, readers of data apart."""


class SimulationError(Exception):
    """Base of every error that the simulation raises."""


class FederationFailed(SimulationError):
    """The ServerApp ended without a model version."""


class TooFewParticipants(SimulationError):
    """The population is smaller than the minimum cohort, so no round could release anything."""
