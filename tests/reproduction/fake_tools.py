"""A substitute for the tools that train and measure."""

import json
from pathlib import Path

# Writes at once what a training run leaves in the end. behaviour.json in the same folder says which
# configs fail or hang; every call is written to calls.txt.
TRAIN_NET = """
import json, subprocess, sys, time
from pathlib import Path

here, arguments = Path(__file__).parent, sys.argv[1:]
with (here / "calls.txt").open("a") as calls:
    calls.write(" ".join(arguments) + "\\n")
values = dict(word.split("=", 1) for word in arguments if "=" in word)
config = arguments[arguments.index("--config-file") + 1].rpartition("configs/")[2]
folder = Path(values["train.output_dir"])
behaviour = json.loads((here / "behaviour.json").read_text())
does = next((what for name, what in behaviour.items() if name in config), 50.0)
resumed = "--resume" in arguments
with (folder / "metrics.json").open("a") as metrics:
    first = 20 if resumed else 0
    for step in (first, first + 20):
        metrics.write(json.dumps({"iteration": step + 19, "time": 0.5}) + "\\n")
(folder / "last_checkpoint").write_text("model_0000019.pth")
if does == "hang":
    child = subprocess.Popen(["sleep", "300"])
    (here / "child.txt").write_text(str(child.pid))
    time.sleep(300)
if does == "fail":
    sys.exit("CUDA out of patience")
(folder / "model_final.pth").write_text(f"weights of {config}")
average_precision = (does if isinstance(does, float) else 50.0) + int(values["train.seed"])
names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
results = {name: average_precision for name in names} | {"APs": None}
(folder / "results.json").write_text(json.dumps({"bbox": results}))
"""

ANALYZE_MODEL = """
import json, sys
from pathlib import Path

file = Path(sys.argv[sys.argv.index("--json") + 1])
file.parent.mkdir(parents=True, exist_ok=True)
costs = {"parameters": 630000, "flops": 2 * 10**9, "fps": 40.0, "device": "cpu", "threads": 1}
file.write_text(json.dumps({"models": [costs]}))
"""


class FakeTools:
    """Controls the substitute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "train_net.py").write_text(TRAIN_NET)
        (folder / "analyze_model.py").write_text(ANALYZE_MODEL)
        self.behave()

    def behave(self, **by_config: float | str) -> None:
        """Sets what runs do whose config contains a name: the AP of seed 0, "fail" or "hang"."""
        (self.folder / "behaviour.json").write_text(json.dumps(by_config))

    def calls(self) -> list[str]:
        """Returns the command lines since the last call of this function."""
        file = self.folder / "calls.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return lines
