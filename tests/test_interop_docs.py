"""The code of docs/interop.md runs as it stands, in one session, with no other library beside."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"


def test_the_code_runs_and_needs_no_other_library():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    hidden = "import sys\nsys.modules |= dict.fromkeys(['torch', 'keras', 'tensorflow', 'onnx', 'safetensors'])\n"
    code = hidden + "\n".join(blocks) + "\nprint('done')"
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert len(blocks) == 6 and found.stdout == "done\n"
