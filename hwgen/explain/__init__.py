"""Why accuracy dropped: what each layer's rounding does to the outputs, where its range goes, and what would help, all measured."""

from hwgen.explain.explain import Explanation, explain, require_explainable
from hwgen.explain.html import render_explanation
from hwgen.explain.report import explanation_json
from hwgen.explain.request import ExplainRequest, explain_model

__all__ = ["ExplainRequest", "Explanation", "explain", "explain_model", "explanation_json", "render_explanation", "require_explainable"]
