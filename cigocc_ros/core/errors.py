"""Errors that say what was expected, what was found and what to do."""

import errno

_CURES = {
    errno.EACCES: 'name a place that you may write to, or change its permissions',
    errno.EPERM: 'name a place that you may write to, or change its permissions',
    errno.EROFS: 'it is read-only: name another place',
    errno.ENOSPC: 'make room, or name another place',
    errno.EDQUOT: 'make room, or name another place',
    errno.EEXIST: 'something of that name is in the way: move it, or name another place',
    errno.ENOTDIR: 'a file is in the way of a folder: move it, or name another place',
    errno.EISDIR: 'expected a file, found a folder: name the file',
    errno.ENOENT: 'expected a file or folder that is there: mend the name',
    errno.ENAMETOOLONG: 'name a shorter one',
    errno.EMFILE: 'raise the limit: ulimit -n 4096',
    errno.ENOMEM: 'free some memory',
}


def system_error(error: OSError) -> str:
    """Return what the system refused as one line: the file, why, and what to do."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    why = error.strerror or str(error) or type(error).__name__
    line = ': '.join([' -> '.join(names), why] if names else [why])
    cure = _CURES.get(error.errno or 0, '')
    return f'{line}; {cure}' if cure else line


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
