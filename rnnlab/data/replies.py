"""Short office replies made by rule, in three parts that share neither a template nor a name.

A model that has learned the templates of `train` has learned nothing about those of `validation` and `test`, which are
worded otherwise; what carries over is how English phrases go on ("at this time", "let you know", "in the future").

    replies("train", 2, seed=0)
    ['Hi Maria, the invoice is attached. Please let me know if you need anything else.', ...]

In a template {thing} is one of a slot's values, and [we are|I am] one of the wordings between the bars. People, firms
and products are each part's own; days, months, times, things, meetings and places are everyday words, and shared.
"""

import re
from typing import NamedTuple

import numpy as np

SHARED = {
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    "month": [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ],
    "number": ["two", "three", "four", "five", "six", "seven", "eight", "ten", "twelve", "twenty"],
    "time": ["nine", "ten", "eleven", "noon", "one", "two", "three", "four", "five"],
    "part_of_day": ["morning", "afternoon", "evening"],
    "thing": [
        "report", "invoice", "contract", "proposal", "budget", "schedule", "agenda", "presentation", "draft",
        "order", "form", "document", "plan", "offer", "list", "letter", "estimate", "survey", "summary", "file",
    ],
    "meeting": [
        "meeting", "call", "interview", "workshop", "training", "review", "conference", "lunch", "demo", "visit",
    ],
    "place": [
        "office", "meeting room", "lobby", "main building", "canteen", "reception", "second floor", "city centre",
    ],
}  # fmt: skip


class Part(NamedTuple):
    """templates: of whole replies. slots: this part's own values; the others are SHARED."""

    templates: tuple[str, ...]
    slots: dict[str, list[str]]


TRAIN = Part(
    templates=(
        # Declining.
        "Thank you for your email, but [we are|I am] not interested at this time.",
        "[Thanks|Thank you] for the offer. We are not interested at this time, but will keep your {thing} on file.",
        "Hi {name}, we are happy with {product}, so we are not interested at this time.",
        "Sorry {name}, we do not need a new {thing} at this time.",
        "We have no plans to buy {product} [at this time|at the moment|this year].",
        "Unfortunately we cannot accept your {thing} at this time.",
        "I am afraid that {company} is not looking for a new supplier at the moment.",
        "Thank you for thinking of us, but we have decided to go with {company}.",
        "We looked at {product} last {month}, and it is not what we are looking for.",
        "Please take me off your mailing list. I have no use for {product}.",
        # Things may change.
        "We have a contract with {company} until {month}. I will let you know if it changes in the future.",
        "[I|We] will let you know if it changes in the future.",
        "The {thing} stays as it is for now. We will let you know if anything changes.",
        "Right now we use {product}. If that changes in the future, we will get in touch.",
        "We may need your help in the future, so please stay in touch.",
        "I hope that we can work together in the future.",
        "We would like to hear more about {product} in the near future.",
        "Please let us know if your prices change in the future.",
        "I will be in touch as soon as something changes on our side.",
        # Meetings.
        "Hi {name}, [can we move|could we move] the {meeting} to {day} at {time}?",
        "{day} at {time} works for me. See you at the {place}.",
        "I am sorry, but I cannot make it to the {meeting} on {day}.",
        "Would it be possible to meet on {day} {part_of_day} instead?",
        "Hello {name}, I am looking forward to [meeting you|seeing you] on {day}.",
        "The {meeting} has been moved to {day}, the first week of {month}.",
        "Let me check my calendar and get back to you by {day}.",
        "I have another {meeting} at {time}, so I will be a few minutes late.",
        "Thank you for the invitation to the {meeting}. I will be there.",
        "Can you please send me the agenda before the {meeting}?",
        "Let us meet at the {place} at {time} on {day}.",
        "Do you have time for a short {meeting} [this week|next week|tomorrow]?",
        "I am out of the office until {day}. I will reply to your email when I am back.",
        "{name} will take my place at the {meeting} on {day}.",
        "Please let me know what time works best for you.",
        # Papers and work.
        "Hi {name}, please find the {thing} attached.",
        "Hi {name}, the {thing} is attached. Please let me know if you need anything else.",
        "Thank you for sending the {thing}. I will have a look at it and get back to you.",
        "I have read the {thing} and have [no further questions|a few questions] at this time.",
        "Could you send me the latest version of the {thing} by the end of the day?",
        "We will send you the {thing} by the end of the week.",
        "The {thing} will be ready by {day} {part_of_day}.",
        "I am still working on the {thing} and will send it to you as soon as it is ready.",
        "Please have a look at the {thing} and let me know what you think.",
        "There is a mistake on page {number} of the {thing}. Could you please correct it?",
        "Please sign the {thing} and send it back to me at your earliest convenience.",
        "We need {number} more copies of the {thing} before {day}.",
        "I have forwarded your {thing} to {name}, who will get in touch with you.",
        "The {thing} from {company} has not arrived yet.",
        "As you can see from the {thing}, we are on track for {month}.",
        # Orders and payment.
        "We have received your payment. Thank you for your business.",
        "Your order of {number} items has been shipped and should arrive on {day}.",
        "The payment is due at the end of {month}.",
        "Could you tell us how much {product} would cost for {number} people?",
        "We can give you a discount if you order before the end of the month.",
        "I would like to cancel my order of {product}, please.",
        # Help, thanks and apologies.
        "Thank you very much for your help with the {thing}.",
        "[Thanks|Thank you] for letting me know, {name}.",
        "I am sorry for the delay. It has been a busy week.",
        "Sorry for the late reply, I was on holiday until {day}.",
        "Please do not hesitate to contact me if you have any questions.",
        "If you have any questions, please feel free to call me.",
        "Let me know if there is anything I can do to help.",
        "We apologize for any inconvenience this may have caused.",
        "Congratulations on your new job at {company}!",
        "Have a great weekend, {name}!",
        "{product} does not start on my computer. Could you help me with it?",
        "I have tried to reach {name} by phone, but there was no answer.",
        "Thank you for your patience while we look into it.",
        "We will look into the matter and get back to you as soon as possible.",
        "Sounds good to me. Let us go ahead with the {thing}.",
        "I agree with {name} that we should wait until {month}.",
        "Yes, that would be great. Thank you so much!",
        # More of everything, in other words.
        "I do not think that we will need {product} any more.",
        "We would love to, but there is no money left in the budget this year.",
        "Thanks, but no thanks. We have just bought {product} from {company}.",
        "It is too early to say whether we will need more {thing}s in the future.",
        "We do not know yet how things will change in the future, so I will keep you posted.",
        "At this time of the year there is a lot to do, so please be patient.",
        "At the end of the {meeting} we will have time for a few questions.",
        "If you would like to know more about {product}, please visit our website.",
        "I was wondering if you would have time to talk about the {thing} on {day}.",
        "Would you like me to send you a copy of the {thing}?",
        "Could we talk about this after the {meeting}, {name}?",
        "I would be grateful if you could answer by {day}.",
        "It was a pleasure to meet you last week.",
        "It was nice talking to you on the phone this {part_of_day}.",
        "I hope you had a nice weekend. Just a quick question about the {thing}.",
        "I hope this email finds you well.",
        "See you [on {day}|tomorrow|next week] at the {meeting}!",
        "Unfortunately, {day} does not work for me. Are you free on any other day?",
        "I will not be in the office this {part_of_day}, as I have to see a doctor.",
        "{name} will not be able to come to the {meeting}, but he will send you his comments.",
        "Who else is coming to the {meeting} on {day}?",
        "The {meeting} begins at {time}, and we will be back at the {place} by {time}.",
        "There will be coffee and cake in the {place} at {time}.",
        "Please let {name} know whether you are coming, as we need to order food.",
        "I am happy to help. What do you need?",
        "I am not sure what you mean. Could you tell me a little more about it?",
        "Do you have any more questions before we go ahead?",
        "We are sorry to hear that you were not happy with {product}.",
        "We have looked into your complaint and found that the mistake was ours.",
        "I am sorry to tell you that your order will be late.",
        "As we said on the phone, the new prices begin in {month}.",
        "After the {meeting} we decided to wait for the new {thing} from {company}.",
        "Before you send the {thing}, please show it to {name}.",
        "Many people have asked us about {product} in the last {number} weeks.",
        "Thank you for your order. We will send it to you as soon as it is in stock.",
        "I will ask {name} and let you know what she says.",
        "We have not heard back from {company}, and we need an answer as soon as possible.",
        "Can you let me know when you have received the {thing}?",
        "The {thing} looks great, but there are a few things that we should change.",
        "You will find my comments on the {thing} in the attached file.",
        "Feel free to send me an email if you need more time.",
        "We look forward to your visit in {month}.",
        "We are looking for somebody who can help us with the {thing}.",
        "I have been told that the {place} will be closed until {day}.",
    ),
    slots={
        "name": [
            "Maria", "James", "Aisha", "Peter", "Sofia", "Daniel", "Priya", "Thomas", "Elena", "Michael", "Fatima",
            "Robert", "Julia", "Ahmed", "Laura", "David", "Mei", "Carlos", "Hannah", "Ivan", "Nadia", "George", "Anna",
            "Samuel", "Yuki", "Martin", "Olivia", "Rajesh", "Clara", "Victor",
        ],
        "company": ["Northwind", "Acme", "Bluestone", "Hillside Foods", "Redwood Media", "Kestrel", "Orion Travel",
                    "Lakeview Bank"],
        "product": ["DeskMate", "CloudBox", "PrintPro", "QuickTax", "TeamTalk", "PayNow", "MailWise", "DocuSafe"],
    },
)  # fmt: skip

VALIDATION = Part(
    templates=(
        "Hello {name}, your {thing} looks good, but it is not something we need at this time.",
        "We are not able to join the {meeting} at this time, {name}.",
        "Should our needs change in the future, I will get in touch with you.",
        "Please let me know as soon as possible whether {day} works for you.",
        "Thank you for your reply. I will get back to you by {day} {part_of_day}.",
        "Dear {name}, I am writing to let you know that the {meeting} on {day} has been cancelled.",
        "Could you please have a look at the {thing} before our {meeting}?",
        "I am sorry, I forgot to attach the {thing}. Please find it attached.",
        "We are looking forward to working with {company} in the future.",
        "Is there anything else you need for the {meeting}?",
        "It would be great if you could send the {thing} to {name} by the end of {month}.",
        "The price of {product} will go up at the end of the year.",
        "I will be out of the office on {day}, but you can call me if you have any questions.",
        "We have not received the {thing} yet. Could you send it again, please?",
        "Thank you so much for your time last {day}.",
        "If {time} is too early for you, we can meet in the {part_of_day} instead.",
        "I have sent the {thing} to {company} and will let you know what they say.",
        "Please do not forget to bring {number} copies of the {thing} with you.",
    ),
    slots={
        "name": ["Oscar", "Leila", "Patrick", "Ingrid", "Mateo", "Grace", "Dmitri", "Sunita", "Felix", "Amara"],
        "company": ["Silverline", "Harbor Foods", "Pinnacle", "Evergreen Travel"],
        "product": ["TaskPilot", "FormFlow", "SafeMail", "ChartKing"],
    },
)  # fmt: skip

TEST = Part(
    templates=(
        "Many thanks for your message, {name}, but our team has no need for {product} at this time.",
        "After reading your {thing} we have decided not to change anything at this time.",
        "Our answer is no for now, and I will tell you if that changes in the future.",
        "Do let us know if you offer something like {product} in the future.",
        "I have passed your question on to {name}, and we will let you know what we find.",
        "Hi {name}, just to let you know, the {meeting} now begins at {time} in the {place}.",
        "Unfortunately I will not be able to attend the {meeting}, as I am away until {day}.",
        "Could you let me know by {day} whether you would like to come to the {meeting}?",
        "Would {day} {part_of_day} at {time} work for you?",
        "I would be happy to meet you at the {place} next week.",
        "Attached you will find the {thing} for the {meeting} on {day}.",
        "{name} has a few questions about the {thing}. Can you get back to her as soon as possible?",
        "We are sorry for the late answer and thank you for your patience.",
        "Please send the {thing} back to us by the end of next week.",
        "The new {thing} from {company} should be ready at the end of {month}.",
        "I am looking forward to hearing from you.",
        "Feel free to contact {name} if you need any more help with {product}.",
        "Thank you for coming to the {meeting} last {day}, it was great to see you.",
        "There has been a mistake with your order, and we are looking into it.",
        "Before we go ahead I would like to know how much it would cost in {month}.",
        "I have no further comments on the {thing} at the moment.",
        "Let me know what you think of the {thing} when you have time to read it.",
        "We hope to see you again in the near future.",
        "It was nice to meet everyone at {company}, and I hope we can do it again.",
    ),
    slots={
        "name": ["Beatrice", "Kwame", "Sergei", "Lucia", "Harold", "Noor", "Wendy", "Tariq", "Astrid", "Joaquin",
                 "Meera", "Gareth"],
        "company": ["Copperfield", "Summit Energy", "Tidewater", "Marigold Press"],
        "product": ["NoteNest", "ShiftPlan", "LedgerLite", "VoiceLink"],
    },
)  # fmt: skip

PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


def replies(part: str, count: int, seed: int) -> list[str]:
    """So many replies of a part, a pure function of its arguments; more are the same ones and others after them.

    Every template comes as often as any other, or once more. The same reply may come twice: some templates have few
    fillings. KeyError for a part that is none.
    """
    templates, own = PARTS[part]
    slots, made = SHARED | own, []
    generator = np.random.default_rng(np.random.SeedSequence([seed, list(PARTS).index(part)]))
    while len(made) < count:
        order = generator.permutation(len(templates))[: count - len(made)]
        made += [filled(templates[number], slots, generator) for number in order]
    return made


def filled(template: str, slots: dict[str, list[str]], generator: np.random.Generator) -> str:
    """The template with its wordings chosen, then its slots filled, every value as likely as any other.

    KeyError for a slot that has no values.
    """

    def drawn(values: list[str]) -> str:
        return values[generator.integers(len(values))]

    worded = re.sub(r"\[([^]]+)\]", lambda found: drawn(found[1].split("|")), template)
    return re.sub(r"\{(\w+)\}", lambda found: drawn(slots[found[1]]), worded)
