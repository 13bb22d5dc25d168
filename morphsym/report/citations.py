"""What the report cites.

Checked, not from memory: the paper against Springer's and arXiv's pages, the statistics against the reference lists in
the documentation of scipy and of R's mutoss.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..analysis import AnalysisOptions


@dataclass(frozen=True)
class Citation:
    """One reference, in words and as BibTeX."""

    text: str
    bibtex: str
    doi: str


FACING_ASYMMETRY = Citation(
    "Büchner, T., Penzel, N., Guntinas-Lichius, O., & Denzler, J. (2024). Facing Asymmetry – Uncovering the Causal "
    "Link "
    "between Facial Symmetry and Expression Classifiers using Synthetic Interventions. Computer Vision – ACCV 2024. "
    "Springer.",
    """@inproceedings{buechner2024facing,
  title     = {Facing Asymmetry - Uncovering the Causal Link Between Facial Symmetry and
               Expression Classifiers Using Synthetic Interventions},
  author    = {B{\\"u}chner, Tim and Penzel, Niklas and Guntinas-Lichius, Orlando and Denzler, Joachim},
  booktitle = {Computer Vision -- ACCV 2024},
  publisher = {Springer},
  year      = {2024},
  doi       = {10.1007/978-981-96-0911-6_26},
  eprint    = {2409.15927},
  archiveprefix = {arXiv}
}""",
    "10.1007/978-981-96-0911-6_26",
)


def software(version: str) -> Citation:
    """morphsym itself, in the version that was used."""
    return Citation(
        f"The morphsym developers. morphsym, version {version} [computer software].",
        "@software{morphsym,\n  title   = {morphsym},\n  author  = {{The morphsym developers}},\n"
        f"  version = {{{version}}}\n}}",
        "",
    )


WILCOXON = Citation(
    "Wilcoxon, F. (1945). Individual comparisons by ranking methods. Biometrics Bulletin, 1, 80–83.",
    """@article{wilcoxon1945individual,
  title   = {Individual Comparisons by Ranking Methods},
  author  = {Wilcoxon, Frank},
  journal = {Biometrics Bulletin},
  volume  = {1},
  pages   = {80--83},
  year    = {1945},
  doi     = {10.2307/3001968}
}""",
    "10.2307/3001968",
)
HOLM = Citation(
    "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics, 6, "
    "65–70.",
    """@article{holm1979simple,
  title   = {A Simple Sequentially Rejective Multiple Test Procedure},
  author  = {Holm, Sture},
  journal = {Scandinavian Journal of Statistics},
  volume  = {6},
  pages   = {65--70},
  year    = {1979}
}""",
    "",
)
BENJAMINI_HOCHBERG = Citation(
    "Benjamini, Y., & Hochberg, Y. (1995). Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society: Series B, 57(1), 289–300.",
    """@article{benjamini1995controlling,
  title   = {Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple Testing},
  author  = {Benjamini, Yoav and Hochberg, Yosef},
  journal = {Journal of the Royal Statistical Society: Series B (Methodological)},
  volume  = {57},
  number  = {1},
  pages   = {289--300},
  year    = {1995}
}""",
    "",
)
BOOTSTRAP = Citation(
    "Efron, B., & Tibshirani, R. J. (1993). An introduction to the bootstrap. Chapman & Hall/CRC.",
    """@book{efron1993introduction,
  title     = {An Introduction to the Bootstrap},
  author    = {Efron, Bradley and Tibshirani, Robert J.},
  publisher = {Chapman \\& Hall/CRC},
  year      = {1993}
}""",
    "",
)


def references(version: str, options: AnalysisOptions) -> tuple[Citation, ...]:
    """What an analysis with ``options`` rests on, in the order in which the methods section needs it."""
    found = [FACING_ASYMMETRY, software(version)]
    if "wilcoxon" in options.tests:
        found.append(WILCOXON)
    found.append(HOLM if options.correction == "holm" else BENJAMINI_HOCHBERG)
    return (*found, BOOTSTRAP)
