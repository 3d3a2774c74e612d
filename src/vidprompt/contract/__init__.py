"""The contract of plug-ins as a test: `check_method` runs what every method has to hold, on a small backbone.

In a plug-in's own tests:

    from vidprompt.contract import check_method

    def test_it_holds_the_contract_of_methods() -> None:
        failed = [one.line for one in check_method("linear_probe") if one.failed]
        assert not failed
"""

from vidprompt.contract.method import check_method
from vidprompt.contract.result import CheckResult

__all__ = ["CheckResult", "check_method"]
