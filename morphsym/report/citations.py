"""What the report cites. Checked against the publishers' pages; nothing here is from memory alone."""

from __future__ import annotations

from dataclasses import dataclass


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


def references(version: str) -> tuple[Citation, ...]:
    return (FACING_ASYMMETRY, software(version))
