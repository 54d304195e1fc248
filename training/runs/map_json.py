"""A ponder map as JSON values."""

import json
from typing import Any

from halting.maps.ponder_map import PonderMap
from training.runs.metrics import to_json


def map_json(ponder_map: PonderMap) -> dict[str, Any]:
    """The whole map as JSON values: its summary, and for each sequence a list of tokens."""
    sequences = []
    for row in range(ponder_map.num_sequences):
        one = ponder_map.sequence(row)
        tokens = []
        for place, text in enumerate(one.texts[0]):
            token = {
                "text": text,
                "steps": int(one.steps[0, place]),
                "ponder": float(one.ponder[0, place]),
                "mass": one.mass[0, place].astype(float).tolist(),
            }
            if one.difficulty is not None:
                token["difficulty"] = float(one.difficulty[0, place])
            if one.final_prediction is not None:
                token["answer"] = one.answer_text(int(one.final_prediction[0, place]))
            if one.targets is not None and one.has_target[0, place]:
                token["target"] = one.answer_text(int(one.targets[0, place]))
                token["correct"] = bool(one.correct[0, place])
            if one.predictions is not None:
                token["had_it_stopped"] = [
                    one.answer_text(int(index)) for index in one.predictions[0, place]
                ]
            if one.target_probability is not None:
                token["target_probability"] = (
                    one.target_probability[0, place].astype(float).tolist()
                )
            tokens.append(token)
        sequences.append(tokens)
    return json.loads(
        to_json(
            {
                "metadata": map_metadata(ponder_map),
                "summary": ponder_map.summary(),
                "sequences": sequences,
            }
        )
    )


def map_metadata(ponder_map: PonderMap) -> dict[str, Any]:
    """What a map says of its run; not the words of the answers, which each token has already."""
    return {key: value for key, value in ponder_map.metadata.items() if key != "answers"}
