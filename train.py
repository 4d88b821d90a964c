"""Train or test one network with one norm: python train.py norm=layer model=lstm.

`python train.py --help` lists the choices. `normlab norm=layer model=lstm` does the same from any folder.
"""

from normlab.stopping.program import begin

begin(__name__)

from normlab.commands.train import main, start

__all__ = ["main", "start"]

if __name__ == "__main__":
    start()
