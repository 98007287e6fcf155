"""Naive Bayes on words and pairs of words: the baseline that a classifier of texts has to beat; by scikit-learn."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB


class NaiveBayes(NamedTuple):
    """alpha: what was added to every count. The classes are 0 and 1."""

    counter: CountVectorizer
    model: MultinomialNB
    alpha: float

    def log_odds(self, texts: Sequence[Sequence[str]]) -> Float[np.ndarray, "N"]:
        """ln P(1 | words) - ln P(0 | words) of texts of words; n-grams that training never had say nothing."""
        joint = self.model.predict_joint_log_proba(self.counter.transform(texts))
        return joint[:, 1] - joint[:, 0]

    def ratios(self, found: Sequence[str]) -> Float[np.ndarray, "G"]:
        """ln P(g | 1) - ln P(g | 0) of every gram that is asked for, 0 of one that training never had."""
        known = self.model.feature_log_prob_[1] - self.model.feature_log_prob_[0]
        places = np.array([self.counter.vocabulary_.get(gram, -1) for gram in found], np.int64)
        return np.where(places < 0, 0.0, known[places])

    def accuracy(self, texts: Sequence[Sequence[str]], labels: Integer[np.ndarray, "N"]) -> float:
        """The share of texts whose likelier class is their label."""
        return float(np.mean((self.log_odds(texts) > 0) == (labels == 1)))


def grams(words: Sequence[str]) -> list[str]:
    """Every word, then every two words that follow each other."""
    return [*words, *(f"{first} {second}" for first, second in itertools.pairwise(words))]


def fitted(texts: Sequence[Sequence[str]], labels: Integer[np.ndarray, "N"], alpha: float) -> NaiveBayes:
    """Multinomial naive Bayes on the counts of `grams` (McCallum & Nigam 1998, section 2.2): with n_c(g) of gram g in
    class c, P(g | c) = (n_c(g) + alpha) / (sum_g n_c(g) + alpha G), P(c) the class's share.

    labels: 0 and 1. Raises ValueError where one of them is missing.
    """
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError(f"naive Bayes: expected labels 0 and 1, got {np.unique(labels)}")
    counter = CountVectorizer(analyzer=grams)
    return NaiveBayes(counter, MultinomialNB(alpha=alpha).fit(counter.fit_transform(texts), labels), alpha)


def chosen(
    train: tuple[Sequence[Sequence[str]], Integer[np.ndarray, "N"]],
    validation: tuple[Sequence[Sequence[str]], Integer[np.ndarray, "M"]],
    alphas: Sequence[float],
) -> NaiveBayes:
    """Of the models that the alphas give on `train`, the one that is most often right on `validation`, the first of
    equal ones."""
    return max((fitted(*train, alpha) for alpha in alphas), key=lambda model: model.accuracy(*validation))
