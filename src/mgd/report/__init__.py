"""Reports: a page, tables and pictures, made from run folders alone."""

from mgd.report.page import write_report
from mgd.report.summary import HEADINGS, Summary, summarize

__all__ = ["HEADINGS", "Summary", "summarize", "write_report"]
