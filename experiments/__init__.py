"""One module a question.

A module's docstring begins with the question. It has a frozen dataclass `Config` made of `cli.flag`,
`inputs(config)`, which loads and checks what is needed, `run(config, inputs, run)`, which writes rows and arrays,
and `figure(run)` and `table(run)`, which read them: see `rnnlab.cli`.
"""
