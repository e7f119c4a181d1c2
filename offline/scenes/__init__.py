"""Generated street scenes with frame-exact annotations.

`render(draw_spec(seed, kind))` plays a scene in memory with its ground truth; `generate(folder, seed=…)` writes a
labelled set of clips. Deterministic: the same seed gives the same pixels and the same bytes.
"""

from offline.scenes.dataset import Clip, SceneSet, SplitSize, generate, make_clip, plan
from offline.scenes.render import Scene, render
from offline.scenes.sheet import contact_sheet
from offline.scenes.spec import (
    ABNORMAL_ACTIONS,
    ACTS,
    DISTURBANCES,
    FOOTAGE,
    KIND_ACTIONS,
    KIND_LAYOUTS,
    KINDS,
    LAYOUTS,
    TIMES,
    WEATHERS,
    SceneSpec,
    draw_spec,
)
from offline.scenes.truth import (
    Conditions,
    RenderedFrame,
    SceneFacts,
    SceneObject,
    TrackFacts,
    describe,
    event_ranges,
)
from offline.scenes.video import Encoding, FootageLoop, write_mp4

__all__ = [
    "ABNORMAL_ACTIONS",
    "ACTS",
    "DISTURBANCES",
    "FOOTAGE",
    "KINDS",
    "KIND_ACTIONS",
    "KIND_LAYOUTS",
    "LAYOUTS",
    "TIMES",
    "WEATHERS",
    "Clip",
    "Conditions",
    "Encoding",
    "FootageLoop",
    "RenderedFrame",
    "Scene",
    "SceneFacts",
    "SceneObject",
    "SceneSet",
    "SceneSpec",
    "SplitSize",
    "TrackFacts",
    "contact_sheet",
    "describe",
    "draw_spec",
    "event_ranges",
    "generate",
    "make_clip",
    "plan",
    "render",
    "write_mp4",
]
