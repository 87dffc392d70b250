import subprocess
import sys

PROGRAM = """
import gc
from headgate_cli.collector import spare_what_stays
class Cycle: pass
def make():
    one = Cycle(); one.itself = one
spare_what_stays()
kept = gc.get_freeze_count()
for _ in range(20_000): make()
left = sum(isinstance(each, Cycle) for each in gc.get_objects())
print(kept > 1000 and left < 20_000)
"""


def test_what_stays_is_not_looked_through_and_what_comes_later_is_collected() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert told == "True\n"
