"""The report at the end of a run, for which training needs no further package."""

import logging
from pathlib import Path

from omegaconf import DictConfig

logger = logging.getLogger(__name__)


def try_write_report(folder: str | Path, cfg: DictConfig | None = None) -> None:
    """Writes report.html at the end of a run, whose result a failure must not hide."""
    try:
        # late: where Matplotlib is missing a run can do without the report
        from projects.clockdistill.report.page import write_report

        logger.info("report: %s", write_report(folder, cfg))
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        logger.warning("no report was written: %s. To try again: tools/report.py %s", words, folder)
