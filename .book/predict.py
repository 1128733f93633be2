"""The answers to a Predict as buttons, for site and lectures, where the notebook's text tells which one is right."""

from helpers.quiz import html, predictions
from helpers.quiz.predictions import PREDICT

GROUP = ('<div class="predict" role="group" aria-label="Choose, then go on" hidden>{buttons}'
         '<p class="verdict" role="status" aria-live="polite"></p></div>')
BUTTON = '<button type="button" data-right="{right}">{choice}</button>'


def with_buttons(cells, path):
    """Put buttons below each Predict among `cells`, those of the notebook at `path`, that can be judged."""
    known = {prediction.cell: prediction for prediction in predictions(path) if prediction.right is not None}
    for cell in cells:
        if prediction := known.get(cell.get("id")):
            text = "".join(cell["source"])
            end = PREDICT.search(text).end()
            cell["source"] = f"{text[:end]}\n\n{buttons(prediction)}\n\n{text[end:].lstrip()}"


def buttons(prediction):
    """One line of HTML; hidden until the script that answers is there."""
    made = [BUTTON.format(right=str(place == prediction.right).lower(),
                          choice=html(choice).removeprefix("<p>").removesuffix("</p>"))
            for place, choice in enumerate(prediction.choices)]
    return GROUP.format(buttons="".join(made))
