import logging
import warnings

import pytest

from lit_longpo.foreign_warnings import _WARNINGS, leave_out


@pytest.mark.parametrize("warning", _WARNINGS, ids=lambda warning: warning.beginning)
def test_what_is_left_out_is_that_and_nothing_else(warning):
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        leave_out()
        warnings.warn(warning.beginning + ", and so on", warning.category, stacklevel=1)
        warnings.warn("before " + warning.beginning, warning.category, stacklevel=1)
        warnings.warn(warning.beginning, RuntimeWarning, stacklevel=1)
    assert len(shown) == 2


def test_a_filter_of_the_users_has_the_last_word():
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        leave_out()
        warnings.warn(_WARNINGS[0].beginning, _WARNINGS[0].category, stacklevel=1)
    assert len(shown) == 1


def test_lightnings_advertisement_is_left_out(caplog):
    leave_out()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger.name):
        logger.info("\N{ELECTRIC LIGHT BULB} Tip: For seamless cloud logging, try installing something")
        logger.info("GPU available: False")
    assert "GPU available: False" in caplog.text or not logger.propagate
    assert "Tip" not in caplog.text
