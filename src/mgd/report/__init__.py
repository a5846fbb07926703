"""Reports: pages and tables made from run folders alone."""

from mgd.report.page import write_report
from mgd.report.runs import Run, read_run
from mgd.report.summary import HEADINGS, Summary, summarize

__all__ = ["HEADINGS", "Run", "Summary", "read_run", "summarize", "write_report"]
