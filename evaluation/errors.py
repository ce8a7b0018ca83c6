"""Everything that can go wrong while a ranking is judged."""


class EvaluationError(Exception):
    """Base of all errors of this room."""


class SplitError(EvaluationError):
    """The data set cannot be cut into train and test in the way that was asked for."""


class ScoresError(EvaluationError):
    """A scorer gave scores of the wrong shape, or scores that are not finite numbers."""


class ProtocolError(EvaluationError):
    """The evaluation protocol cannot be carried out, or two results cannot be compared."""


class ReportError(EvaluationError):
    """A report breaks the contract that machines read."""


class SettingsError(EvaluationError):
    """A setting of an experiment lies outside its bounds."""


class LoadError(EvaluationError):
    """A load cannot be given, or what came of it cannot be read."""
