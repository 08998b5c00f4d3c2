"""The helper package of the course on batch normalization.

Importing it needs only NumPy; each module imports what it needs beyond that.
"""

__version__ = "0.1.0"
