"""Sentences that connect documentation into articles, questions and answers. Braces are filled by `pages`."""

from __future__ import annotations

OPENINGS = (
    "Most people meet {module} by accident, when something else that they use turns out to be built on it. That is a pity, because it "
    "rewards a closer look.",
    "A colleague asked me last week what {module} is good for, and my answer was longer than expected. Here it is, in writing and with examples.",
    "I keep a list of parts of the standard library that I look up again and again. {module} has been near the top of that list for years.",
    "There are many packages that promise to make this easier. Before you install one of them, see how far {module} takes you on its own.",
    "This is the next part of a series in which we read the documentation of one module slowly and think about what it really says. Today "
    "it is {module}.",
    "When a program grows, small decisions about basic tools begin to matter. One of those decisions is whether to use {module} or to write "
    "the same thing by hand.",
    "After a long debugging session I finally read the documentation of {module} from the beginning to the end. I should have done that first.",
    "If you have only ever copied a line that uses {module} from somewhere else, this article is for you. We will go through the parts that "
    "are worth knowing.",
    "The following notes come from a workshop that I gave for beginners. They cover {module}, and they assume no knowledge beyond the "
    "basics of the language.",
    "Every so often a question about {module} reaches me by mail. The questions are much alike, so I have collected the answers in one place.",
    "It is easy to forget how much is already on your machine when Python is installed. Let us look at {module} today, with some patience "
    "and a cup of tea.",
    "In this article I compare what I believed about {module} with what its documentation says. The two were further apart than I like to admit.",
)
TURNS = (
    "The part that I use most often is {name}. This is how its authors describe it, and it is worth reading twice.",
    "Next comes {name}, which looks simple at first sight. The details are where the surprises are.",
    "Let us turn to {name}. It solves a problem that you only notice once your program has been running for a while.",
    "Another piece that deserves attention is {name}, because it behaves differently from what many people expect.",
    "You will also need {name} sooner or later. The explanation is short, and every sentence of it matters.",
    "What about {name}? I avoided it for a long time, and that was a mistake.",
    "A good example of careful design is {name}. Notice how the description says what happens in the unusual cases, too.",
    "The documentation then moves on to {name}, and here it becomes more technical.",
    "Before going further we need {name}. Without it the rest would make little sense.",
    "One thing that reviewers often ask about is {name}, so here is the full story.",
    "There is also {name}, which is easy to overlook since few tutorials mention it.",
    "To see how the pieces fit together, consider {name} for a moment.",
)
COMMENTS = (
    "In other words, the common case is short and the rare case is possible, which is how it should be.",
    "I like that the behavior at the limits is spelled out, since those limits are where tests usually fail.",
    "It took me a while to understand why it works this way, but the alternative would be worse for almost everybody.",
    "Try it in an interactive session before you rely on it, and vary the arguments until nothing surprises you any more.",
    "If you take only one thing from this section, let it be that the order of the steps matters.",
    "This is also the place where older code tends to break when it is moved to a new version.",
    "The names could be better, but they have been stable for so long that nobody would dare to change them.",
    "For small inputs none of this makes a difference, and for large ones it decides whether the program finishes.",
    "Keep in mind that other threads may see the intermediate state unless you take care of it yourself.",
    "I have seen this used well in build tools, where being predictable is worth more than being fast.",
)
CLOSINGS = (
    "That is all for today. If you find a mistake, write to me, and I will correct the article and mention your name.",
    "There is more to say about {module}, but these parts will carry you a long way. The rest is best learned when you need it.",
    "Reading documentation slowly is a skill like any other, and {module} is a good place to practice it.",
    "I hope that this makes the next encounter with {module} a friendlier one. As always, the source itself has the last word.",
    "Write a small program that uses two of the functions above, break it on purpose, and read the error messages. You will remember them.",
    "In the next part we will look at what happens when things go wrong, and at what the error messages try to tell us.",
)
ASKED = (
    "Hello everyone, I am trying to use {name} from {module} in a small project and I do not understand what it does. Could somebody "
    "explain it in plain words? "
    "I have searched this forum and found only very old threads.",
    "I have inherited a program that calls {name} in several places, and I am afraid to touch it. The person who wrote it has left. "
    "What exactly does {module} promise here, and what should I look out for?",
    "Our teacher said that we should use {name} for the homework, but the example from class does not work for me. "
    "What is the right way to call it, and are there any alternatives in {module}?",
    "Sorry if this is a basic question. I expected {name} to do something else, and now I wonder whether this is a bug in {module} or "
    "whether I am using it wrongly.",
    "I am moving a script from another language to Python, and somebody pointed me to {name} in {module}. Before I rely on it I would like "
    "to know how it behaves in unusual cases.",
    "Can anyone recommend a good way to learn {module}? I have got as far as {name}, and then I was lost. Examples would be welcome.",
)
ANSWERED = (
    "The documentation is quite clear about this once you know where to look. Here is the relevant part, and I have added a remark below.",
    "I had the same problem last year. What helped me was to read the description again, word by word.",
    "This is not a bug. Have a look at what the authors say about it, and in particular at the last sentence.",
    "Welcome to the forum! You are closer than you think. This is what it is meant to do.",
    "To add to the answer above, there is a related function that may suit you better. It is described like this.",
    "As far as I know that has not changed for many versions. I am quoting from the installed documentation.",
)
THANKS = (
    "Thank you all, that was very helpful. I had misread the second sentence completely, and with the change that you suggested the program "
    "now runs as it should.",
    "Great, this solves it. I will mark the thread as answered and write a test, so that I do not fall into the same trap again.",
    "That makes sense now. I still find the name confusing, but at least I know what to expect and why it was built in this way.",
)
SOURCE = (
    "Reading the source of {module} is instructive, because its authors left long comments where the code is not obvious. I have collected "
    "some of them here.",
    "Documentation says what a module does, and comments say why. These are the comments in {module} that taught me something.",
    "The source of {module} is open on my second screen, and I am writing down what I find between the lines of code.",
)
BELOW = (
    "The lines that follow this comment look like this.",
    "Right below it stands the code in question.",
    "And this is how the idea is carried out.",
    "The code itself is short.",
)
EDITORIAL = (
    "This copy is provided for users with a slow connection.",
    "Please report broken links to the maintainers of the original page.",
    "Some images of the original have been left out.",
    "This version was checked by our volunteers.",
)
