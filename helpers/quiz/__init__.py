"""The exercises and Predicts of the notebooks as questions of a quiz: for Moodle, and for whatever reads QTI 2.1."""

from helpers.quiz.formats import html, moodle, qti
from helpers.quiz.predictions import Prediction, predictions
from helpers.quiz.questions import Question, bank

__all__ = ["Prediction", "Question", "bank", "html", "moodle", "predictions", "qti"]
