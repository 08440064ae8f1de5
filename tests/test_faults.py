"""The table of planted faults fits the source; planting them is a command of its own (tests/plant_faults.py)."""

import pytest
from plant_faults import FAULTS, ROOT


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_can_be_planted(name):
    fault = FAULTS[name]
    source = (ROOT / fault.file).read_text("utf-8")
    assert source.count(fault.text) == 1
    compile(source.replace(fault.text, fault.replacement), fault.file, "exec")
    assert all((ROOT / f"tests/test_{test}.py").is_file() for test in fault.tests)
