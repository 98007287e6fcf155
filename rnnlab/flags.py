"""absl flags from a frozen dataclass: one flag a field, checked where it enters."""

import dataclasses
import difflib
import math
import textwrap
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from rnnlab.errors import InputError

KINDS = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}
LISTS = {tuple[int, ...]: int, tuple[float, ...]: float, tuple[str, ...]: str}


def flag(default: Any, help: str, *, low: Any = None, high: Any = None, choices: Sequence[Any] | None = None) -> Any:
    """A field of a Config: int, float, str, bool, or a tuple of ints, floats or strings, tuple[int, ...]; str | None,
    for a string of which the empty one is not the same as none.

    `low` and `high` are allowed values themselves; like `choices` they hold for every item of a tuple. A tuple with
    choices is a selection: no item comes twice.
    """
    rule = {"help": help, "low": low, "high": high, "choices": None if choices is None else tuple(choices)}
    return dataclasses.field(default=default, metadata=rule)


class Parser(flags.ArgumentParser):
    """One flag's value from its text, or from a default as it stands; the message says what was expected."""

    def __init__(self, kind: Any, low: Any, high: Any, choices: tuple | None, may_be_empty: bool):
        super().__init__()
        self.kind, self.low, self.high, self.choices, self.may_be_empty = kind, low, high, choices, may_be_empty

    def parse(self, argument: Any) -> Any:
        """Raises ValueError, which absl turns into its own error with the flag's name and the text given."""
        try:
            if self.kind not in LISTS:
                return self._item(argument, self.kind)
            items = [item.strip() for item in argument.split(",")] if isinstance(argument, str) else list(argument)
            items = [] if items == [""] and self.may_be_empty else items
            if "" in items or not (items or self.may_be_empty):
                raise ValueError
            values = tuple(self._item(item, LISTS[self.kind]) for item in items)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(f"expected {self.expected()}") from None
        if self.choices is not None and len(set(values)) < len(values):
            raise ValueError("expected every item once")
        return values

    def _item(self, given: Any, kind: type) -> Any:
        if kind is bool:
            given = {"true": True, "false": False}[given.lower()] if isinstance(given, str) else given
        elif isinstance(given, str) or (kind is float and type(given) is int):
            given = kind(given)
        if type(given) is not kind or (kind is float and not math.isfinite(given)):
            raise ValueError
        outside = (self.low is not None and given < self.low) or (self.high is not None and given > self.high)
        if outside or (self.choices is not None and given not in self.choices):
            raise ValueError
        return given

    def expected(self) -> str:
        """What the flag takes, in words."""
        item = KINDS[LISTS.get(self.kind, self.kind)]
        if self.choices is not None:
            item = "one of " + ", ".join(map(str, self.choices))
        elif self.low is not None and self.high is not None:
            item += f" from {self.low} to {self.high}"
        elif self.low is not None or self.high is not None:
            item += f" of at least {self.low}" if self.high is None else f" of at most {self.high}"
        return f"a list with commas, each item {item}" if self.kind in LISTS else item

    def flag_type(self) -> str:
        return str(self.kind)


def define(values: flags.FlagValues, group: type) -> None:
    kinds = typing.get_type_hints(group)
    for field in dataclasses.fields(group):
        kind, rule = kinds[field.name], field.metadata
        kind = str if kind == (str | None) else kind
        if (kind not in KINDS and kind not in LISTS) or "help" not in rule:
            raise TypeError(f"{group.__name__}.{field.name}: expected a field made by cli.flag, of {[*KINDS, *LISTS]}")
        parser = Parser(kind, rule["low"], rule["high"], rule["choices"], field.default == ())
        values[field.name] = flags.Flag(
            parser, None, field.name, field.default, rule["help"], boolean=kind is bool, allow_overwrite=False,
            allow_using_method_names=True,
        )  # fmt: skip


# By name of a preset, values of flags by name, which stand where no flag says otherwise.
Presets = Mapping[str, Mapping[str, Any]]
NO_PRESETS: Presets = {}


def parse(
    argv: list[str], groups: Sequence[type], positional: bool = False, presets: Presets = NO_PRESETS
) -> tuple[Any, ...]:
    """The arguments that are no flags, and an instance of every group. With presets there is a flag --preset."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    for group in groups:
        define(values, group)
    if presets:
        values["preset"] = flags.Flag(Parser(str, None, None, tuple(presets), False), None, "preset", None, "")
    known = [*values, *(f"no{name}" for name in values if values[name].boolean)]
    if any(argument.lstrip("-").split("=")[0] == "undefok" for argument in argv):
        raise InputError("no flag is called --undefok")  # absl's own; it would hide a mistyped flag
    try:
        rest = values(["", *argv])[1:]
    except flags.UnrecognizedFlagError as error:
        raise InputError(f"no flag is called --{error.flagname}{nearest(error.flagname, known, '--')}") from None
    except (flags.Error, ValueError, OSError) as error:
        raise InputError(str(error)) from None
    if rest and not positional:
        raise InputError(
            f"unexpected argument {rest[0]!r}; flags are written --name=value, after the experiment's name"
        )
    for name, value in presets.get(values.preset, {}).items() if presets else ():
        if not values[name].present:
            values[name].value = values[name].parser.parse(value)
    made = (group(**{f.name: values[f.name].value for f in dataclasses.fields(group)}) for group in groups)
    return (rest, *made)


def nearest(name: str, known: Sequence[str], dashes: str = "") -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    if near:
        return f"; did you mean {dashes}{near[0]}?"
    return f"; expected one of {', '.join(dashes + one for one in known)}" if known else ""


def described(group: type, title: str) -> str:
    values = flags.FlagValues()
    define(values, group)
    lines = [title]
    for field in dataclasses.fields(group):
        one, default = values[field.name], values[field.name].default
        shown = f"--[no]{field.name}, {str(default).lower()} by default"
        shown = shown if one.boolean else f"--{field.name}={_text(default)}"
        lines.append("  " + shown)
        meaning = one.help if one.boolean else f"{one.help} ({one.parser.expected()})"
        lines += textwrap.wrap(meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def described_presets(presets: Presets) -> str:
    """A line a preset: the flags that it stands for."""
    lines = ["--preset=NAME, for flags that are not given themselves:"]
    for name, values in presets.items():
        said = " ".join(f"--{flag}={_text(value)}" for flag, value in values.items())
        lines += textwrap.wrap(f"{name}: {said}", 100, initial_indent="  ", subsequent_indent=" " * 6)
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
