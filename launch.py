"""Runs experiments.

python launch.py                          the default experiment
python launch.py NAME --flag=value ...    an experiment; again, and what is done is shown
python launch.py NAME --help              its question, its flags
python launch.py list                     the experiments, one question a line
python launch.py figure RUN ...           figure and table anew from the rows of finished runs
python launch.py predict RUN --text=...   what a finished run's model says of a text
"""

import sys

import experiments
from rnnlab import cli, process

if __name__ == "__main__":
    sys.exit(cli.launch(sys.argv[1:], experiments, default="gradient_flow", restart=process.restart))
