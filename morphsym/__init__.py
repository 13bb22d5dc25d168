"""morphsym: how does a facial-expression classifier react to the symmetry of a face?"""

__version__ = "0.1.0"
