"""The editing experiment with a transformer on weights."""

from ml_collections import ConfigDict

from common.experiment import Experiment
from nfn.tasks import sirens
from nfn.tasks.editing import edit_sirens, residual_editor
from nfn.transformer_stack import TransformerSpec, attention_trunk


def editing(config: ConfigDict) -> Experiment:
    """Changes the weights of SIRENs by U + gamma NFT(U) so that they show the edited image."""
    spec = sirens.siren_set_spec(config.data)
    sizes = TransformerSpec(**config.model.to_dict(), linear_output=1)
    body = attention_trunk(sirens.siren_space(spec), sizes)
    return edit_sirens(config, residual_editor(body, omega=spec.omega, **config.editor.to_dict()))
