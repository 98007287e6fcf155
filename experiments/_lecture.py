"""The lecture's own sentences. Each is a demonstration, shown with whether training had it; no claim rests on one."""

# The training set of names: 1 for a word of a name, 0 for another.
NAMES = (
    ("Dhaval loves baby yoda", (1, 0, 1, 1)),
    ("Bob told Ahmed that pizza is delivered", (1, 0, 1, 0, 0, 0, 0)),
    ("Ironman punched on hulk's face", (1, 0, 0, 1, 1)),
)
UNTAGGED = "Rudolph Smith bought 1000 shares of tesla Inc. in March 2020"  # a question, without an answer
# A review, and whether it is positive.
REVIEW = ("Not only the fan was expensive, but it was broken when it arrived.", 0)
# The beginning of an office reply, and what is to follow.
REPLIES = (
    ("not interested at", "this time"),
    ("will let you know if it changes", "in the future"),
)
