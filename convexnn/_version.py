"""The version, in this one place: packaging, ``convexnn.__version__`` and saved models read it here."""

__version__ = "0.1.0"
