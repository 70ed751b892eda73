"""Errors that say what was expected, what was found and what to do."""


class CigoccError(Exception):
    """Base of every error a user can cause; commands print it without a traceback."""


class ConfigError(CigoccError, ValueError):
    """A configuration file or value does not fit its declaration."""


class DataFileError(CigoccError, ValueError):
    """A data file or folder is missing, truncated or malformed."""


class CalibrationError(CigoccError, ValueError):
    """A camera calibration is missing, singular or inconsistent with its image."""


class ManifestError(CigoccError, ValueError):
    """A model folder does not keep the contract its manifest states."""


class FrameError(CigoccError, ValueError):
    """One camera frame cannot be used; the stream goes on with the next."""


class EngineError(CigoccError, ValueError):
    """An inference engine cannot be loaded or run."""
