"""What can go wrong in the model room."""


class ModelError(Exception):
    """Base of every error that the model room raises."""


class ShapeError(ModelError, ValueError):
    """An array does not have the shape or type that the schema declares."""


class FeatureError(ModelError, ValueError):
    """A feature value lies outside its declared range."""


class EncoderError(ModelError, RuntimeError):
    """A content encoder is not there, or its cache cannot be used."""


class UnfitVersion(ModelError, ValueError):
    """Weights or card cannot become a model version: empty, not finite, not plain numbers or JSON."""


class UnreadableVersion(ModelError):
    """The files of a model version are not there, or do not have the hash that they are named by."""
