"""How the steps of a recurrence are evaluated; choosing an engine is an argument of `unroll`."""

from rnnlab.engines.scan import scan

ENGINES = {"scan": scan}

__all__ = ["ENGINES", "scan"]
