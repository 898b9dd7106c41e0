"""The classifier spec: which texts are good and which are not, and how a model learns the difference.

A classifier is trained once, by `curate classifier train` or by the first `classify` step that needs it, and then scores
every document between 0 and 1. What is dropped at which score is said by the workflow's drop rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from curate.specs.load import Spec

Share = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[int, Meta(ge=1)]
Scalar = str | int | float | bool


class Examples(Spec, frozen=True, kw_only=True):
    """Texts of one label: exactly one of `jsonl` and `source`."""

    jsonl: str | list[str] | None = None  # files or globs, relative to the project; .gz is read as it is
    source: str | None = None  # a source of the run: its documents as they are at the classify step
    text: str = "text"  # for jsonl: the field that holds the text
    equals: dict[str, Scalar | list[Scalar]] = {}  # for jsonl: only lines where each of these fields has the value, or one of them
    where: str | None = None  # for source: a SQL condition over documents and annotations
    sample: Positive | None = None  # at most so many, chosen by a hash of the text

    def __post_init__(self) -> None:
        if (self.jsonl is None) == (self.source is None):
            raise ValueError("examples take exactly one of jsonl, source")
        if self.source is not None and self.equals:
            raise ValueError("equals belongs to jsonl\nhint: for a source, use where: with a SQL condition")
        if self.jsonl is not None and self.where is not None:
            raise ValueError("where belongs to source\nhint: for jsonl, use equals: {field: value}")


class Features(Spec, frozen=True, kw_only=True):
    """What the model sees of a text, and how large it is: (words + buckets) · dim · 4 bytes."""

    word_ngrams: Annotated[int, Meta(ge=1, le=5)] = 2  # runs of up to so many words count as features
    buckets: Annotated[int, Meta(ge=1, le=100_000_000)] = 200_000  # that hashed n-grams share
    dim: Annotated[int, Meta(ge=1, le=1024)] = 16  # length of a feature's vector
    min_count: Positive = 2  # words that are rarer in the training texts are known by their n-grams only


class Classifier(Spec, frozen=True, kw_only=True):
    """The top level of classifiers/NAME.yaml."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]  # also the name of the annotation that scores become
    positive: list[Examples]  # what a high score means
    negative: list[Examples]  # what a low score means
    description: str = ""  # one line, for the model card
    engine: Literal["fasttext", "logistic"] = "fasttext"  # logistic: TF-IDF of hashed n-grams, logistic regression
    features: Features = field(default_factory=Features)  # what the model sees
    epochs: Positive = 5  # passes over the training texts (fasttext); a few hundred texts want 20
    learning_rate: Annotated[float, Meta(gt=0)] = 0.5  # of the first step; falls linearly to zero (fasttext)
    regularization: Annotated[float, Meta(gt=0)] = 1.0  # inverse strength: larger fits closer (logistic)
    seed: Annotated[int, Meta(ge=0)] = 0  # of the order of texts and of the first vectors
    max_characters: Positive = 5000  # of each text, in training and in scoring; the rest is not read
    held_out: Share = 0.2  # share of the labeled texts that only evaluation sees, by a hash of the text
    calibrate_on: Share = 0.1  # share that only calibration sees
    calibration: Literal["platt", "isotonic", "none"] = "platt"  # isotonic: any monotone curve; wants 1,000 texts or more
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5  # at which the model card counts right and wrong

    def __post_init__(self) -> None:
        if not self.positive or not self.negative:
            raise ValueError("a classifier needs positive and negative examples")
        if self.held_out == 0:
            raise ValueError("held_out is 0: a classifier that nobody evaluated scores nothing\nhint: the default is 0.2")
        if self.held_out + self.calibrate_on >= 0.9:
            raise ValueError("held_out and calibrate_on leave less than a tenth of the texts to train on")
        if self.calibration != "none" and self.calibrate_on == 0:
            raise ValueError("calibration needs texts\nhint: set calibrate_on, or calibration: none")
