"""Reports: a page, tables and pictures, made from run folders alone."""

from mgd.report.accuracies import draw_accuracies
from mgd.report.page import write_report
from mgd.report.summary import HEADINGS, Summary, summarize

__all__ = ["HEADINGS", "Summary", "draw_accuracies", "summarize", "write_report"]
