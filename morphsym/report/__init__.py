"""Tables, figures and the HTML page."""

from .examples import ExampleStrip, Frame, examples_from_results
from .page import write_report
from .pdf import write_pdf
from .terminal import answer_table

__all__ = ["ExampleStrip", "Frame", "answer_table", "examples_from_results", "write_pdf", "write_report"]
