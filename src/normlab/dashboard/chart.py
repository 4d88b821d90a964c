"""Results by learning rate: a chart in Vega-Lite, because no W&B panel colours runs by an option.

W&B stores such charts under an entity, and a panel says which columns of the runs fill its fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import wandb_workspaces.reports.v2 as wr

_X = {"field": "${field:rate}", "type": "quantitative", "scale": {"type": "log"}, "title": "learning rate"}
_Y = {"field": "${field:score}", "type": "quantitative", "scale": {"zero": False}, "title": "${string:score}"}
SPEC: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "data": {"name": "wandb"},
    "title": "${string:title}",
    "transform": [
        {"filter": "isValid(datum['${field:score}']) && datum['${field:rate}'] > 0"},
        {"calculate": "datum['${field:model}'] + ' on ' + datum['${field:task}']", "as": "network"},
    ],
    "encoding": {
        "x": _X,
        "color": {"field": "${field:norm}", "type": "nominal", "title": "norm"},
    },
    "layer": [
        {
            "mark": {"type": "point", "filled": True, "opacity": 0.6},
            "encoding": {
                "y": _Y,
                "shape": {"field": "network", "type": "nominal"},
                "tooltip": [
                    {"field": "name", "type": "nominal", "title": "run"},
                    {"field": "${field:norm}", "type": "nominal", "title": "norm"},
                    {"field": "network", "type": "nominal"},
                    {"field": "${field:rate}", "type": "quantitative", "title": "learning rate", "format": ".3~g"},
                    {"field": "${field:score}", "type": "quantitative", "title": "${string:score}", "format": ".4f"},
                ],
            },
        },
        {
            "mark": {"type": "line"},
            "encoding": {"y": {**_Y, "aggregate": "mean"}, "strokeDash": {"field": "network", "type": "nominal"}},
        },
    ],
}
NAME = f"normlab-learning-rate-{hashlib.sha256(json.dumps(SPEC).encode()).hexdigest()[:8]}"


def keep(api: Any, entity: str) -> str | None:
    """Store the chart in W&B; returns its name, or None if W&B can't store it."""
    try:
        name: str = api.create_custom_chart(
            entity=entity,
            name=NAME,
            display_name="normlab: results by learning rate",
            spec_type="vega2",
            access="private",
            spec=SPEC,
        )
        return name
    except Exception as error:  # W&B's client raises errors of many kinds
        return name_for(entity) if "exist" in str(error) else None


def name_for(entity: str) -> str:
    """The name by which a panel refers to the chart."""
    return f"{entity}/{NAME}"


def by_learning_rate(chart: str, metric: str) -> wr.CustomChart:
    """One point per run, and each norm's mean at each rate; a metric's summary is its best value on validation."""
    options = {"rate": "lr", "norm": "norm", "model": "model", "task": "task"}
    return wr.CustomChart(
        query={"config": {"keys": list(options.values())}, "summary": {"keys": [metric]}},
        chart_name=chart,
        chart_fields={**options, "score": metric},
        chart_strings={"title": f"{metric} by learning rate: one point per run, lines are means", "score": metric},
    )
